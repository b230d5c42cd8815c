"""pytorchvideo's networks: a list of `blocks` (stem, four stages, head), also as PySlowFast trains and saves them."""

from __future__ import annotations

import re
from typing import Any

from tenclip_training.loaders import presets
from tenclip_training.loaders.files import WeightsFile
from tenclip_training.loaders.plans import (
    Plan,
    Rules,
    Tensors,
    UnknownLayoutError,
    count_blocks,
    kernels_in_time,
    rename,
    side,
)

# From the names within a residual block to ours.
BLOCK: Rules = [
    (r"branch1_conv\.(.+)", r"downsample.0.{0}"),
    (r"branch1_norm\.(.+)", r"downsample.1.{0}"),
    (r"branch2\.conv_b\.conv_t\.(.+)", r"conv2.0.0.{0}"),
    (r"branch2\.conv_b\.norm\.(.+)", r"conv2.0.1.{0}"),
    (r"branch2\.conv_b\.conv_xy\.(.+)", r"conv2.0.3.{0}"),
    # X3D: batch norm and squeeze-and-excite.
    (r"branch2\.norm_b\.0\.(.+)", r"conv2.1.{0}"),
    (r"branch2\.norm_b\.1\.block\.([02]\..+)", r"squeeze.{0}"),
    *(
        (rf"branch2\.{theirs}_{letter}\.(.+)", f"conv{number}.{part}.{{0}}")
        for number, letter in enumerate("abc", 1)
        for part, theirs in enumerate(("conv", "norm"))
    ),
]
STEM: Rules = [
    # X3D's stem is over space, then over time; its names say the opposite.
    (r"blocks\.0\.conv\.conv_t\.(.+)", r"stem.0.\1"),
    (r"blocks\.0\.conv\.conv_xy\.(.+)", r"stem.1.\1"),
    (r"blocks\.0\.conv\.(.+)", r"stem.0.\1"),
]


def block_rules(block: str, layer: str) -> Rules:
    """The rules of `BLOCK` behind `block`, a pattern with the number of the block as its only group."""
    return [(rf"{block}\.{pattern}", rf"{layer}.\1." + ours.format(r"\2")) for pattern, ours in BLOCK]


def pytorchvideo(weights: WeightsFile) -> Plan:
    tensors = weights.tensors
    if any(".multipathway_blocks." in name for name in tensors):
        return _slowfast(tensors)
    indices = sorted({int(m[1]) for name in tensors if (m := re.fullmatch(r"blocks\.(\d+)\.res_blocks\..+", name))})
    if indices not in ([1, 2, 3, 4], [1, 3, 4, 5]) or not any(name.startswith("blocks.0.conv.") for name in tensors):
        raise UnknownLayoutError(
            "a network of pytorchvideo that is none of slow_r50, c2d_r50, i3d_r50, csn_r101, r2plus1d_r50, "
            "slowfast and x3d"
        )
    stages = [
        1 + max(int(m[1]) for n in tensors if (m := re.match(rf"blocks\.{i}\.res_blocks\.(\d+)\.", n))) for i in indices
    ]
    x3d = "blocks.0.conv.conv_t.weight" in tensors
    head = indices[-1] + 1
    rules: Rules = [
        *STEM,
        (r"blocks\.0\.norm\.(.+)", r"stem.2.\1" if x3d else r"stem.1.\1"),
        *(
            rule
            for n, i in enumerate(indices, 1)
            for rule in block_rules(rf"blocks\.{i}\.res_blocks\.(\d+)", f"layer{n}")
        ),
        (rf"blocks\.{head}\.pool\.pre_conv\.(.+)", r"last.0.\1"),
        (rf"blocks\.{head}\.pool\.pre_norm\.(.+)", r"last.1.\1"),
        (rf"blocks\.{head}\.pool\.post_conv\.(.+)", r"hidden.0.\1"),
        (rf"blocks\.{head}\.proj\.(.+)", r"fc.\1"),
    ]
    names = rename(tensors, rules)
    ours = {name: tensors[theirs] for theirs, name in names.items()}
    plan = _x3d(ours, stages) if x3d else _residual(ours, stages, pooled=indices == [1, 3, 4, 5])
    return Plan(layout="pytorchvideo", names=names, **plan)


