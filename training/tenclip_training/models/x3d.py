"""X3D: an inverted-bottleneck network that was widened step by step (Feichtenhofer 2020, arXiv:2004.04730).

stem      [B,3,T,H,W] -> [B,width,T,H/2,W/2]
layer1..4 -> [B,8*width,T,H/32,W/32]
last      -> [B,18*width,T,H/32,W/32], pooled, then a linear layer to 2048 and the classifier
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from tenclip_training.models.blocks import conv, init_weights, set_batch_norm
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.video_model import Head, PoolSize, VideoModel, classifier, pool_size

BLOCKS = (1, 2, 5, 3)  # in each layer, before `depth_factor`
SQUEEZE = 1 / 16  # planes of a squeeze-and-excite block, of those that it weights


def round_width(width: float, *, divisor: int = 8) -> int:
    """The nearest multiple of 8, not more than 10% below.

    >>> round_width(54 / 16), round_width(432 / 16)
    (8, 32)
    """
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


def squeeze_excite(planes: int) -> nn.Sequential:
    """From the means of all channels [B,C,1,1,1] to a weight in 0-1 for each (Hu et al. 2018)."""
    squeezed = round_width(planes * SQUEEZE)
    up, down = nn.Conv3d(planes, squeezed, 1), nn.Conv3d(squeezed, planes, 1)
    return nn.Sequential(up, nn.ReLU(inplace=True), down, nn.Sigmoid())


class X3DBlock(nn.Module):
    """1x1x1 up, depthwise 3x3x3 with the stride, squeeze-and-excite in every second block, Swish, 1x1x1 down."""

    def __init__(
        self, in_planes: int, planes: int, inner: int, stride: int, *, squeeze: bool, shortcut_norm: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv(in_planes, inner, (1, 1)), nn.BatchNorm3d(inner), nn.ReLU(inplace=True))
        depthwise = conv(inner, inner, (3, 3), (1, stride), groups=inner)
        self.conv2 = nn.Sequential(depthwise, nn.BatchNorm3d(inner))
        self.squeeze = squeeze_excite(inner) if squeeze else None
        self.swish = nn.SiLU()
        self.conv3 = nn.Sequential(conv(inner, planes, (1, 1)), nn.BatchNorm3d(planes))
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_planes != planes:
            norms = [nn.BatchNorm3d(planes)] if shortcut_norm or in_planes != planes else []
            self.downsample = nn.Sequential(conv(in_planes, planes, (1, 1), (1, stride)), *norms)

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        inner = self.conv2(self.conv1(x))
        if self.squeeze is not None:
            inner = inner * self.squeeze(inner.mean((2, 3, 4), keepdim=True))
        inner = self.swish(inner)
        out: Tensor = self.relu(self.conv3(inner) + residual)
        return out


class X3D(VideoModel):
    """See `x3d` for the arguments."""

    def __init__(
        self,
        *,
        num_classes: int | None,
        width: int,
        stages: Sequence[int],
        expansion: float,
        hidden: int | None,
        shortcut_norm: bool,
        pool_size: PoolSize | None,
        bn_eps: float,
    ) -> None:
        super().__init__(pool_size=pool_size)
        over_space, over_time = conv(3, width, (1, 3), (1, 2)), conv(width, width, (5, 1), groups=width)
        self.stem = nn.Sequential(over_space, over_time, nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        in_planes = width
        for i, blocks in enumerate(stages):
            planes = width * 2**i
            inner = int(expansion * planes)
            layer = []
            for n in range(blocks):
                layer.append(
                    X3DBlock(
                        in_planes,
                        planes,
                        inner,
                        2 if n == 0 else 1,
                        squeeze=n % 2 == 0,
                        shortcut_norm=shortcut_norm,
                    )
                )
                in_planes = planes
            self.add_module(f"layer{i + 1}", nn.Sequential(*layer))
        last = int(expansion * in_planes)
        self.last = nn.Sequential(conv(in_planes, last, (1, 1)), nn.BatchNorm3d(last), nn.ReLU(inplace=True))
        self.hidden: nn.Sequential | None = None
        if hidden is not None:
            self.hidden = nn.Sequential(nn.Linear(last, hidden, bias=False), nn.ReLU(inplace=True))
        self.fc = classifier(hidden or last, num_classes)
        init_weights(self)
        set_batch_norm(self, eps=bn_eps)

    def feature_map(self, clips: Tensor) -> Tensor:
        x: Tensor = self.stem(clips)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        out: Tensor = self.last(x)
        return out

    def project(self, pooled: Tensor) -> Tensor:
        out: Tensor = pooled if self.hidden is None else self.hidden(pooled)
        return out


@register_architecture("pytorchvideo_x3d_xs", family="pytorchvideo", num_frames=4)
@register_architecture("pytorchvideo_x3d_s", family="pytorchvideo", num_frames=13)
@register_architecture("pytorchvideo_x3d_m", family="pytorchvideo", crop=224)
@register_architecture("pytorchvideo_x3d_l", family="pytorchvideo", crop=312, depth_factor=5.0)
@register_architecture("mmaction2_x3d_s", family="mmaction2", num_frames=13, head="global", shortcut_norm=True)
@register_architecture("mmaction2_x3d_m", family="mmaction2", crop=224, head="global", shortcut_norm=True)
def x3d(
    *,
    num_classes: int | None,
    width: int = 24,
    depth_factor: float = 2.2,
    stages: Sequence[int] | None = None,
    expansion: float = 2.25,
    hidden: int | None = 2048,
    num_frames: int = 16,
    crop: int = 160,
    head: Head = "fixed",
    shortcut_norm: bool = False,
    bn_eps: float = 1e-5,
) -> VideoModel:
    """X3D. XS, S and M are one network on other clips; L is deeper.

    `width` are the planes of the stem, `stages` the blocks in each layer (1, 2, 5, 3 times `depth_factor` unless
    given), `expansion` the planes within a block of those between blocks, `hidden` the features before the classifier
    (None: those of `last`).
    `shortcut_norm`: whether the shortcut of layer1, which changes no planes, has a batch norm (MMAction2, PySlowFast)
    or none (pytorchvideo). pytorchvideo's network ends in a softmax at each position; ours gives the logits, and the
    protocol averages.
    """
    blocks = [math.ceil(depth_factor * n) for n in BLOCKS] if stages is None else list(stages)
    if len(blocks) != 4 or min(blocks) < 1:
        raise ValueError(f"stages must be 4 numbers of blocks, each at least 1, got {blocks}")
    return X3D(
        num_classes=num_classes,
        width=width,
        stages=blocks,
        expansion=expansion,
        hidden=hidden,
        shortcut_norm=shortcut_norm,
        pool_size=pool_size(head, num_frames=num_frames, crop=crop, strides=(1, 32)),
        bn_eps=bn_eps,
    )
