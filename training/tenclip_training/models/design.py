"""`Design`: what a residual family puts into the skeleton of `resnet`, and the sizes that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from tenclip_training.models.parts import STRIDES, ConvBuilder, ShortcutBuilder, Stride


@dataclass(frozen=True, kw_only=True)
class Design:
    """One family's choices within the residual skeleton. Sequences have an entry for each of the four layers.

    `stem_strides` and `strides` are (time, space). `builds` make the convolution over space and time of each block;
    one builder serves all layers. `reduce_times` is the kernel in time of a bottleneck's first convolution: one number
    a layer, or one number a block. Where `pool_frames` is above 1, a max pool over so many frames stands between layer1
    and layer2. `stem_pool_padded`: whether the stem's pool is. `inner_bn_eps` is the epsilon of the batch norms between
    the halves of (2+1)D pairs; None: as everywhere.
    """

    stem: nn.Sequential
    stem_strides: Stride
    builds: ConvBuilder | Sequence[ConvBuilder]
    strides: Sequence[Stride] = STRIDES
    shortcut: ShortcutBuilder | None = None
    reduce_times: Sequence[int | Sequence[int]] = (1, 1, 1, 1)
    pool_frames: int = 1
    stem_pool_padded: bool = True
    inner_bn_eps: float | None = None

    def map_size(self, num_frames: int, crop: int) -> tuple[int, int, int]:
        """(time, height, width) of the final map. A padded layer makes ceil(n / stride) of n, a pool without padding
        drops what does not fill its kernel. Raises ValueError for clips smaller than `smallest_clip`."""
        check_clip_size(num_frames, crop, self.smallest_clip)
        time, space = _ceil_div(num_frames, self.stem_strides[0]), _ceil_div(crop, self.stem_strides[1])
        if not self.stem_pool_padded:
            space = (_ceil_div(crop, 2) - 1) // 2  # a kernel of 3 with stride 2
        for i, stride in enumerate(self.strides):
            time, space = _ceil_div(time, stride[0]), _ceil_div(space, stride[1])
            time //= self.pool_frames if i == 0 else 1
        return time, space, space

    @property
    def smallest_clip(self) -> tuple[int, int]:
        """(frames, pixels of the shorter side) of the smallest clip that fills the kernels of pools without padding."""
        frames = (self.pool_frames - 1) * self.stem_strides[0] * self.strides[0][0] + 1
        return frames, 1 if self.stem_pool_padded else 5


def check_clip_size(num_frames: int, side: int, smallest: tuple[int, int]) -> None:
    """Raises ValueError for clips of fewer frames, or a shorter side in pixels, than `smallest`."""
    if num_frames < smallest[0] or side < smallest[1]:
        raise ValueError(
            f"clips of {num_frames} frames of {side} pixels are too small for this network: it needs at least "
            f"{smallest[0]} frames of {smallest[1]} pixels"
        )


def _ceil_div(size: int, stride: int) -> int:
    return -(-size // stride)