def _residual(tensors: Tensors, stages: list[int], *, pooled: bool) -> dict[str, Any]:
    """Arguments of the plan, from tensors by our names. `pooled`: a max pool over time stands behind layer1."""
    config: dict[str, Any] = {"width": side(tensors, "stem.0.weight", 0), "stages": stages}
    if "layer1.0.conv2.0.0.weight" in tensors:
        return {
            "architecture": "pytorchvideo_r2plus1d_r50",
            "config": config,
            "candidates": (presets.PYTORCHVIDEO_R2PLUS1D,),
        }
    middle = tensors["layer1.0.conv2.0.weight"]
    if middle.shape[1] == 1 and middle.shape[2] == 3:
        return {"architecture": "pytorchvideo_csn_r101", "config": config, "candidates": (presets.PYTORCHVIDEO_CSN,)}
    times = kernels_in_time(tensors, "layer{layer}.{block}.conv1.0.weight", stages)
    if side(tensors, "stem.0.weight", 2) == 5:
        config |= {"reduce_times": times, "pool_frames": 2 if pooled else 1}
        return {"architecture": "pytorchvideo_i3d_r50", "config": config, "candidates": (presets.PYTORCHVIDEO_I3D,)}
    if pooled:
        return {"architecture": "pytorchvideo_c2d_r50", "config": config, "candidates": (presets.PYTORCHVIDEO_C2D,)}
    return {
        "architecture": "pytorchvideo_slow_r50",
        "config": config,
        # Its hub has the first only.
        "candidates": (presets.PYTORCHVIDEO_SLOW, presets.PYTORCHVIDEO_SLOW_4X16),
        "assumed": ("the weights for 4 frames have the same shapes: for those, choose pytorchvideo-4x16",),
    }


def _x3d(tensors: Tensors, stages: list[int]) -> dict[str, Any]:
    width = side(tensors, "stem.0.weight", 0)
    deep = stages[2] > 11  # X3D-L: 25 blocks in layer3
    small = (presets.PYTORCHVIDEO_X3D_XS, presets.PYTORCHVIDEO_X3D_S, presets.PYTORCHVIDEO_X3D_M)
    return {
        "architecture": "pytorchvideo_x3d_l" if deep else "pytorchvideo_x3d_m",
        "config": {
            "width": width,
            "stages": stages,
            "expansion": side(tensors, "layer1.0.conv1.0.weight", 0) / max(1, width),
            "hidden": side(tensors, "hidden.0.weight", 0) or 2048,
            # PySlowFast's own code has a batch norm on every shortcut.
            "shortcut_norm": "layer1.0.downsample.1.weight" in tensors,
        },
        "candidates": (presets.PYTORCHVIDEO_X3D_L,) if deep else small,
    }


def _slowfast(tensors: Tensors) -> Plan:
    first = "blocks.0.multipathway_blocks."
    if f"{first}0.conv.weight" not in tensors or f"{first}1.conv.weight" not in tensors:
        raise UnknownLayoutError("a network of pytorchvideo with several pathways that is not SlowFast")
    rules: Rules = []
    for n, path in enumerate(("slow", "fast")):
        rules += [
            (rf"blocks\.0\.multipathway_blocks\.{n}\.conv\.(.+)", rf"{path}.stem.0.\1"),
            (rf"blocks\.0\.multipathway_blocks\.{n}\.norm\.(.+)", rf"{path}.stem.1.\1"),
        ]
        for layer in range(1, 5):
            block = rf"blocks\.{layer}\.multipathway_blocks\.{n}\.res_blocks\.(\d+)"
            rules += block_rules(block, f"{path}.layer{layer}")
    rules += [
        (r"blocks\.([0-3])\.multipathway_fusion\.conv_fast_to_slow\.(.+)", r"lateral.\1.0.\2"),
        (r"blocks\.([0-3])\.multipathway_fusion\.norm\.(.+)", r"lateral.\1.1.\2"),
        (r"blocks\.6\.proj\.(.+)", r"fc.\1"),
    ]
    names = rename(tensors, rules)
    ours = {name: tensors[theirs] for theirs, name in names.items()}
    stages, fast_stages = (count_blocks(ours, rf"{path}\.layer(\d)\.(\d+)\..+") for path in ("slow", "fast"))
    width, kernel = side(ours, "slow.stem.0.weight", 0), side(ours, "lateral.0.0.weight", 2)
    slow_times = kernels_in_time(ours, "slow.layer{layer}.{block}.conv1.0.weight", stages)
    deep = stages[2] > 6
    # The published networks: kernels of 7 in R50 8x8, of 5 in R50 4x16 and in R101, where 16x8 looks over time in
    # the first blocks of layer3 only.
    clips = (presets.PYTORCHVIDEO_SLOWFAST_8X8, presets.PYTORCHVIDEO_SLOWFAST_4X16, presets.PYTORCHVIDEO_SLOWFAST_16X8)
    likely = clips[2] if deep and set(slow_times[2]) == {1, 3} else clips[0] if deep or kernel == 7 else clips[1]
    return Plan(
        layout="pytorchvideo",
        architecture="pytorchvideo_slowfast_r101" if deep else "pytorchvideo_slowfast_r50",
        config={
            "width": width,
            "beta": width // max(1, side(ours, "fast.stem.0.weight", 0)),
            "stages": stages,
            "fast_stages": fast_stages,
            "fusion_kernel": kernel,
            "lateral_norm": "lateral.0.1.weight" in ours,
            "slow_times": slow_times,
            "fast_times": kernels_in_time(ours, "fast.layer{layer}.{block}.conv1.0.weight", fast_stages),
        },
        names=names,
        candidates=(likely, *(clip for clip in clips if clip is not likely)),
        assumed=(f"the kernels between and within its pathways are those of {likely.description}",),
        settings={"alpha": "alpha"},
    )
