"""Which family's network a set of weights is: told by the names and shapes of tensors, never by the file's name.

A layout recognises one family's names and says which of our architectures they are, under which names, and which inputs
(presets) the authors trained it on. Widths and depths come from the shapes. MMAction2's and pytorchvideo's layouts have
modules of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tenclip_training.loaders import presets
from tenclip_training.loaders.caffe2 import is_caffe2, torch_names
from tenclip_training.loaders.files import WeightsFile, common_prefix, without_prefix
from tenclip_training.loaders.mmaction2 import mmaction2, omni
from tenclip_training.loaders.plans import Plan, Rules, Tensors, UnknownLayoutError, rename, side, sized, stages_in
from tenclip_training.loaders.presets import Preset
from tenclip_training.loaders.pytorchvideo import pytorchvideo
from tenclip_training.models.blocks import mid_planes

MAX_PREFIXES = 6  # parts in front of all names: `_orig_mod.module.model.backbone.` and the like


def recognise(weights: WeightsFile) -> tuple[Plan, WeightsFile] | None:
    """The plan, and the weights without the prefix of all their names. None where no family has such names.

    Raises UnknownLayoutError for a network of a known family that is not in the zoo.
    """
    for _ in range(MAX_PREFIXES):
        plan = _plan(weights)
        if plan is not None:
            return plan, weights
        prefix = common_prefix(weights.tensors)
        if not prefix:
            return _network_among_others(weights)
        tensors = without_prefix(weights.tensors, prefix)
        weights = replace(weights, tensors=tensors, prefix=weights.prefix + prefix)
    return None


def _network_among_others(weights: WeightsFile) -> tuple[Plan, WeightsFile] | None:
    """A network whose names share a prefix, in a file that also has other tensors (those of a loss, for example)."""
    firsts = sorted({name.partition(".")[0] for name, value in weights.tensors.items() if "." in name and value.dim()})
    groups = {f: {n: v for n, v in weights.tensors.items() if n.startswith(f"{f}.")} for f in firsts}
    found = {first: result for first in firsts if (result := _alone(weights, groups[first])) is not None}
    if len(found) > 1:
        raise UnknownLayoutError(
            f"{len(found)} networks in one file, under {', '.join(map(repr, found))}; save the tensors of one of them"
        )
    for first, (plan, network) in found.items():
        others = [name for name in weights.tensors if name not in groups[first]]
        note = f"{len(others)} tensors beside the network {first!r} left out: {', '.join(others[:5])}"
        return plan, replace(network, notes=(*weights.notes, note))
    return None


def _alone(weights: WeightsFile, tensors: Tensors) -> tuple[Plan, WeightsFile] | None:
    if len(tensors) == len(weights.tensors):
        return None
    try:
        return recognise(replace(weights, tensors=dict(tensors)))
    except UnknownLayoutError:
        return None


def _plan(weights: WeightsFile) -> Plan | None:
    tensors = weights.tensors
    if is_caffe2(tensors):
        return _caffe2(tensors)
    for marker, layout in LAYOUTS:
        if any(re.fullmatch(marker, name) for name in tensors):
            return layout(weights)
    return None


# torchvision, VMZ's PyTorch code and ig65m: their names are ours.

VMZ_STEM_POOL = "whether the stem has a max pool (VMZ's use_pool1) does not show in weights; taken without one"
VMZ_STEM_POOL_152 = (
    VMZ_STEM_POOL
    + ", as the published figures of the 152-layer network say, though VMZ's PyTorch code has one there by "
    "default: for weights trained with that code choose stem_pool=True"
)
RESNETS3D_2018_LIKELY = (
    "names that begin with module. and shortcuts without weights are those of the release of 2018, whose input is "
    "0-255; for the release of 2020 choose 3d-resnets-2020"
)
RESNETS3D_STEM_POOL = (
    "whether the stem has a max pool (no_max_pool of 3D-ResNets) does not show in weights; taken with one"
)


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
    """The plan for tensors with torchvision's names. The middle planes tell VMZ's basic blocks from torchvision's."""
    stages, bottleneck = stages_in(tensors, "layer1.0.conv3.0.weight")
    width = side(tensors, "layer1.0.conv1.1.weight", 0)
    plan = partial(Plan, layout=layout, names=names)
    if "stem.3.weight" in tensors and not bottleneck and _shares_mid_planes(tensors, width):
        config = {"width": width, "stages": stages}
        return plan(architecture="torchvision_r2plus1d_18", config=config, candidates=(presets.TORCHVISION,))
    if "stem.3.weight" in tensors:
        name, config = sized("r2plus1d_{}", (10, 18, 34, 50, 101, 152), stages, bottleneck, width)
        classes = side(tensors, "fc.weight", 0)
        return plan(
            architecture=name,
            config=config,
            candidates=_vmz_clips(name, classes),
            unseen={"stem_pool": VMZ_STEM_POOL_152 if name == "r2plus1d_152" else VMZ_STEM_POOL},
            settings={"use_pool1": "stem_pool"},
        )
    if bottleneck:
        mode = "ip" if "layer1.0.conv2.0.2.weight" in tensors else "ir"
        if mode == "ir" and side(tensors, "layer1.0.conv2.0.weight", 1) != 1:
            raise UnknownLayoutError("bottlenecks of whole 3D convolutions, in torchvision's names")
        name, config = sized(mode + "_csn_{}", (50, 101, 152), stages, True, width)
        del config["bottleneck"]
        return plan(architecture=name, config=config, candidates=(presets.VMZ_CSN,))
    mixed = side(tensors, "layer2.0.conv1.0.weight", 2) == 1
    name = "torchvision_mc3_18" if mixed else "torchvision_r3d_18"
    config = {"width": width, "stages": stages}
    return plan(architecture=name, config=config, candidates=(presets.TORCHVISION,))


