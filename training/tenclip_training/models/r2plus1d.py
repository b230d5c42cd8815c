"""R(2+1)D: convolutions over space and over time, apart (Tran et al. 2018, arXiv:1711.11248), of five families.

They differ in the planes between the two, the stem, the shortcut and the epsilon of batch norm, so no checkpoint of one
is right in another.
"""

from __future__ import annotations

from tenclip_training.models.design import Design
from tenclip_training.models.parts import (
    Shortcut,
    build_1plus2d,
    build_2plus1d,
    build_2plus1d_per_block,
    shortcut_2plus1d,
    shortcut_named,
    stem_2plus1d,
    stem_3d,
    stem_pool_over,
)
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.resnet import residual_factory


def vmz(width: int, *, stem_pool: bool = False) -> Design:
    """R(2+1)D as in VMZ and IG-65M: the planes between the two halves are computed anew for each convolution.

    `width` is the planes of layer1. `stages` (blocks in each layer) and `bottleneck` follow from `depth` unless given.
    VMZ's own code pools in the stem of its 152-layer network by default; the paper's FLOPs say that it was trained
    without, hence `stem_pool` False.
    """
    mid = max(1, round(45 * width / 64))  # 45 of 64 in the paper, by no formula
    return Design(
        stem=stem_2plus1d(width, mid=mid, pool=stem_pool_over(1) if stem_pool else None),
        stem_strides=(1, 4 if stem_pool else 2),
        builds=build_2plus1d,
    )


def torchvision(width: int) -> Design:
    """torchvision's: the second convolution of a block has as many middle planes as the first."""
    stem = stem_2plus1d(width, mid=max(1, round(45 * width / 64)))
    return Design(stem=stem, stem_strides=(1, 2), builds=build_2plus1d_per_block)


def resnets3d(width: int, *, shortcut: Shortcut = "B", stem_pool: bool = True) -> Design:
    """3D-ResNets' (Kataoka et al. 2020): a stem of (1,7,7) and (7,1,1), then a max pool over time too.

    `stem_pool` False leaves the max pool out (`no_max_pool` in the authors' code).
    """
    mid = max(1, 3 * width * 7 * 49 // (3 * 49 + 7 * width))  # 110 at width 64
    return Design(
        stem=stem_2plus1d(width, mid=mid, time=7, pool=stem_pool_over(3) if stem_pool else None),
        stem_strides=(2, 4) if stem_pool else (1, 2),
        builds=build_2plus1d,
        shortcut=shortcut_named(shortcut),
    )


def mmaction2(width: int, *, inner_bn_eps: float = 1e-5) -> Design:
    """MMAction2's: 83 planes in the stem, a max pool, shortcuts that are (2+1)D pairs too.

    `inner_bn_eps` belongs to the batch norms between the halves: MMAction2 sets 1e-3 only on the outer ones.
    """
    mid = max(1, 3 * 3 * 49 * width // (3 * 49 + 3 * width))  # 83 at width 64
    return Design(
        stem=stem_2plus1d(width, mid=mid, pool=stem_pool_over(1)),
        stem_strides=(1, 4),
        builds=build_2plus1d,
        shortcut=shortcut_2plus1d,
        inner_bn_eps=inner_bn_eps,
    )


def pytorchvideo(width: int) -> Design:
    """pytorchvideo's r2plus1d_r50: bottlenecks with time before space, and a spatial stride in all four layers.

    Its authors' network ends in a softmax at each position; ours gives the logits, and the protocol averages.
    """
    strides = ((1, 2), (1, 2), (2, 2), (2, 2))
    return Design(stem=stem_3d(width, time=1), stem_strides=(1, 2), builds=build_1plus2d, strides=strides)


_VMZ = residual_factory(vmz, depth=18, bottleneck=None, bn_eps=1e-3, zero_gamma=False)
for _depth, _parameters, _gmacs in (
    (10, None, None),
    (18, 33_370_839, 83),
    (34, 63_697_175, 152),
    (50, None, None),
    (101, 86_050_785, 176),
    (152, 118_226_785, 252),
):
    register_architecture(f"r2plus1d_{_depth}", family="vmz", depth=_depth, parameters=_parameters, gmacs=_gmacs)(_VMZ)

register_architecture(
    "torchvision_r2plus1d_18", family="torchvision", parameters=31_505_325, gmacs=40.52, gmacs_at=(16, 112)
)(residual_factory(torchvision, blocks="basic", stages=(2, 2, 2, 2), num_frames=16, head="global"))

_RESNETS3D = residual_factory(resnets3d, depth=18, bottleneck=None, num_frames=16, head="global")
for _depth in (18, 34, 50, 101, 152, 200):
    register_architecture(f"resnets3d_r2plus1d_{_depth}", family="3d-resnets", depth=_depth)(_RESNETS3D)

register_architecture("mmaction2_r2plus1d_34", family="mmaction2", parameters=63_759_281)(
    residual_factory(mmaction2, blocks="basic", stages=(3, 4, 6, 3), crop=224, head="global", bn_eps=1e-3)
)
register_architecture("pytorchvideo_r2plus1d_r50", family="pytorchvideo")(
    residual_factory(pytorchvideo, blocks="bottleneck", stages=(3, 4, 6, 3), num_frames=16, crop=224)
)
