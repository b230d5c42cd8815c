"""Networks that look at frames: R2D and TSN, and SlowOnly, which looks over time only in its last two layers.

A frame model is a network whose kernels are 1 in time; its clips may have any number of frames, which are averaged
before the classifier.
"""

from __future__ import annotations

from tenclip_training.models.design import Design
from tenclip_training.models.parts import SPATIAL_STRIDES, build_2d, stem_3d, stem_pool_over
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.resnet import residual_factory


def r2d(width: int, *, stem_size: int = 7) -> Design:
    """ResNet on each frame (He et al. 2016), for inflation and as a TSN (Wang et al. 2016): frames are averaged.

    `stem_size` is how many pixels a side the stem's convolution sees: 3 for small images.
    """
    stem = stem_3d(width, time=1, space=stem_size, pool=stem_pool_over(1))
    return Design(stem=stem, stem_strides=(1, 4), builds=build_2d, strides=SPATIAL_STRIDES)


def slowonly(width: int) -> Design:
    """The slow pathway of SlowFast alone (Feichtenhofer et al. 2019): (3,1,1) in the bottlenecks of layers 3 and 4,
    and no stride in time.

    `hidden` puts a linear layer of that size, BN and ReLU before the classifier, as MMAction2 1.x's OmniResNet has it
    (twice as many as classes); features are then what comes out of it.
    """
    stem = stem_3d(width, time=1, pool=stem_pool_over(1))
    return Design(stem=stem, stem_strides=(1, 4), builds=build_2d, strides=SPATIAL_STRIDES, reduce_times=(1, 1, 3, 3))


_R2D = residual_factory(r2d, depth=50, bottleneck=None, num_frames=1, crop=224, head="global")
for _depth, _parameters in (
    (18, 11_689_512),
    (34, 21_797_672),
    (50, 25_557_032),
    (101, 44_549_160),
    (152, 60_192_808),
):
    register_architecture(
        f"r2d_{_depth}", family="torchvision", depth=_depth, num_classes=1000, parameters=_parameters
    )(_R2D)
register_architecture("tsn_r50", family="mmaction2", depth=50)(_R2D)

_SLOWONLY = residual_factory(
    slowonly, blocks="bottleneck", depth=50, hidden=None, num_frames=4, crop=224, head="global"
)
register_architecture("slowonly_r50", family="mmaction2", depth=50, parameters=32_454_096)(_SLOWONLY)
register_architecture("slowonly_r101", family="mmaction2", depth=101, num_frames=8)(_SLOWONLY)
register_architecture("omni_slowonly_r50", family="mmaction2", depth=50, num_frames=8, hidden=800)(_SLOWONLY)
register_architecture(
    "pytorchvideo_slow_r50",
    family="pytorchvideo",
    depth=50,
    num_frames=8,
    head="fixed",
    parameters=32_454_096,
    gmacs=54.52,
    gmacs_at=(8, 256),
)(_SLOWONLY)
