"""Whose weights are these? Families are told apart by the names and shapes of tensors, never by the file's name.

A layout recognises one family's names and says which of our architectures they are, under which names, and which inputs
(presets) the authors trained it on. Widths and depths come from the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from tenclip_training.loaders import presets
from tenclip_training.loaders.caffe2 import is_caffe2, torch_names
from tenclip_training.loaders.files import WeightsFile
from tenclip_training.loaders.presets import Preset
from tenclip_training.models.blocks import mid_planes
from tenclip_training.models.resnet import STAGES

Tensors = Mapping[str, Tensor]
# (pattern, replacement): the first that matches a whole name gives ours.
Rules = list[tuple[str, str]]


class UnknownLayoutError(Exception):
    """Names of a family that is known, in a form that is not."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which architecture a set of weights is.

    `names`: the authors' names -> ours. `candidates`: the inputs it may have been trained on. `ignored`: names of
    tensors that are no part of the video network, with the reason. `assumed`: what was taken for granted.
    """

    layout: str
    architecture: str
    config: dict[str, Any]
    names: dict[str, str]
    candidates: tuple[Preset, ...]
    ignored: dict[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def recognise(weights: WeightsFile) -> Plan | None:
    """None where no family has such names. Raises UnknownLayoutError for a network of a known family that is not in
    the zoo."""
    tensors = weights.tensors
    if is_caffe2(tensors):
        return _caffe2(tensors)
    for marker, layout in LAYOUTS:
        if any(re.fullmatch(marker, name) for name in tensors):
            return layout(weights)
    return None


def rename(names: Iterable[str], rules: Rules) -> dict[str, str]:
    """Names that fit no rule are left out."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    found: dict[str, str] = {}
    for name in names:
        for pattern, replacement in compiled:
            if match := pattern.fullmatch(name):
                found[name] = match.expand(replacement)
                break
    return found


# torchvision, VMZ's PyTorch code and ig65m: their names are ours.


