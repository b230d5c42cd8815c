"""3D residual networks: the one skeleton that all residual families are cut from.

Modules are named as in torchvision and VMZ (`stem`, `layer1..4`, `conv1.0`, `downsample.0`, `fc`).

    stem       [B,3,T,H,W] -> [B,width,T,H/2,W/2]
    layer1..4  -> [B,8*width,T/8,H/16,W/16], times 4 where blocks are bottlenecks

(sizes for the strides of R(2+1)D; every side is rounded up). A frame model is the same network with kernels that do not
look over time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tenclip_training.models.blocks import Conv2Plus1d, conv, init_weights, mid_planes, set_batch_norm
from tenclip_training.models.video_model import Head, VideoModel, pool_size

STAGES: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
EXPANSION = 4  # of a bottleneck

Stride = tuple[int, int]  # (time, space)
STRIDES: tuple[Stride, ...] = ((1, 1), (2, 2), (2, 2), (2, 2))
SPATIAL_STRIDES: tuple[Stride, ...] = ((1, 1), (1, 2), (1, 2), (1, 2))

# (in_planes, planes, stride, in_planes of the block) -> the convolution that looks over space and time
ConvBuilder = Callable[[int, int, Stride, int], nn.Module]
# (in_planes, planes, stride) -> the shortcut of a block that changes shape
ShortcutBuilder = Callable[[int, int, Stride], nn.Module]
Shortcut = Literal["A", "B"]


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(
        self, in_planes: int, planes: int, stride: Stride, build: ConvBuilder, shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        first, second = build(in_planes, planes, stride, in_planes), build(planes, planes, (1, 1), in_planes)
        self.conv1 = nn.Sequential(first, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(second, nn.BatchNorm3d(planes))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv2(self.conv1(x)) + residual)
        return out


class Bottleneck(nn.Module):
    """Down to `planes`, the convolution over space and time with the stride, 1x1x1 up to 4 * `planes`.

    The first is 1x1x1, or `reduce_time` x1x1 where a family looks over time there (SlowOnly).
    """

    def __init__(
        self,
        in_planes: int,
        planes: int,
        stride: Stride,
        build: ConvBuilder,
        shortcut: nn.Module | None,
        *,
        reduce_time: int = 1,
    ) -> None:
        super().__init__()
        out_planes = EXPANSION * planes
        reduce, middle = conv(in_planes, planes, (reduce_time, 1)), build(planes, planes, stride, in_planes)
        self.conv1 = nn.Sequential(reduce, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(middle, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv3 = nn.Sequential(conv(planes, out_planes, (1, 1)), nn.BatchNorm3d(out_planes))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv3(self.conv2(self.conv1(x))) + residual)
        return out


class VideoResNet(VideoModel):
    """Stem, four layers of residual blocks, head."""

    def __init__(
        self,
        *,
        num_classes: int,
        stem: nn.Sequential,
        stem_strides: Stride,
        builds: Sequence[ConvBuilder],
        stages: Sequence[int],
        width: int,
        bottleneck: bool,
        num_frames: int,
        crop: int,
        head: Head,
        bn_eps: float,
        strides: Sequence[Stride] = STRIDES,
        shortcut: ShortcutBuilder | None = None,
        reduce_times: Sequence[int] = (1, 1, 1, 1),
        hidden: int | None = None,
        zero_gamma: bool = False,
    ) -> None:
        """`builds`, `stages`, `strides` and `reduce_times` have one entry for each of the four layers.

        `hidden`: size of a linear layer, with BN and ReLU, before the classifier.
        """
        total = [math.prod(axis) for axis in zip(stem_strides, *strides, strict=True)]
        super().__init__(
            pool_size=pool_size(head, num_frames=num_frames, crop=crop, strides=(total[0], total[1])),
        )
        self.stem = stem
        in_planes = width
        layers = zip(builds, stages, strides, reduce_times, strict=True)
        for i, (build, blocks, stride, reduce_time) in enumerate(layers):
            planes = width * 2**i
            layer, in_planes = _layer(
                in_planes, planes, blocks, stride, build, shortcut or shortcut_b, bottleneck, reduce_time
            )
            self.add_module(f"layer{i + 1}", layer)
        self.hidden = (
            None if hidden is None else nn.Sequential(nn.Linear(in_planes, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
        )
        self.fc = nn.Linear(hidden or in_planes, num_classes)
        init_weights(self)
        set_batch_norm(self, eps=bn_eps)
        if zero_gamma:
            zero_init_gamma(self)

    def feature_map(self, clips: Tensor) -> Tensor:
        x: Tensor = self.stem(clips)
        for i in range(4):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return x

    def project(self, pooled: Tensor) -> Tensor:
        if self.hidden is None:
            return pooled
        batch, positions, planes = pooled.shape
        projected: Tensor = self.hidden(pooled.reshape(-1, planes))  # BatchNorm1d takes [B*P,C]
        return projected.reshape(batch, positions, -1)


def _layer(
    in_planes: int,
    planes: int,
    blocks: int,
    stride: Stride,
    build: ConvBuilder,
    shortcut: ShortcutBuilder,
    bottleneck: bool,
    reduce_time: int,
) -> tuple[nn.Sequential, int]:
    out_planes = planes * (EXPANSION if bottleneck else 1)
    modules: list[nn.Module] = []
    for _ in range(blocks):
        changes_shape = stride != (1, 1) or in_planes != out_planes
        side = shortcut(in_planes, out_planes, stride) if changes_shape else None
        modules.append(
            Bottleneck(in_planes, planes, stride, build, side, reduce_time=reduce_time)
            if bottleneck
            else BasicBlock(in_planes, planes, stride, build, side)
        )
        in_planes, stride = out_planes, (1, 1)
    return nn.Sequential(*modules), in_planes


def stages_of(depth: int, stages: Sequence[int] | None, bottleneck: bool | None) -> tuple[tuple[int, ...], bool]:
    """(blocks in each layer, whether they are bottlenecks): those given, or those of the depth."""
    if depth not in STAGES and (stages is None or bottleneck is None):
        raise ValueError(f"depth must be one of {', '.join(map(str, STAGES))}, got {depth}")
    blocks = STAGES[depth] if stages is None else tuple(stages)
    if len(blocks) != 4 or min(blocks) < 1:
        raise ValueError(f"stages must be 4 numbers of blocks, each at least 1, got {blocks}")
    return blocks, depth >= 50 if bottleneck is None else bottleneck


def zero_init_gamma(model: nn.Module) -> None:
    """Starts every residual branch at zero: its last batch norm's gamma (Goyal et al. 2017, section 5.1)."""
    for part in model.modules():
        if isinstance(part, BasicBlock | Bottleneck):
            norm = (part.conv3 if isinstance(part, Bottleneck) else part.conv2)[1]
            assert isinstance(norm, nn.BatchNorm3d)
            nn.init.zeros_(norm.weight)


# Stems: convolution(s) with BN and ReLU, and spatial stride 2, then perhaps a max pool.


def stem_pool_over(time: int) -> nn.MaxPool3d:
    """Max pool (1,3,3) with stride (1,2,2), or 3x3x3 with stride 2 for `time` 3. Each side becomes ceil(side / 2)."""
    return nn.MaxPool3d((time, 3, 3), (2 if time == 3 else 1, 2, 2), (time // 2, 1, 1))


def stem_3d(width: int, *, time: int, pool: nn.Module | None = None) -> nn.Sequential:
    """One convolution of `time`x7x7."""
    layers = [conv(3, width, (time, 7), (1, 2)), nn.BatchNorm3d(width), nn.ReLU(inplace=True)]
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
    """As `shortcut_b`, itself split in two: MMAction2 puts the (2+1)D pair here too, with kernels of 1."""
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
