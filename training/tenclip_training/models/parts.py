"""Parts of residual networks: stems, convolutions of a block and shortcuts, by family.

Strides are (time, space).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from tenclip_training.models.blocks import Conv2Plus1d, conv, mid_planes

Stride = tuple[int, int]  # (time, space)
STRIDES: tuple[Stride, ...] = ((1, 1), (2, 2), (2, 2), (2, 2))
SPATIAL_STRIDES: tuple[Stride, ...] = ((1, 1), (1, 2), (1, 2), (1, 2))

# (in_planes, planes, stride, in_planes of the block) -> the convolution that looks over space and time
ConvBuilder = Callable[[int, int, Stride, int], nn.Module]
# (in_planes, planes, stride) -> the shortcut of a block that changes shape
ShortcutBuilder = Callable[[int, int, Stride], nn.Module]
Shortcut = Literal["A", "B"]


# Stems: convolution(s) with BN and ReLU, and spatial stride 2, then perhaps a max pool.


def stem_pool_over(time: int) -> nn.MaxPool3d:
    """Max pool (1,3,3) with stride (1,2,2), or 3x3x3 with stride 2 for `time` 3. Each side becomes ceil(side / 2)."""
    return nn.MaxPool3d((time, 3, 3), (2 if time == 3 else 1, 2, 2), (time // 2, 1, 1))


def stem_3d(width: int, *, time: int, space: int = 7, stride: int = 1, pool: nn.Module | None = None) -> nn.Sequential:
    """One convolution of `time` x `space` x `space`, with `stride` in time. Raises ValueError for an even size."""
    if min(time, space) < 1 or not time % 2 or not space % 2:
        raise ValueError(f"sizes of a stem must be odd numbers, got {time} frames and {space} pixels")
    layers = [conv(3, width, (time, space), (stride, 2)), nn.BatchNorm3d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([] if pool is None else [pool]))


def stem_2plus1d(width: int, *, mid: int, time: int = 3, pool: nn.Module | None = None) -> nn.Sequential:
    """(1,7,7), BN, ReLU, (`time`,1,1), BN, ReLU."""
    pair = Conv2Plus1d(3, width, mid, (1, 2), space=7, time=time)
    layers = [*pair, nn.BatchNorm3d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([] if pool is None else [pool]))


# Convolutions of a block.


def build_2plus1d(in_planes: int, planes: int, stride: Stride, block_in_planes: int) -> nn.Module:
    """(2+1)D, its middle planes computed for this convolution (VMZ, 3D-ResNets)."""
    return Conv2Plus1d(in_planes, planes, mid_planes(in_planes, planes), stride)


def build_2plus1d_per_block(in_planes: int, planes: int, stride: Stride, block_in_planes: int) -> nn.Module:
    """(2+1)D whose middle planes are those of the block's first convolution (torchvision)."""
    return Conv2Plus1d(in_planes, planes, mid_planes(block_in_planes, planes), stride)


def build_1plus2d(in_planes: int, planes: int, stride: Stride, block_in_planes: int) -> nn.Module:
    """Time before space, as many planes between them as behind (pytorchvideo)."""
    return Conv2Plus1d(in_planes, planes, planes, stride, time_first=True)


def build_3d(in_planes: int, planes: int, stride: Stride, block_in_planes: int) -> nn.Module:
    """3x3x3."""
    return conv(in_planes, planes, (3, 3), stride)


def build_2d(in_planes: int, planes: int, stride: Stride, block_in_planes: int) -> nn.Module:
    """1x3x3, and no stride in time."""
    return conv(in_planes, planes, (1, 3), (1, stride[1]))


def build_depthwise(in_planes: int, planes: int, stride: Stride, block_in_planes: int) -> nn.Module:
    """3x3x3 for each channel by itself (ir-CSN)."""
    return conv(in_planes, planes, (3, 3), stride, groups=planes)


def build_ip(in_planes: int, planes: int, stride: Stride, block_in_planes: int) -> nn.Module:
    """1x1x1, BN, then depthwise 3x3x3 (ip-CSN). No ReLU between them: one there moves the logits by 0.6 relative."""
    return nn.Sequential(
        conv(in_planes, planes, (1, 1)), nn.BatchNorm3d(planes), conv(planes, planes, (3, 3), stride, groups=planes)
    )


# Shortcuts of blocks that change shape.


def shortcut_b(in_planes: int, planes: int, stride: Stride) -> nn.Module:
    """A strided 1x1x1 convolution and BN (He et al. 2016, option B)."""
    return nn.Sequential(conv(in_planes, planes, (1, 1), stride), nn.BatchNorm3d(planes))


def shortcut_2plus1d(in_planes: int, planes: int, stride: Stride) -> nn.Module:
    """`shortcut_b` split in two: MMAction2 puts the (2+1)D pair here too, with kernels of 1."""
    mid = max(1, 3 * in_planes * planes // (in_planes + 3 * planes))
    return nn.Sequential(Conv2Plus1d(in_planes, planes, mid, stride, space=1, time=1), nn.BatchNorm3d(planes))


class ShortcutA(nn.Module):
    """Strided identity, with zeros for the new channels (He et al. 2016, option A). It has no weights."""

    def __init__(self, in_planes: int, planes: int, stride: Stride) -> None:
        super().__init__()
        self.new_planes, self.stride = planes - in_planes, stride

    def forward(self, x: Tensor) -> Tensor:
        st, ss = self.stride
        return F.pad(x[:, :, ::st, ::ss, ::ss], (0, 0, 0, 0, 0, 0, 0, self.new_planes))


def shortcut_named(name: Shortcut) -> ShortcutBuilder:
    """The shortcut that a config value names. Raises ValueError for another name."""
    if name not in get_args(Shortcut):
        raise ValueError(f"shortcut must be one of {get_args(Shortcut)}, got {name!r}")
    return ShortcutA if name == "A" else shortcut_b
