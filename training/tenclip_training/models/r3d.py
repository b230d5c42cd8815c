"""Networks of whole 3D convolutions: R3D, MC3, and the channel-separated CSN."""

from __future__ import annotations

from typing import Literal

from tenclip_training.models.design import Design
from tenclip_training.models.parts import (
    Shortcut,
    build_2d,
    build_3d,
    build_depthwise,
    build_ip,
    shortcut_named,
    stem_3d,
    stem_pool_over,
)
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.resnet import residual_factory


def resnets3d(
    width: int, *, shortcut: Shortcut = "B", stem_pool: bool = True, stem_frames: int = 7, stem_size: int = 7
) -> Design:
    """3D-ResNets' R3D (Hara et al. 2018, Kataoka et al. 2020): a 7x7x7 stem and a max pool over time too.

    The release of 2018 used shortcut A in the networks of 18 and 34 layers. `stem_pool` False leaves the max pool out
    (`no_max_pool` in the authors' code), `stem_frames` is how many frames the stem's convolution sees (`conv1_t_size`).
    `stem_size` is how many pixels a side it sees: 3 for clips of few pixels, where seven make most of the work.
    """
    return Design(
        stem=stem_3d(width, time=stem_frames, space=stem_size, pool=stem_pool_over(3) if stem_pool else None),
        stem_strides=(2, 4) if stem_pool else (1, 2),
        builds=build_3d,
        shortcut=shortcut_named(shortcut),
    )


def torchvision(width: int, *, mixed: bool = False) -> Design:
    """torchvision's r3d_18, and mc3_18 (`mixed`): 3D convolutions in layer1 only, so that all frames are kept."""
    return Design(
        stem=stem_3d(width, time=3),
        stem_strides=(1, 2),
        builds=[build_3d, *([build_2d if mixed else build_3d] * 3)],
        strides=((1, 1), *(((1, 2) if mixed else (2, 2),) * 3)),
    )


def csn(width: int, *, mode: Literal["ir", "ip"] = "ir") -> Design:
    """Channel-separated networks (Tran et al. 2019, arXiv:1904.02811): bottlenecks whose 3x3x3 is depthwise.

    "ir" (interaction-reduced) has nothing else there, "ip" (interaction-preserved) a 1x1x1 convolution before it.
    """
    if mode not in ("ir", "ip"):
        raise ValueError(f"mode must be 'ir' or 'ip', got {mode!r}")
    stem = stem_3d(width, time=3, pool=stem_pool_over(1))
    return Design(stem=stem, stem_strides=(1, 4), builds=build_depthwise if mode == "ir" else build_ip)


_RESNETS3D = residual_factory(resnets3d, depth=18, bottleneck=None, num_frames=16, head="global")
for _depth, _parameters in (
    (10, None),
    (18, 33_563_004),
    (34, None),
    (50, 47_633_276),
    (101, None),
    (152, None),
    (200, 128_037_756),
):
    register_architecture(
        f"resnets3d_r3d_{_depth}", family="3d-resnets", num_classes=700, depth=_depth, parameters=_parameters
    )(_RESNETS3D)

_TORCHVISION = residual_factory(torchvision, blocks="basic", stages=(2, 2, 2, 2), num_frames=16, head="global")
register_architecture(
    "torchvision_r3d_18", family="torchvision", parameters=33_371_472, gmacs=40.70, gmacs_at=(16, 112)
)(_TORCHVISION)
register_architecture(
    "torchvision_mc3_18", family="torchvision", parameters=11_695_440, gmacs=43.34, gmacs_at=(16, 112), mixed=True
)(_TORCHVISION)

_CSN = residual_factory(csn, blocks="bottleneck", depth=152, num_frames=32, crop=224, bn_eps=1e-3)
for _mode, _depth, _parameters, _gmacs in (
    ("ir", 50, 13_131_152, None),
    ("ir", 101, 22_213_776, None),
    ("ir", 152, 29_703_568, 74.05),
    ("ip", 50, None, None),
    ("ip", 101, None, None),
    ("ip", 152, 33_016_592, 83.29),
):
    register_architecture(
        f"{_mode}_csn_{_depth}",
        family="vmz",
        mode=_mode,
        depth=_depth,
        parameters=_parameters,
        gmacs=_gmacs,
        gmacs_at=(32, 224) if _gmacs else (32, 112),
    )(_CSN)
register_architecture(
    "pytorchvideo_csn_r101", family="pytorchvideo", mode="ir", depth=101, parameters=22_213_776, bn_eps=1e-5
)(_CSN)
