"""bfloat16 on a processor, without the convolutions whose gradients are wrong there.

oneDNN 3.12, as torch 2.13.0 has it, computes bfloat16 weight gradients wrongly where no window of a convolution lies
wholly inside its map: at 2 frames under a kernel of 3 with padding 1, as in the last stage of R(2+1)D at 16 frames, its
gradient holds what the memory held before, and it writes beyond its buffer. Of 10,482 convolutions of 3D kernels of 1
to 7, strides 1 and 2, maps of 1 to 9 and 3 to 32 channels, no other was wrong. Such maps are small: float32 costs a
tenth of a step of R3D-10 at 8 x 56 x 56.
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
            exact: tuple[Any, ...] = tuple(value.float() if isinstance(value, Tensor) else value for value in args)
            return func(*exact, **kwargs)


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