def _torchvision_like(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    return _vmz_or_torchvision(tensors, {name: name for name in tensors}, layout="torchvision-like")


def _caffe2(tensors: Tensors) -> Plan:
    names = torch_names(tensors)
    renamed = {ours: tensors[theirs] for theirs, ours in names.items()}
    plan = _vmz_or_torchvision(renamed, names, layout="vmz-caffe2")
    if plan.candidates == (presets.TORCHVISION,):
        raise UnknownLayoutError("a Caffe2 network of whole 3D convolutions (R3D or MC3)")
    return plan


def _vmz_or_torchvision(tensors: Tensors, names: dict[str, str], *, layout: str) -> Plan:
    """From tensors by torchvision's names. The middle planes tell VMZ's basic blocks from torchvision's."""
    stages, bottleneck = _stages(tensors, "layer1.0.conv3.0.weight")
    width = _side(tensors, "layer1.0.conv1.1.weight", 0)
    plan = partial(Plan, layout=layout, names=names)
    if "stem.3.weight" in tensors and not bottleneck and _shares_mid_planes(tensors, width):
        config = {"width": width, "stages": stages}
        return plan(architecture="torchvision_r2plus1d_18", config=config, candidates=(presets.TORCHVISION,))
    if "stem.3.weight" in tensors:
        name, config = _sized("r2plus1d_{}", (10, 18, 34, 50, 101, 152), stages, bottleneck, width)
        classes = _side(tensors, "fc.weight", 0)
        return plan(architecture=name, config=config, candidates=_vmz_clips(name, classes))
    if bottleneck:
        mode = "ip" if "layer1.0.conv2.0.2.weight" in tensors else "ir"
        if mode == "ir" and _side(tensors, "layer1.0.conv2.0.weight", 1) != 1:
            raise UnknownLayoutError("bottlenecks of whole 3D convolutions, in torchvision's names")
        name, config = _sized(mode + "_csn_{}", (50, 101, 152), stages, True, width)
        del config["bottleneck"]
        return plan(architecture=name, config=config, candidates=(presets.VMZ_CSN,))
    mixed = _side(tensors, "layer2.0.conv1.0.weight", 2) == 1
    name = "torchvision_mc3_18" if mixed else "torchvision_r3d_18"
    config = {"width": width, "stages": stages}
    return plan(architecture=name, config=config, candidates=(presets.TORCHVISION,))


def _shares_mid_planes(tensors: Tensors, width: int) -> bool:
    """Whether the first block of layer2 has torchvision's middle planes in its second convolution (230 at width 64),
    and not VMZ's (288)."""
    mid = _side(tensors, "layer2.0.conv2.0.0.weight", 0)
    return mid == mid_planes(width, 2 * width) != mid_planes(2 * width, 2 * width)


def _vmz_clips(name: str, classes: int) -> tuple[Preset, ...]:
    """R(2+1)D-34 was published for 8 and for 32 frames, with the same weights' shapes; others for 32 alone."""
    if name != "r2plus1d_34":
        return (presets.VMZ,)
    # The two pre-trained on IG-65M have other classes: 487 for 8 frames, 359 for 32.
    if classes in (487, 359):
        return (presets.VMZ_8F, presets.IG65M_8F) if classes == 487 else (presets.VMZ_32F, presets.IG65M_32F)
    return (presets.VMZ_8F, presets.VMZ_32F, presets.IG65M_8F, presets.IG65M_32F)


# 3D-ResNets, and torchvision's 2D ResNets, which name alike.

RESNET_RULES: Rules = [
    (r"conv1\.(.+)", r"stem.0.\1"),
    (r"bn1\.(.+)", r"stem.1.\1"),
    (r"(layer\d+\.\d+)\.conv(\d)\.(.+)", r"\1.conv\2.0.\3"),
    (r"(layer\d+\.\d+)\.bn(\d)\.(.+)", r"\1.conv\2.1.\3"),
    (r"(layer\d+\.\d+\.downsample\.[01]\..+)", r"\1"),
    (r"(fc\.(?:weight|bias))", r"\1"),
]
RESNET_2PLUS1D_RULES: Rules = [
    (r"conv1_s\.(.+)", r"stem.0.\1"),
    (r"bn1_s\.(.+)", r"stem.1.\1"),
    (r"conv1_t\.(.+)", r"stem.3.\1"),
    (r"bn1_t\.(.+)", r"stem.4.\1"),
    (r"(layer\d+\.\d+)\.conv(\d)_s\.(.+)", r"\1.conv\2.0.0.\3"),
    (r"(layer\d+\.\d+)\.bn(\d)_s\.(.+)", r"\1.conv\2.0.1.\3"),
    (r"(layer\d+\.\d+)\.conv(\d)_t\.(.+)", r"\1.conv\2.0.3.\3"),
    (r"(layer\d+\.\d+)\.bn(\d)_t\.(.+)", r"\1.conv\2.1.\3"),
    *RESNET_RULES,
]
DEPTHS = (10, 18, 34, 50, 101, 152, 200)
# Classes of the merged data sets that only the release of 2020 has: K700, KM, KMS, KS, M, MS.
CLASSES_2020 = (700, 1039, 1139, 800, 339, 439)


def _resnets3d(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    if tensors["conv1.weight"].dim() == 4:
        return _resnet2d(tensors)
    names = rename(tensors, RESNET_RULES)
    stages, bottleneck = _stages(tensors, "layer1.0.conv3.weight")
    width = _side(tensors, "conv1.weight", 0)
    if _side(tensors, "conv1.weight", 2) != 7:
        raise UnknownLayoutError(f"a stem of {list(tensors['conv1.weight'].shape[2:])} in the names of 3D-ResNets")
    if bottleneck and _side(tensors, "layer1.0.conv2.weight", 1) != _side(tensors, "layer1.0.conv2.weight", 0):
        raise UnknownLayoutError("a ResNeXt of 3D-ResNets")
    name, config = _sized("resnets3d_r3d_{}", DEPTHS, stages, bottleneck, width)
    if not any(".downsample." in key for key in tensors):
        config["shortcut"] = "A"
    candidates = _resnets3d_releases(weights, config.get("shortcut", "B"))
    return Plan(layout="3d-resnets", architecture=name, config=config, names=names, candidates=candidates)


def _resnets3d_2plus1d(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    stages, bottleneck = _stages(tensors, "layer1.0.conv3.weight")
    width = _side(tensors, "bn1_t.weight", 0)
    name, config = _sized("resnets3d_r2plus1d_{}", DEPTHS[1:], stages, bottleneck, width)
    if not any(".downsample." in key for key in tensors):
        config["shortcut"] = "A"
    return Plan(
        layout="3d-resnets",
        architecture=name,
        config=config,
        names=rename(tensors, RESNET_2PLUS1D_RULES),
        candidates=(presets.RESNETS3D_2020,),  # the release of 2018 had none
    )


def _resnets3d_releases(weights: WeightsFile, shortcut: str) -> tuple[Preset, ...]:
    """Files of 2018 keep `module.` and `arch`, and use shortcut A; those of 2020 keep a scheduler."""
    if "scheduler" in weights.beside or _side(weights.tensors, "fc.weight", 0) in CLASSES_2020:
        return (presets.RESNETS3D_2020,)
    if weights.data_parallel or shortcut == "A":
        return (presets.RESNETS3D_2018,)
    return (presets.RESNETS3D_2018, presets.RESNETS3D_2020)


def _resnet2d(tensors: Tensors) -> Plan:
    stages, bottleneck = _stages(tensors, "layer1.0.conv3.weight")
    width = _side(tensors, "conv1.weight", 0)
    name, config = _sized("r2d_{}", (18, 34, 50, 101, 152), stages, bottleneck, width)
    return Plan(
        layout="torchvision-2d",
        architecture=name,
        config=config,
        names=rename(tensors, RESNET_RULES),
        candidates=(presets.TORCHVISION_2D,),
    )


# MMAction2.

MMACTION2_RULES: Rules = [
    (r"backbone\.conv1\.conv\.(.+)", r"stem.0.\1"),
    (r"backbone\.conv1\.bn\.(.+)", r"stem.1.\1"),
    (r"backbone\.(layer\d+\.\d+\.conv\d)\.conv\.(.+)", r"\1.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv\d)\.bn\.(.+)", r"\1.1.\2"),
    (r"backbone\.(layer\d+\.\d+\.downsample)\.conv\.(.+)", r"\1.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.downsample)\.bn\.(.+)", r"\1.1.\2"),
    (r"cls_head\.fc_cls\.(.+)", r"fc.\1"),
]
MMACTION2_2PLUS1D_RULES: Rules = [
    (r"backbone\.conv1\.conv\.conv_s\.(.+)", r"stem.0.\1"),
    (r"backbone\.conv1\.conv\.bn_s\.(.+)", r"stem.1.\1"),
    (r"backbone\.conv1\.conv\.conv_t\.(.+)", r"stem.3.\1"),
    (r"backbone\.conv1\.bn\.(.+)", r"stem.4.\1"),
    (r"backbone\.(layer\d+\.\d+\.(?:conv\d|downsample))\.conv\.conv_s\.(.+)", r"\1.0.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.(?:conv\d|downsample))\.conv\.bn_s\.(.+)", r"\1.0.1.\2"),
    (r"backbone\.(layer\d+\.\d+\.(?:conv\d|downsample))\.conv\.conv_t\.(.+)", r"\1.0.3.\2"),
    *MMACTION2_RULES,
]
MMACTION2_IR_RULES: Rules = [
    (r"backbone\.(layer\d+\.\d+\.conv2)\.0\.conv\.(.+)", r"\1.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv2)\.0\.bn\.(.+)", r"\1.1.\2"),
    *MMACTION2_RULES,
]
MMACTION2_IP_RULES: Rules = [
    (r"backbone\.(layer\d+\.\d+\.conv2)\.0\.conv\.(.+)", r"\1.0.0.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv2)\.0\.bn\.(.+)", r"\1.0.1.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv2)\.1\.conv\.(.+)", r"\1.0.2.\2"),
    (r"backbone\.(layer\d+\.\d+\.conv2)\.1\.bn\.(.+)", r"\1.1.\2"),
    *MMACTION2_RULES,
]
# 1.x: OmniResNet names as torchvision does, and has a classifier of images beside that of videos.
OMNI_RULES: Rules = [
    (r"cls_head\.fc3d\.2\.(.+)", r"hidden.0.\1"),
    (r"cls_head\.fc3d\.3\.(.+)", r"hidden.1.\1"),
    (r"cls_head\.fc3d\.6\.(.+)", r"fc.\1"),
    *((rf"backbone\.{pattern}", replacement) for pattern, replacement in RESNET_RULES[:-1]),
]


def _mmaction2(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    stages, bottleneck = _stages(tensors, "backbone.layer1.0.conv3.conv.weight", prefix="backbone.")
    if "backbone.conv1.conv.conv_s.weight" in tensors:
        width = _side(tensors, "backbone.conv1.bn.weight", 0)
        clips: tuple[Preset, ...] = (presets.MMACTION2_8X8, presets.MMACTION2_32X2)
        name, config, rules = "mmaction2_r2plus1d_34", {"width": width, "stages": stages}, MMACTION2_2PLUS1D_RULES
        return _mmaction2_plan(weights, name, config, rules, clips)
    stem = tensors["backbone.conv1.conv.weight"]
    width = stem.shape[0]
    if "backbone.layer1.0.conv2.0.conv.weight" in tensors:
        mode = "ip" if "backbone.layer1.0.conv2.1.conv.weight" in tensors else "ir"
        name, config = _sized(mode + "_csn_{}", (50, 101, 152), stages, True, width)
        del config["bottleneck"]
        # MMAction2 pools over the whole map, VMZ at each position.
        config["head"] = "global"
        rules = MMACTION2_IP_RULES if mode == "ip" else MMACTION2_IR_RULES
        # Networks of 50 layers are all MMAction2's own; of 152, some come from VMZ, with its mean.
        clips = (presets.MMACTION2_32X2, presets.MMACTION2_VMZ_32X2)[: 1 if name == "ir_csn_50" else 2]
        return _mmaction2_plan(weights, name, config, rules, clips)
    if stem.dim() == 4:
        name, config = _sized("r2d_{}", (18, 34, 50, 101, 152), stages, bottleneck, width)
        name = "tsn_r50" if name == "r2d_50" else name
        return _mmaction2_plan(weights, name, config, MMACTION2_RULES, (presets.MMACTION2_TSN,))
    if stem.shape[2] != 1 or not bottleneck:
        raise UnknownLayoutError(f"a 3D ResNet of MMAction2 with a stem of {list(stem.shape[2:])}")
    name, config = _sized("slowonly_r{}", (50, 101), stages, True, width)
    del config["bottleneck"]
    clips = (presets.MMACTION2_8X8,) if name == "slowonly_r101" else (presets.MMACTION2_4X16, presets.MMACTION2_8X8)
    return _mmaction2_plan(weights, name, config, MMACTION2_RULES, clips)


def _mmaction2_plan(
    weights: WeightsFile, name: str, config: dict[str, Any], rules: Rules, clips: tuple[Preset, ...]
) -> Plan:
    return Plan(
        layout="mmaction2",
        architecture=name,
        config=config,
        names=rename(weights.tensors, rules),
        candidates=_by_config_text(clips, weights.text),
    )


def _by_config_text(candidates: tuple[Preset, ...], text: str) -> tuple[Preset, ...]:
    """MMAction2 keeps the config of a run in the file: its sampling and mean decide between presets where they can."""
    clips = set(re.findall(r"clip_len=(\d+),\s*frame_interval=(\d+)", text))
    means = {round(float(mean), 1) for mean in re.findall(r"mean=\[\s*([\d.]+)", text)}
    kept = [
        preset
        for preset in candidates
        if (not clips or (str(preset.clip_spec.num_frames), str(preset.clip_spec.frame_stride)) in clips)
        and (not means or round(preset.clip_spec.mean[0], 1) in means)
    ]
    return tuple(kept) if kept else candidates


def _omni(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    stages, _ = _stages(tensors, "backbone.layer1.0.conv3.weight", prefix="backbone.")
    if "cls_head.fc3d.6.weight" not in tensors:
        raise UnknownLayoutError("an OmniResNet of MMAction2 without the hidden layer in its video head")
    return Plan(
        layout="mmaction2",
        architecture="omni_slowonly_r50",
        config={
            "width": _side(tensors, "backbone.conv1.weight", 0),
            "stages": stages,
            "hidden": _side(tensors, "cls_head.fc3d.2.weight", 0),
        },
        names=rename(tensors, OMNI_RULES),
        candidates=(presets.MMACTION2_8X8,),
        ignored={name: "the classifier of images" for name in tensors if name.startswith("cls_head.fc2d.")},
    )


# pytorchvideo.

PYTORCHVIDEO_BLOCK = r"blocks\.([1-4])\.res_blocks\.(\d+)\."
PYTORCHVIDEO_RULES: Rules = [
    (r"blocks\.0\.conv\.(.+)", r"stem.0.\1"),
    (r"blocks\.0\.norm\.(.+)", r"stem.1.\1"),
    (PYTORCHVIDEO_BLOCK + r"branch1_conv\.(.+)", r"layer\1.\2.downsample.0.\3"),
    (PYTORCHVIDEO_BLOCK + r"branch1_norm\.(.+)", r"layer\1.\2.downsample.1.\3"),
    (PYTORCHVIDEO_BLOCK + r"branch2\.conv_b\.conv_t\.(.+)", r"layer\1.\2.conv2.0.0.\3"),
    (PYTORCHVIDEO_BLOCK + r"branch2\.conv_b\.norm\.(.+)", r"layer\1.\2.conv2.0.1.\3"),
    (PYTORCHVIDEO_BLOCK + r"branch2\.conv_b\.conv_xy\.(.+)", r"layer\1.\2.conv2.0.3.\3"),
    *(
        (PYTORCHVIDEO_BLOCK + rf"branch2\.{theirs}_{letter}\.(.+)", rf"layer\1.\2.conv{number}.{part}.\3")
        for number, letter in enumerate("abc", 1)
        for part, theirs in enumerate(("conv", "norm"))
    ),
    (r"blocks\.5\.proj\.(.+)", r"fc.\1"),
]


def _pytorchvideo(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    first = "blocks.1.res_blocks.0.branch2."
    if "blocks.5.proj.weight" not in tensors or "blocks.0.conv.weight" not in tensors:
        raise UnknownLayoutError("a network of pytorchvideo that is not slow_r50, csn_r101 or r2plus1d_r50")
    stages = _counted(tensors, r"blocks\.(\d+)\.res_blocks\.(\d+)\..+")
    width = _side(tensors, "blocks.0.conv.weight", 0)
    plan = partial(Plan, layout="pytorchvideo", names=rename(tensors, PYTORCHVIDEO_RULES))
    if first + "conv_b.conv_t.weight" in tensors:
        config: dict[str, Any] = {"width": width, "stages": stages}
        clips: tuple[Preset, ...] = (presets.PYTORCHVIDEO_R2PLUS1D,)
        return plan(architecture="pytorchvideo_r2plus1d_r50", config=config, candidates=clips)
    middle = tensors[first + "conv_b.weight"]
    config = {"width": width, "stages": stages}
    if middle.shape[1] == 1 and middle.shape[2] == 3:
        clips = (presets.PYTORCHVIDEO_CSN,)
        return plan(architecture="pytorchvideo_csn_r101", config=config, candidates=clips)
    return plan(
        architecture="pytorchvideo_slow_r50",
        config=config,
        # Its hub has the first only.
        candidates=(presets.PYTORCHVIDEO_SLOW, presets.PYTORCHVIDEO_SLOW_4X16),
        assumed=("the weights for 4 frames have the same shapes: for those, choose pytorchvideo-4x16",),
    )


# I3D and EfficientNet-Lite.

I3D_RULES: Rules = [
    (r"logits\.conv3d\.(.+)", r"fc.\1"),
    *(
        (rf"{theirs}\.{unit}\.(.+)", rf"{ours}.{part}.\1")
        for theirs, ours in (("Conv3d_1a_7x7", "conv_1a"), ("Conv3d_2b_1x1", "conv_2b"), ("Conv3d_2c_3x3", "conv_2c"))
        for part, unit in enumerate(("conv3d", "bn"))
    ),
    (r"Mixed_(\d[b-f])\.(b\d[ab]?)\.conv3d\.(.+)", r"mixed_\1.\2.0.\3"),
    (r"Mixed_(\d[b-f])\.(b\d[ab]?)\.bn\.(.+)", r"mixed_\1.\2.1.\3"),
]


def _i3d(weights: WeightsFile) -> Plan:
    width = _side(weights.tensors, "Conv3d_1a_7x7.conv3d.weight", 0)
    return Plan(
        layout="i3d",
        architecture="i3d",
        config={"width": width},
        names=rename(weights.tensors, I3D_RULES),
        candidates=(presets.I3D,),
    )


EFFICIENTNET_RULES: Rules = [
    (r"_conv_stem\.(.+)", r"stem.0.\1"),
    (r"_bn0\.(.+)", r"stem.1.\1"),
    (r"_blocks\.(\d+)\._expand_conv\.(.+)", r"blocks.\1.expand.0.\2"),
    (r"_blocks\.(\d+)\._bn0\.(.+)", r"blocks.\1.expand.1.\2"),
    (r"_blocks\.(\d+)\._depthwise_conv\.(.+)", r"blocks.\1.depthwise.0.\2"),
    (r"_blocks\.(\d+)\._bn1\.(.+)", r"blocks.\1.depthwise.1.\2"),
    (r"_blocks\.(\d+)\._project_conv\.(.+)", r"blocks.\1.project.0.\2"),
    (r"_blocks\.(\d+)\._bn2\.(.+)", r"blocks.\1.project.1.\2"),
    (r"_conv_head\.(.+)", r"last.0.\1"),
    (r"_bn1\.(.+)", r"last.1.\1"),
    (r"_fc\.(.+)", r"fc.\1"),
]


def _efficientnet(weights: WeightsFile) -> Plan:
    if any("_se_" in name for name in weights.tensors):
        raise UnknownLayoutError("an EfficientNet with squeeze-and-excite (not a Lite one)")
    return Plan(
        layout="efficientnet-lite",
        architecture="tsn_efficientnet_lite0",
        config={"width": _side(weights.tensors, "_conv_stem.weight", 0)},
        names=rename(weights.tensors, EFFICIENTNET_RULES),
        candidates=(presets.EFFICIENTNET_LITE,),
    )


# A name that only this layout has -> the layout. The order is from the most specific.
LAYOUTS: list[tuple[str, Callable[[WeightsFile], Plan]]] = [
    (r"stem\.0\.weight", _torchvision_like),
    (r"backbone\.conv1\.conv\..+", _mmaction2),
    (r"cls_head\.fc[23]d\..+", _omni),
    (r"blocks\.\d+\.(?:res_blocks|conv|proj|multipathway_blocks).*", _pytorchvideo),
    (r"Conv3d_1a_7x7\.conv3d\.weight", _i3d),
    (r"_conv_stem\.weight", _efficientnet),
    (r"conv1_s\.weight", _resnets3d_2plus1d),
    (r"conv1\.weight", _resnets3d),
]


def _stages(tensors: Tensors, third_conv: str, *, prefix: str = "") -> tuple[list[int], bool]:
    """(blocks in each layer, whether they are bottlenecks)."""
    return _counted(tensors, re.escape(prefix) + r"layer(\d+)\.(\d+)\..+"), third_conv in tensors


def _counted(tensors: Tensors, pattern: str) -> list[int]:
    last: dict[int, int] = {}
    for name in tensors:
        if match := re.fullmatch(pattern, name):
            layer, block = int(match[1]), int(match[2])
            last[layer] = max(last.get(layer, 0), block)
    if sorted(last) != [1, 2, 3, 4]:
        raise UnknownLayoutError(f"layers {sorted(last) or 'none'} of blocks, not 1 to 4")
    return [last[layer] + 1 for layer in range(1, 5)]


def _sized(
    pattern: str, depths: Iterable[int], stages: list[int], bottleneck: bool, width: int
) -> tuple[str, dict[str, Any]]:
    """The architecture of that many blocks, and what differs from it in `config`. Where none has as many (VMZ's
    converter has an ip-CSN-50 of 3, 8, 6, 3), one of its kind with its own stages."""
    config: dict[str, Any] = {"width": width, "stages": stages, "bottleneck": bottleneck}
    fitting = [d for d in depths if (d >= 50) == bottleneck]
    if not fitting:
        raise UnknownLayoutError(f"{pattern.format('N')} with {'bottlenecks' if bottleneck else 'basic blocks'}")
    exact = [d for d in fitting if list(STAGES[d]) == stages]
    return pattern.format(exact[0] if exact else fitting[0]), config


def _side(tensors: Tensors, name: str, dim: int) -> int:
    """The size of one dimension; 0 where the tensor or the dimension is not there."""
    tensor = tensors.get(name)
    return tensor.shape[dim] if tensor is not None and dim < tensor.dim() else 0
