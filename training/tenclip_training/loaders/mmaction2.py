"""MMAction2's networks, 0.x and 1.x: `backbone.` and `cls_head.`, convolutions in ConvModules (`conv`, `bn`).

A backbone alone may lack the `backbone.` in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from tenclip_training.loaders import presets
from tenclip_training.loaders.files import WeightsFile
from tenclip_training.loaders.plans import (
    Plan,
    Rules,
    Tensors,
    UnknownLayoutError,
    kernels_in_time,
    rename,
    side,
    sized,
    stages_in,
)
from tenclip_training.loaders.presets import Preset

RULES: Rules = [
    (r"backbone\.conv1\.conv\.(.+)", r"stem.0.\1"),
    (r"backbone\.conv1\.bn\.(.+)", r"stem.1.\1"),
    (r"backbone\.(layer\d+\.\d+\.conv\d)\.conv\.(.+)", r"\1.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv\d)\.bn\.(.+)", r"\1.1.\2"),
    (r"backbone\.(layer\d+\.\d+\.downsample)\.conv\.(.+)", r"\1.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.downsample)\.bn\.(.+)", r"\1.1.\2"),
    (r"cls_head\.fc_cls\.(.+)", r"fc.\1"),
]
RULES_2PLUS1D: Rules = [
    (r"backbone\.conv1\.conv\.conv_s\.(.+)", r"stem.0.\1"),
    (r"backbone\.conv1\.conv\.bn_s\.(.+)", r"stem.1.\1"),
    (r"backbone\.conv1\.conv\.conv_t\.(.+)", r"stem.3.\1"),
    (r"backbone\.conv1\.bn\.(.+)", r"stem.4.\1"),
    (r"backbone\.(layer\d+\.\d+\.(?:conv\d|downsample))\.conv\.conv_s\.(.+)", r"\1.0.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.(?:conv\d|downsample))\.conv\.bn_s\.(.+)", r"\1.0.1.\2"),
    (r"backbone\.(layer\d+\.\d+\.(?:conv\d|downsample))\.conv\.conv_t\.(.+)", r"\1.0.3.\2"),
    *RULES,
]
RULES_IR_CSN: Rules = [
    (r"backbone\.(layer\d+\.\d+\.conv2)\.0\.conv\.(.+)", r"\1.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv2)\.0\.bn\.(.+)", r"\1.1.\2"),
    *RULES,
]
RULES_IP_CSN: Rules = [
    (r"backbone\.(layer\d+\.\d+\.conv2)\.0\.conv\.(.+)", r"\1.0.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv2)\.0\.bn\.(.+)", r"\1.0.1.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv2)\.1\.conv\.(.+)", r"\1.0.2.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv2)\.1\.bn\.(.+)", r"\1.1.\2"),
    *RULES,
]
RULES_SLOWFAST: Rules = [
    (r"backbone\.slow_path\.conv1_lateral\.conv\.(.+)", r"lateral.0.0.\1"),
    (r"backbone\.slow_path\.layer(\d)_lateral\.conv\.(.+)", r"lateral.\1.0.\2"),
    *((pattern.replace(r"backbone\.", r"backbone\.slow_path\."), "slow." + ours) for pattern, ours in RULES[:-1]),
    *((pattern.replace(r"backbone\.", r"backbone\.fast_path\."), "fast." + ours) for pattern, ours in RULES[:-1]),
    RULES[-1],
]
RULES_X3D: Rules = [
    (r"backbone\.conv1_s\.conv\.(.+)", r"stem.0.\1"),
    (r"backbone\.conv1_t\.conv\.(.+)", r"stem.1.\1"),
    (r"backbone\.conv1_t\.bn\.(.+)", r"stem.2.\1"),
    (r"backbone\.(layer\d+\.\d+)\.se_module\.fc1\.(.+)", r"\1.squeeze.0.\2"),
    (r"backbone\.(layer\d+\.\d+)\.se_module\.fc2\.(.+)", r"\1.squeeze.2.\2"),
    (r"backbone\.conv5\.conv\.(.+)", r"last.0.\1"),
    (r"backbone\.conv5\.bn\.(.+)", r"last.1.\1"),
    (r"cls_head\.fc1\.(.+)", r"hidden.0.\1"),
    (r"cls_head\.fc2\.(.+)", r"fc.\1"),
    *RULES[2:-1],
]
# 1.x: OmniResNet names as torchvision does, and has a classifier of images beside that of videos.
RULES_OMNI: Rules = [
    (r"cls_head\.fc3d\.2\.(.+)", r"hidden.0.\1"),
    (r"cls_head\.fc3d\.3\.(.+)", r"hidden.1.\1"),
    (r"cls_head\.fc3d\.6\.(.+)", r"fc.\1"),
    (r"backbone\.conv1\.(.+)", r"stem.0.\1"),
    (r"backbone\.bn1\.(.+)", r"stem.1.\1"),
    (r"backbone\.(layer\d+\.\d+)\.conv(\d)\.(.+)", r"\1.conv\2.0.\3"),
    (r"backbone\.(layer\d+\.\d+)\.bn(\d)\.(.+)", r"\1.conv\2.1.\3"),
    (r"backbone\.(layer\d+\.\d+\.downsample\.[01]\..+)", r"\1"),
]
# Settings of a backbone that leave no trace in its weights, as the published networks have them.
FIXED: dict[str, Any] = {"style": "pytorch", "dilations": [1, 1, 1, 1], "spatial_strides": [1, 2, 2, 2]}
FIXED_2D: dict[str, Any] = {"style": "pytorch", "dilations": [1, 1, 1, 1], "strides": [1, 2, 2, 2]}
NO_TIME_STRIDES: dict[str, Any] = {**FIXED, "temporal_strides": [1, 1, 1, 1]}
NO_STEM_STRIDES: dict[str, Any] = {"conv1_stride_t": 1, "pool1_stride_t": 1}
TIME_STRIDES: dict[str, Any] = {**FIXED, **NO_STEM_STRIDES, "temporal_strides": [1, 2, 2, 2], "with_pool2": False}
C2D_OR_TSN = "{other} has the same tensors as {this}: for that, choose family={family} (--family)"


def mmaction2(weights: WeightsFile) -> Plan:
    # 1.x can save the mean and standard deviation of its preprocessor with the network.
    ignored = {name: "the input's normalisation" for name in weights.tensors if name.startswith("data_preprocessor.")}
    canonical = {_with_backbone(name): name for name in weights.tensors if name not in ignored}
    tensors = {name: weights.tensors[theirs] for name, theirs in canonical.items()}
    return _with_names(_plan(tensors), canonical, ignored)


def _with_backbone(name: str) -> str:
    return name if name.startswith(("backbone.", "cls_head.")) else f"backbone.{name}"


def _with_names(plan: Plan, canonical: Mapping[str, str], ignored: dict[str, str]) -> Plan:
    """The plan with the file's names in place of those that `_with_backbone` made of them."""
    names = {canonical[name]: ours for name, ours in plan.names.items()}
    alternatives = tuple(_with_names(p, canonical, ignored) for p in plan.alternatives)
    return replace(plan, names=names, ignored=ignored, alternatives=alternatives)


