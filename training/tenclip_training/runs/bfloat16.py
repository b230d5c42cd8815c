"""bfloat16 on a processor, without the convolutions whose gradients are wrong there.

oneDNN 3.12, as torch 2.13.0 has it, computes bfloat16 weight gradients wrongly where no window of a convolution lies
wholly inside its map: at 2 frames under a kernel of 3 with padding 1, as in the last stage of R(2+1)D at 16 frames, its
gradient holds what the memory held before, and it writes beyond its buffer. `make soak ARGS=bfloat16` compares all
others with float64. Maps of these few are small, so that float32 costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = frozenset({torch.conv1d, torch.conv2d, torch.conv3d})
_Sizes = int | Sequence[int]


class SmallMapsInFloat32(TorchFunctionMode):
    """Inside an autocast of a processor: convolutions over maps too small for bfloat16 leave it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _CONVOLUTIONS or (asked := _Convolution(*args, **kwargs)).has_inner_windows:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return asked.in_float32(func)


class _Convolution(NamedTuple):
    """One that is asked for, with torch's names and defaults of its arguments."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: _Sizes = 1
    padding: _Sizes | str = 0
    dilation: _Sizes = 1
    groups: int = 1

    @property
    def has_inner_windows(self) -> bool:
        """See `has_inner_window`, along every dimension. Padding by name is not looked into and counts as too much."""
        if isinstance(self.padding, str):
            return False
        maps, kernel = self.input.shape[2:], self.weight.shape[2:]
        sizes = (_for_each(value, len(kernel)) for value in (self.stride, self.padding, self.dilation))
        return all(has_inner_window(*each) for each in zip(maps, kernel, *sizes, strict=True))

    def in_float32(self, func: Callable[..., Tensor]) -> Tensor:
        """Over a map that holds its padding: oneDNN's own fails in float32 too, where a kernel of 7 with stride 2 and
        padding 3 meets 5 or 7 frames.
        """
        clips, padding = self.input.float(), self.padding
        if not isinstance(padding, str):
            each = _for_each(padding, self.weight.dim() - 2)
            clips = torch.nn.functional.pad(clips, [side for amount in reversed(each) for side in (amount, amount)])
            padding = 0
        bias = None if self.bias is None else self.bias.float()
        return func(clips, self.weight.float(), bias, self.stride, padding, self.dilation, self.groups)


def _for_each(value: _Sizes, dimensions: int) -> Sequence[int]:
    if isinstance(value, int):
        return [value] * dimensions
    return value if len(value) == dimensions else list(value) * dimensions


def has_inner_window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> bool:
    """Whether a window of a convolution reads no padding, along one dimension: the first that starts inside the map
    also ends inside.
    """
    start = -(-padding // stride) * stride - padding
    return start + (kernel - 1) * dilation + 1 <= size
