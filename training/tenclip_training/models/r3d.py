"""Networks of whole 3D convolutions: R3D, MC3, and the channel-separated CSN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tenclip_training.models.registry import register_architecture
from tenclip_training.models.resnet import (
    Shortcut,
    ShortcutA,
    VideoResNet,
    build_2d,
    build_3d,
    build_depthwise,
    build_ip,
    shortcut_b,
    stages_of,
    stem_3d,
    stem_pool_over,
)
from tenclip_training.models.video_model import Head, VideoModel


@register_architecture("resnets3d_r3d_10", family="3d-resnets", num_classes=700, depth=10)
@register_architecture("resnets3d_r3d_18", family="3d-resnets", num_classes=700, depth=18, parameters=33_563_004)
@register_architecture("resnets3d_r3d_34", family="3d-resnets", num_classes=700, depth=34)
@register_architecture("resnets3d_r3d_50", family="3d-resnets", num_classes=700, depth=50, parameters=47_633_276)
@register_architecture("resnets3d_r3d_101", family="3d-resnets", num_classes=700, depth=101)
@register_architecture("resnets3d_r3d_152", family="3d-resnets", num_classes=700, depth=152)
@register_architecture("resnets3d_r3d_200", family="3d-resnets", num_classes=700, depth=200, parameters=128_037_756)
def resnets3d_r3d(
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
    """3D-ResNets' R3D (Hara et al. 2018, Kataoka et al. 2020): a 7x7x7 stem and a max pool over time too.

    The release of 2018 used shortcut A in the networks of 18 and 34 layers.
    """
    blocks, bottleneck = stages_of(depth, stages, bottleneck)
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_3d(width, time=7, pool=stem_pool_over(3)),
        stem_strides=(2, 4),
        builds=[build_3d] * 4,
        stages=blocks,
        width=width,
        bottleneck=bottleneck,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
        shortcut=ShortcutA if shortcut == "A" else shortcut_b,
    )


@register_architecture(
    "torchvision_r3d_18", family="torchvision", parameters=33_371_472, gmacs=40.70, gmacs_at=(16, 112)
)
@register_architecture(
    "torchvision_mc3_18", family="torchvision", parameters=11_695_440, gmacs=43.34, gmacs_at=(16, 112), mixed=True
)
def torchvision_3d(
    *,
    num_classes: int,
    width: int = 64,
    num_frames: int = 16,
    crop: int = 112,
    head: Head = "global",
    stages: Sequence[int] = (2, 2, 2, 2),
    mixed: bool = False,
    bn_eps: float = 1e-5,
) -> VideoModel:
    """torchvision's r3d_18, and mc3_18 (`mixed`): 3D convolutions in layer1 only, so that all frames are kept."""
    blocks, _ = stages_of(18, stages, False)
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_3d(width, time=3),
        stem_strides=(1, 2),
        builds=[build_3d, *([build_2d if mixed else build_3d] * 3)],
        stages=blocks,
        width=width,
        bottleneck=False,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
        strides=((1, 1), *(((1, 2) if mixed else (2, 2),) * 3)),
    )


@register_architecture("ir_csn_50", family="vmz", mode="ir", depth=50, parameters=13_131_152)
@register_architecture("ir_csn_101", family="vmz", mode="ir", depth=101, parameters=22_213_776)
@register_architecture(
    "ir_csn_152", family="vmz", mode="ir", depth=152, parameters=29_703_568, gmacs=74.05, gmacs_at=(32, 224)
)
@register_architecture("ip_csn_50", family="vmz", mode="ip", depth=50)
@register_architecture("ip_csn_101", family="vmz", mode="ip", depth=101)
@register_architecture(
    "ip_csn_152", family="vmz", mode="ip", depth=152, parameters=33_016_592, gmacs=83.29, gmacs_at=(32, 224)
)
@register_architecture(
    "pytorchvideo_csn_r101", family="pytorchvideo", mode="ir", depth=101, parameters=22_213_776, bn_eps=1e-5
)
def csn(
    *,
    num_classes: int,
    depth: int = 152,
    width: int = 64,
    num_frames: int = 32,
    crop: int = 224,
    head: Head = "fixed",
    stages: Sequence[int] | None = None,
    mode: Literal["ir", "ip"] = "ir",
    bn_eps: float = 1e-3,
) -> VideoModel:
    """Channel-separated networks (Tran et al. 2019, arXiv:1904.02811): bottlenecks whose 3x3x3 is depthwise.

    "ir" (interaction-reduced) has nothing else there, "ip" (interaction-preserved) a 1x1x1 convolution before it.
    """
    if mode not in ("ir", "ip"):
        raise ValueError(f"mode must be 'ir' or 'ip', got {mode!r}")
    blocks, _ = stages_of(depth, stages, True)
    return VideoResNet(
        num_classes=num_classes,
        stem=stem_3d(width, time=3, pool=stem_pool_over(1)),
        stem_strides=(1, 4),
        builds=[build_depthwise if mode == "ir" else build_ip] * 4,
        stages=blocks,
        width=width,
        bottleneck=True,
        num_frames=num_frames,
        crop=crop,
        head=head,
        bn_eps=bn_eps,
    )
