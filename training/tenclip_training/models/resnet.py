"""3D residual networks. Modules are named as in torchvision and VMZ, so their keys are ours.

    stem       [B,3,T,H,W] -> [B,width,T,H/2,W/2]
    layer1..4  -> [B,8*width,T/8,H/16,W/16], times 4 where blocks are bottlenecks

(sizes for the stride pattern of R(2+1)D; every side is rounded up).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tenclip_training.models.blocks import conv, conv_2plus1d, init_weights, mid_planes, set_batch_norm
from tenclip_training.models.registry import register_architecture
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

Stride = tuple[int, int]
# (in_planes, planes, stride) -> the convolution that looks over space and time
ConvBuilder = Callable[[int, int, Stride], nn.Module]


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, in_planes: int, planes: int, stride: Stride, build: ConvBuilder, shortcut: nn.Module | None):
        super().__init__()
        self.conv1 = nn.Sequential(build(in_planes, planes, stride), nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(build(planes, planes, (1, 1)), nn.BatchNorm3d(planes))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv2(self.conv1(x)) + residual)
        return out


class Bottleneck(nn.Module):
    """1x1x1 down to `planes`, the convolution over space and time with the stride, 1x1x1 up to 4 * `planes`."""

    def __init__(self, in_planes: int, planes: int, stride: Stride, build: ConvBuilder, shortcut: nn.Module | None):
        super().__init__()
        out_planes = EXPANSION * planes
        self.conv1 = nn.Sequential(conv(in_planes, planes, (1, 1)), nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(build(planes, planes, stride), nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
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
        build: ConvBuilder,
        stages: Sequence[int],
        width: int,
        bottleneck: bool,
        strides: Sequence[Stride],
        pool_size: tuple[int, int, int] | None,
    ) -> None:
        super().__init__(pool_size=pool_size)
        self.stem = stem
        in_planes = width
        for i, (blocks, stride) in enumerate(zip(stages, strides, strict=True)):
            planes = width * 2**i
            layer, in_planes = _layer(in_planes, planes, blocks, stride, build, bottleneck)
            self.add_module(f"layer{i + 1}", layer)
        self.fc = nn.Linear(in_planes, num_classes)

    def feature_map(self, clips: Tensor) -> Tensor:
        x = self.stem(clips)
        for i in range(4):
            x = self.get_submodule(f"layer{i + 1}")(x)
        out: Tensor = x
        return out


def _layer(
    in_planes: int, planes: int, blocks: int, stride: Stride, build: ConvBuilder, bottleneck: bool
) -> tuple[nn.Sequential, int]:
    block = Bottleneck if bottleneck else BasicBlock
    out_planes = planes * (EXPANSION if bottleneck else 1)
    modules: list[nn.Module] = []
    for _ in range(blocks):
        projects = stride != (1, 1) or in_planes != out_planes
        shortcut = (
            nn.Sequential(conv(in_planes, out_planes, (1, 1), stride), nn.BatchNorm3d(out_planes)) if projects else None
        )
        modules.append(block(in_planes, planes, stride, build, shortcut))
        in_planes, stride = out_planes, (1, 1)
    return nn.Sequential(*modules), in_planes


def stem_2plus1d(width: int, *, pool: bool) -> nn.Sequential:
    """(1,7,7) with spatial stride 2, BN, ReLU, (3,1,1), BN, ReLU; 45 planes between them at width 64 (VMZ)."""
    layers = [
        *conv_2plus1d(3, width, max(1, round(45 * width / 64)), (1, 2), space=7, time=3),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))] if pool else []))


def zero_init_gamma(model: nn.Module) -> None:
    """Starts every residual branch at zero: its last batch norm's gamma (Goyal et al. 2017, section 5.1)."""
    for part in model.modules():
        if isinstance(part, BasicBlock | Bottleneck):
            norm = (part.conv3 if isinstance(part, Bottleneck) else part.conv2)[1]
            assert isinstance(norm, nn.BatchNorm3d)
            nn.init.zeros_(norm.weight)


@register_architecture("r2plus1d_10", family="vmz", depth=10)
@register_architecture("r2plus1d_18", family="vmz", depth=18, parameters=33_370_839, gmacs=83)
@register_architecture("r2plus1d_34", family="vmz", depth=34, parameters=63_697_175, gmacs=152)
@register_architecture("r2plus1d_50", family="vmz", depth=50)
@register_architecture("r2plus1d_101", family="vmz", depth=101, parameters=86_050_785, gmacs=176)
@register_architecture("r2plus1d_152", family="vmz", depth=152, parameters=118_226_785, gmacs=252)
def r2plus1d(
    *,
    num_classes: int,
    depth: int = 18,
    width: int = 64,
    num_frames: int = 8,
    crop: int = 112,
    head: Head = "fixed",
    stages: Sequence[int] | None = None,
    bottleneck: bool | None = None,
    stem_pool: bool = False,
    bn_eps: float = 1e-3,
    zero_gamma: bool = False,
) -> VideoModel:
    """R(2+1)D as in VMZ and IG-65M: the planes between the two halves are computed anew for each convolution.

    `width` is the planes of layer1. `stages` (blocks in each layer) and `bottleneck` follow from `depth` unless given.
    VMZ's own code pools in the stem of its 152-layer network by default; the paper's FLOPs say that it was trained
    without, hence `stem_pool` False.
    """
    model = VideoResNet(
        num_classes=num_classes,
        stem=stem_2plus1d(width, pool=stem_pool),
        build=lambda i, o, stride: conv_2plus1d(i, o, mid_planes(i, o), stride),
        stages=stages or STAGES[depth],
        width=width,
        bottleneck=depth >= 50 if bottleneck is None else bottleneck,
        strides=((1, 1), (2, 2), (2, 2), (2, 2)),
        pool_size=pool_size(head, num_frames=num_frames, crop=crop, strides=(8, 32 if stem_pool else 16)),
    )
    init_weights(model)
    set_batch_norm(model, eps=bn_eps)
    if zero_gamma:
        zero_init_gamma(model)
    return model