def _plan(tensors: Tensors) -> Plan:
    if "backbone.slow_path.conv1.conv.weight" in tensors:
        return _slowfast(tensors)
    if "backbone.conv1_s.conv.weight" in tensors:
        return _x3d(tensors)
    stages, bottleneck = stages_in(tensors, "backbone.layer1.0.conv3.conv.weight", prefix="backbone.")
    if "backbone.conv1.conv.conv_s.weight" in tensors:
        return Plan(
            layout="mmaction2",
            architecture="mmaction2_r2plus1d_34",
            config={"width": side(tensors, "backbone.conv1.bn.weight", 0), "stages": stages},
            names=rename(tensors, RULES_2PLUS1D),
            candidates=(presets.MMACTION2_8X8, presets.MMACTION2_32X2),
            backbones=("ResNet2Plus1d",),
            fixed={k: v for k, v in TIME_STRIDES.items() if k != "with_pool2"},
        )
    if "backbone.conv1.conv.weight" not in tensors:
        raise UnknownLayoutError("a network of MMAction2 without the convolution of its stem")
    stem = tensors["backbone.conv1.conv.weight"]
    if "backbone.layer1.0.conv2.0.conv.weight" in tensors:
        return _csn(tensors, stages, stem.shape[0])
    if stem.dim() == 4:
        return _frames(tensors, stages, bottleneck, stem.shape[0])
    if not bottleneck or stem.shape[2] not in (1, 5):
        raise UnknownLayoutError(f"a 3D ResNet of MMAction2 with a stem of {list(stem.shape[2:])}")
    if stem.shape[2] == 5:
        return _i3d(tensors, stages, stem)
    name, config = sized("slowonly_r{}", (50, 101), stages, True, stem.shape[0])
    del config["bottleneck"]
    clips = (presets.MMACTION2_8X8,) if name == "slowonly_r101" else (presets.MMACTION2_4X16, presets.MMACTION2_8X8)
    return Plan(
        layout="mmaction2",
        architecture=name,
        config=config,
        names=rename(tensors, RULES),
        candidates=clips,
        backbones=("ResNet3dSlowOnly", "ResNet3d"),
        fixed={**NO_TIME_STRIDES, **NO_STEM_STRIDES, "with_pool2": False},
    )


