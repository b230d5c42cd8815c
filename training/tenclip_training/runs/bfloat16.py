"""bfloat16 on a processor, without the convolutions whose gradients are wrong there.

oneDNN 3.12, as torch 2.13.0 has it, computes bfloat16 weight gradients wrongly where no window of a convolution lies
wholly inside its map: at 2 frames under a kernel of 3 with padding 1, as in the last stage of R(2+1)D at 16 frames, its
gradient holds what the memory held before, and it writes beyond its buffer. `make soak ARGS=bfloat16` compares all
others with float64. Maps of these few are small, so that float32 costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
        if func not in _CONVOLUTIONS or _in_full(*args, **kwargs):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return _exact(func, *args, **kwargs)


def _exact(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes | str = 0,
    dilation: _Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """The convolution in float32, over a map that holds its padding: oneDNN's own fails in float32 too, where a kernel
    of 7 with stride 2 and padding 3 meets 5 or 7 frames.
    """
    clips = input.float()
    if not isinstance(padding, str):
        sides = [side for amount in reversed(_for_each(padding, weight.dim() - 2)) for side in (amount, amount)]
        clips, padding = torch.nn.functional.pad(clips, sides), 0
    return func(clips, weight.float(), None if bias is None else bias.float(), stride, padding, dilation, groups)


def _in_full(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes | str = 0,
    dilation: _Sizes = 1,
    groups: int = 1,
) -> bool:
    """Of torch's arguments of a convolution. Padding by name is not looked into and counts as too small."""
    if isinstance(padding, str):
        return False
    maps, kernel = input.shape[2:], weight.shape[2:]
    each = (maps, kernel, *(_for_each(value, len(kernel)) for value in (stride, padding, dilation)))
    return all(has_inner_window(*sizes) for sizes in zip(*each, strict=True))


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