def _shares_mid_planes(tensors: Tensors, width: int) -> bool:
    """Whether the first block of layer2 has torchvision's middle planes in its second convolution (230 at width 64),
    and not VMZ's (288)."""
    mid = side(tensors, "layer2.0.conv2.0.0.weight", 0)
    return mid == mid_planes(width, 2 * width) != mid_planes(2 * width, 2 * width)


def _vmz_clips(name: str, classes: int) -> tuple[Preset, ...]:
    """The clips that a depth was published for. R(2+1)D-34 has weights of one shape for 8 and for 32 frames."""
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
    stages, bottleneck = stages_in(tensors, "layer1.0.conv3.weight")
    width = side(tensors, "conv1.weight", 0)
    stem_frames, *stem_sides = tensors["conv1.weight"].shape[2:]
    if stem_frames % 2 == 0 or stem_sides != [7, 7]:
        raise UnknownLayoutError(f"a stem of {[stem_frames, *stem_sides]} in the names of 3D-ResNets")
    if bottleneck and side(tensors, "layer1.0.conv2.weight", 1) != side(tensors, "layer1.0.conv2.weight", 0):
        raise UnknownLayoutError("a ResNeXt of 3D-ResNets")
    name, config = sized("resnets3d_r3d_{}", DEPTHS, stages, bottleneck, width)
    if not any(".downsample." in key for key in tensors):
        config["shortcut"] = "A"
    if stem_frames != 7:  # conv1_t_size
        config["stem_frames"] = stem_frames
    candidates, assumed = _resnets3d_releases(weights, config.get("shortcut", "B"))
    return Plan(
        layout="3d-resnets",
        architecture=name,
        config=config,
        names=names,
        candidates=candidates,
        assumed=assumed,
        unseen={"stem_pool": RESNETS3D_STEM_POOL},
        settings={"no_max_pool": "!stem_pool"},
    )


def _resnets3d_2plus1d(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    stages, bottleneck = stages_in(tensors, "layer1.0.conv3.weight")
    width = side(tensors, "bn1_t.weight", 0)
    name, config = sized("resnets3d_r2plus1d_{}", DEPTHS[1:], stages, bottleneck, width)
    if not any(".downsample." in key for key in tensors):
        config["shortcut"] = "A"
    return Plan(
        layout="3d-resnets",
        architecture=name,
        config=config,
        names=rename(tensors, RESNET_2PLUS1D_RULES),
        candidates=(presets.RESNETS3D_2020,),  # the release of 2018 had none
        unseen={"stem_pool": RESNETS3D_STEM_POOL},
        settings={"no_max_pool": "!stem_pool"},
    )


def _resnets3d_releases(weights: WeightsFile, shortcut: str) -> tuple[tuple[Preset, ...], tuple[str, ...]]:
    """(the releases that it may be of, what makes the first the likely one).

    Files of 2018 keep `module.` and `arch`, and use shortcut A; those of 2020 keep a scheduler.
    """
    if "scheduler" in weights.beside or side(weights.tensors, "fc.weight", 0) in CLASSES_2020:
        return (presets.RESNETS3D_2020,), ()
    if weights.prefix.startswith("module.") or shortcut == "A":
        return (presets.RESNETS3D_2018, presets.RESNETS3D_2020), (RESNETS3D_2018_LIKELY,)
    return (presets.RESNETS3D_2018, presets.RESNETS3D_2020), ()


def _resnet2d(tensors: Tensors) -> Plan:
    stages, bottleneck = stages_in(tensors, "layer1.0.conv3.weight")
    width = side(tensors, "conv1.weight", 0)
    name, config = sized("r2d_{}", (18, 34, 50, 101, 152), stages, bottleneck, width)
    return Plan(
        layout="torchvision-2d",
        architecture=name,
        config=config,
        names=rename(tensors, RESNET_RULES),
        candidates=(presets.TORCHVISION_2D,),
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
    width = side(weights.tensors, "Conv3d_1a_7x7.conv3d.weight", 0)
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
    # Lite1 and Lite2 have as many blocks; the planes of the third stage tell them apart.
    width = side(weights.tensors, "_conv_stem.weight", 0)
    size, preset = "lite0", presets.EFFICIENTNET_LITE
    if "_blocks.20._project_conv.weight" in weights.tensors:
        wider = side(weights.tensors, "_blocks.4._project_conv.weight", 0) * 32 > 40 * width
        size, preset = ("lite2", presets.EFFICIENTNET_LITE2) if wider else ("lite1", presets.EFFICIENTNET_LITE1)
    return Plan(
        layout="efficientnet-lite",
        architecture=f"tsn_efficientnet_{size}",
        config={"width": width},
        names=rename(weights.tensors, EFFICIENTNET_RULES),
        candidates=(preset,),
    )


# A name that only this layout has -> the layout. The order is from the most specific.
LAYOUTS: list[tuple[str, Callable[[WeightsFile], Plan]]] = [
    (r"stem\.0\.weight", _torchvision_like),
    (r"(?:backbone\.)?(?:(?:slow_path\.)?conv1|conv1_s)\.conv\..+", mmaction2),
    (r"cls_head\.fc[23]d\..+", omni),
    (r"blocks\.\d+\.(?:res_blocks|conv|proj|multipathway_blocks).*", pytorchvideo),
    (r"Conv3d_1a_7x7\.conv3d\.weight", _i3d),
    (r"_conv_stem\.weight", _efficientnet),
    (r"conv1_s\.weight", _resnets3d_2plus1d),
    (r"conv1\.weight", _resnets3d),
]