def _csn(tensors: Tensors, stages: list[int], width: int) -> Plan:
    mode = "ip" if "backbone.layer1.0.conv2.1.conv.weight" in tensors else "ir"
    name, config = sized(mode + "_csn_{}", (50, 101, 152), stages, True, width)
    del config["bottleneck"]
    # MMAction2 pools over the whole map, VMZ at each position.
    config["head"] = "global"
    # Networks of 50 layers are all MMAction2's own; of 152, some come from VMZ, with its mean.
    clips = (presets.MMACTION2_32X2, presets.MMACTION2_VMZ_32X2)[: 1 if name == "ir_csn_50" else 2]
    return Plan(
        layout="mmaction2",
        architecture=name,
        config=config,
        names=rename(tensors, RULES_IP_CSN if mode == "ip" else RULES_IR_CSN),
        candidates=clips,
        backbones=("ResNet3dCSN",),
        fixed=TIME_STRIDES,
    )


def _frames(tensors: Tensors, stages: list[int], bottleneck: bool, width: int) -> Plan:
    """TSN, and C2D, which has the same tensors where it has bottlenecks."""
    name, config = sized("r2d_{}", (18, 34, 50, 101, 152), stages, bottleneck, width)
    name = "tsn_r50" if name == "r2d_50" else name
    common = partial(Plan, layout="mmaction2", names=rename(tensors, RULES), fixed=FIXED_2D)
    tsn = common(
        architecture=name,
        config=config,
        candidates=(presets.MMACTION2_TSN, presets.MMACTION2_TSN_8X8),
        backbones=("ResNet",),
        assumed=(f"for clips of 8 frames (C2D without pools), choose family={presets.MMACTION2_TSN_8X8.name}",),
    )
    if not bottleneck:
        return tsn
    c2d_config = {key: value for key, value in config.items() if key != "bottleneck"}
    c2d = common(
        architecture="mmaction2_c2d_r101" if name == "r2d_101" else "mmaction2_c2d_r50",
        config=c2d_config,
        candidates=(presets.MMACTION2_C2D_8X8, presets.MMACTION2_C2D_16X4),
        backbones=("C2D", "C2D_R50"),
    )
    note = C2D_OR_TSN.format(other="MMAction2's C2D", this="a TSN", family=presets.MMACTION2_C2D_8X8.name)
    return replace(tsn, assumed=(note, *tsn.assumed), alternatives=(c2d,))


