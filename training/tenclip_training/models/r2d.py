"""Networks that look at frames: R2D and TSN, and SlowOnly, which looks over time only in its last two layers.

A frame model is a network whose kernels are 1 in time; its clips may have any number of frames, which are averaged
before the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenclip_training.models.registry import register_architecture
from tenclip_training.models.resnet import SPATIAL_STRIDES, VideoResNet, build_2d, stages_of, stem_3d, stem_pool_over
from tenclip_training.models.video_model import Head, VideoModel


@register_architecture("r2d_18", family="torchvision", depth=18, num_classes=1000, parameters=11_689_512)
@register_architecture("r2d_34", family="torchvision", depth=34, num_classes=1000, parameters=21_797_672)
@register_architecture("r2d_50", family="torchvision", depth=50, num_classes=1000, parameters=25_557_032)
@register_architecture("r2d_101", family="torchvision", depth=101, num_classes=1000, parameters=44_549_160)
@register_architecture("r2d_152", family="torchvision", depth=152, num_classes=1000, parameters=60_192_808)
@register_architecture("tsn_r50", family="mmaction2", depth=50)
def r2d(
    *,
    num_classes: int,
    depth: int = 50,
    width: int = 64,
    num_frames: int = 1,
    crop: int = 224,
    head: Head = "global",
    stages: Sequence[int] | None = None,
    bottleneck: bool | None = None,
    bn_eps: float = 1e-5,
) -> VideoModel:
    """ResNet on each frame (He et al. 2016), for inflation and as a TSN (Wang et al. 2016): frames are averaged."""
    blocks, bottleneck = stages_of(depth, stages, bottleneck)
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_3d(width, time=1, pool=stem_pool_over(1)),
        stem_strides=(1, 4),
        builds=[build_2d] * 4,
        stages=blocks,
        width=width,
        bottleneck=bottleneck,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
        strides=SPATIAL_STRIDES,
    )


@register_architecture("slowonly_r50", family="mmaction2", depth=50, parameters=32_454_096)
@register_architecture("slowonly_r101", family="mmaction2", depth=101, num_frames=8)
@register_architecture("omni_slowonly_r50", family="mmaction2", depth=50, num_frames=8, hidden=800)
@register_architecture(
    "pytorchvideo_slow_r50",
    family="pytorchvideo",
    depth=50,
    num_frames=8,
    head="fixed",
    parameters=32_454_096,
    gmacs=54.52,
    gmacs_at=(8, 256),
)
def slowonly(
    *,
    num_classes: int,
    depth: int = 50,
    width: int = 64,
    num_frames: int = 4,
    crop: int = 224,
    head: Head = "global",
    stages: Sequence[int] | None = None,
    hidden: int | None = None,
    bn_eps: float = 1e-5,
) -> VideoModel:
    """The slow pathway of SlowFast alone (Feichtenhofer et al. 2019): (3,1,1) in the bottlenecks of layers 3 and 4,
    and no stride in time.

    `hidden` puts a linear layer of that size, BN and ReLU before the classifier, as MMAction2 1.x's OmniResNet has it
    (twice as many as classes); features are then what comes out of it.
    """
    blocks, _ = stages_of(depth, stages, True)
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_3d(width, time=1, pool=stem_pool_over(1)),
        stem_strides=(1, 4),
        builds=[build_2d] * 4,
        stages=blocks,
        width=width,
        bottleneck=True,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
        strides=SPATIAL_STRIDES,
        reduce_times=(1, 1, 3, 3),
        hidden=hidden,
    )
