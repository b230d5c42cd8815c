"""R(2+1)D: convolutions over space and over time, apart (Tran et al. 2018, arXiv:1711.11248), of five families.

They differ in the planes between the two, the stem, the shortcut and the epsilon of batch norm, so no checkpoint of one
is right in another.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from tenclip_training.models.blocks import Conv2Plus1d
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.resnet import (
    Shortcut,
    ShortcutA,
    VideoResNet,
    build_1plus2d,
    build_2plus1d,
    build_2plus1d_per_block,
    shortcut_2plus1d,
    shortcut_b,
    stages_of,
    stem_2plus1d,
    stem_3d,
    stem_pool_over,
)
from tenclip_training.models.video_model import Head, VideoModel


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
    blocks, bottleneck = stages_of(depth, stages, bottleneck)
    mid = max(1, round(45 * width / 64))  # 45 of 64 in the paper, by no formula
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_2plus1d(width, mid=mid, pool=stem_pool_over(1) if stem_pool else None),
        stem_strides=(1, 4 if stem_pool else 2),
        builds=[build_2plus1d] * 4,
        stages=blocks,
        width=width,
        bottleneck=bottleneck,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
        zero_gamma=zero_gamma,
    )


@register_architecture(
    "torchvision_r2plus1d_18", family="torchvision", parameters=31_505_325, gmacs=40.52, gmacs_at=(16, 112)
)
def torchvision_r2plus1d(
    *,
    num_classes: int,
    width: int = 64,
    num_frames: int = 16,
    crop: int = 112,
    head: Head = "global",
    stages: Sequence[int] = (2, 2, 2, 2),
    bn_eps: float = 1e-5,
) -> VideoModel:
    """torchvision's: the second convolution of a block has as many middle planes as the first."""
    blocks, _ = stages_of(18, stages, False)
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_2plus1d(width, mid=max(1, round(45 * width / 64))),
        stem_strides=(1, 2),
        builds=[build_2plus1d_per_block] * 4,
        stages=blocks,
        width=width,
        bottleneck=False,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
    )


@register_architecture("resnets3d_r2plus1d_18", family="3d-resnets", depth=18)
@register_architecture("resnets3d_r2plus1d_34", family="3d-resnets", depth=34)
@register_architecture("resnets3d_r2plus1d_50", family="3d-resnets", depth=50)
@register_architecture("resnets3d_r2plus1d_101", family="3d-resnets", depth=101)
@register_architecture("resnets3d_r2plus1d_152", family="3d-resnets", depth=152)
@register_architecture("resnets3d_r2plus1d_200", family="3d-resnets", depth=200)
def resnets3d_r2plus1d(
    *,
    num_classes: int,
    depth: int = 18,
    width: int = 64,
    num_frames: int = 16,
    crop: int = 112,
    head: Head = "global",
    stages: Sequence[int] | None = None,
    bottleneck: bool | None = None,
    shortcut: Shortcut = "B",
    bn_eps: float = 1e-5,
) -> VideoModel:
    """3D-ResNets' (Kataoka et al. 2020): a stem of (1,7,7) and (7,1,1), then a max pool over time too."""
    blocks, bottleneck = stages_of(depth, stages, bottleneck)
    mid = max(1, 3 * width * 7 * 49 // (3 * 49 + 7 * width))  # 110 at width 64
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_2plus1d(width, mid=mid, time=7, pool=stem_pool_over(3)),
        stem_strides=(2, 4),
        builds=[build_2plus1d] * 4,
        stages=blocks,
        width=width,
        bottleneck=bottleneck,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
        shortcut=ShortcutA if shortcut == "A" else shortcut_b,
    )


@register_architecture("mmaction2_r2plus1d_34", family="mmaction2", parameters=63_759_281)
def mmaction2_r2plus1d(
    *,
    num_classes: int,
    width: int = 64,
    num_frames: int = 8,
    crop: int = 224,
    head: Head = "global",
    stages: Sequence[int] = (3, 4, 6, 3),
    bn_eps: float = 1e-3,
    inner_bn_eps: float = 1e-5,
) -> VideoModel:
    """MMAction2's: 83 planes in the stem, a max pool, shortcuts that are (2+1)D pairs too.

    `inner_bn_eps` belongs to the batch norms between the halves: MMAction2 sets 1e-3 only on the outer ones.
    """
    blocks, _ = stages_of(34, stages, False)
    mid = max(1, 3 * 3 * 49 * width // (3 * 49 + 3 * width))  # 83 at width 64
    model = VideoResNet(
        num_classes=num_classes,
        stem=stem_2plus1d(width, mid=mid, pool=stem_pool_over(1)),
        stem_strides=(1, 4),
        builds=[build_2plus1d] * 4,
        stages=blocks,
        width=width,
        bottleneck=False,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
        shortcut=shortcut_2plus1d,
    )
    for pair in [model.stem, *(part for part in model.modules() if isinstance(part, Conv2Plus1d))]:
        between = pair[1]
        assert isinstance(between, nn.BatchNorm3d)
        between.eps = inner_bn_eps
    return model


@register_architecture("pytorchvideo_r2plus1d_r50", family="pytorchvideo")
def pytorchvideo_r2plus1d(
    *,
    num_classes: int,
    width: int = 64,
    num_frames: int = 16,
    crop: int = 224,
    head: Head = "fixed",
    stages: Sequence[int] = (3, 4, 6, 3),
    bn_eps: float = 1e-5,
) -> VideoModel:
    """pytorchvideo's r2plus1d_r50: bottlenecks with time before space, and a spatial stride in all four layers.

    Its authors' network ends in a softmax at each position; ours gives the logits, and the protocol averages.
    """
    blocks, _ = stages_of(50, stages, True)
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_3d(width, time=1),
        stem_strides=(1, 2),
        builds=[build_1plus2d] * 4,
        stages=blocks,
        width=width,
        bottleneck=True,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
        strides=((1, 2), (1, 2), (2, 2), (2, 2)),
    )