def _i3d(tensors: Tensors, stages: list[int], stem: Tensor) -> Plan:
    return Plan(
        layout="mmaction2",
        architecture="mmaction2_i3d_r50",
        config={
            "width": stem.shape[0],
            "stages": stages,
            "reduce_times": kernels_in_time(tensors, "backbone.layer{layer}.{block}.conv1.conv.weight", stages),
        },
        names=rename(tensors, RULES),
        candidates=(presets.MMACTION2_I3D_32X2,),
        backbones=("ResNet3d",),
        fixed={**NO_TIME_STRIDES, "inflate_style": "3x1x1"},
        settings={
            "conv1_stride_t": "stem_time_stride",
            "pool1_stride_t": "pool_time_stride",
            "with_pool2": "+pool_frames",
        },
        unseen={
            "stem_time_stride": "strides in time of the stem do not show in weights; taken as 2 and 2, as in "
            "i3d_r50_32x2x1 (the heavy variants have 1 and 1: stem_time_stride=1, pool_time_stride=1)"
        },
    )


def _slowfast(tensors: Tensors) -> Plan:
    slow, fast = "backbone.slow_path.", "backbone.fast_path."
    stages, _ = stages_in(tensors, "", prefix=slow)
    fast_stages, _ = stages_in(tensors, "", prefix=fast)
    width = side(tensors, f"{slow}conv1.conv.weight", 0)
    kernel = side(tensors, f"{slow}conv1_lateral.conv.weight", 2)
    # The published networks of 4x16 connect with kernels of 5, those of 8x8 with 7.
    clips = (presets.MMACTION2_SLOWFAST_8X8, presets.MMACTION2_SLOWFAST_4X16)
    first = clips if kernel == 7 else clips[::-1]
    return Plan(
        layout="mmaction2",
        architecture="mmaction2_slowfast_r101" if stages[2] > 6 else "mmaction2_slowfast_r50",
        config={
            "width": width,
            "beta": width // max(1, side(tensors, f"{fast}conv1.conv.weight", 0)),
            "stages": stages,
            "fast_stages": fast_stages,
            "fusion_kernel": kernel,
            "slow_times": kernels_in_time(tensors, slow + "layer{layer}.{block}.conv1.conv.weight", stages),
            "fast_times": kernels_in_time(tensors, fast + "layer{layer}.{block}.conv1.conv.weight", fast_stages),
        },
        names=rename(tensors, RULES_SLOWFAST),
        candidates=first,
        assumed=(f"the kernel of {kernel} between its pathways is that of {first[0].description}",),
        backbones=("ResNet3dSlowFast",),
        settings={"speed_ratio": "alpha"},
    )


def _x3d(tensors: Tensors) -> Plan:
    stages, _ = stages_in(tensors, "", prefix="backbone.")
    width = side(tensors, "backbone.conv1_s.conv.weight", 0)
    return Plan(
        layout="mmaction2",
        architecture="mmaction2_x3d_m",
        config={
            "width": width,
            "stages": stages,
            "expansion": side(tensors, "backbone.layer1.0.conv1.conv.weight", 0) / max(1, width),
            "hidden": side(tensors, "cls_head.fc1.weight", 0) or None,
        },
        names=rename(tensors, RULES_X3D),
        candidates=(presets.MMACTION2_X3D_S, presets.MMACTION2_X3D_M),
        backbones=("X3D", "X3d"),
        fixed={"spatial_strides": [2, 2, 2, 2], "se_style": "half"},
    )


def omni(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    stages, _ = stages_in(tensors, "backbone.layer1.0.conv3.weight", prefix="backbone.")
    if "cls_head.fc3d.6.weight" not in tensors:
        raise UnknownLayoutError("an OmniResNet of MMAction2 without the hidden layer in its video head")
    candidates: tuple[Preset, ...] = (presets.MMACTION2_8X8,)
    return Plan(
        layout="mmaction2",
        architecture="omni_slowonly_r50",
        config={
            "width": side(tensors, "backbone.conv1.weight", 0),
            "stages": stages,
            "hidden": side(tensors, "cls_head.fc3d.2.weight", 0),
        },
        names=rename(tensors, RULES_OMNI),
        candidates=candidates,
        ignored={name: "the classifier of images" for name in tensors if name.startswith("cls_head.fc2d.")},
        backbones=("OmniResNet",),
    )
