"""DistInit (Girdhar et al. 2019), section 3.2: distillation without labels, fine-tuning, and training from scratch.

Rates are those of one GPU: with 24 clips a GPU, 0.01 in all would be 6.5e-6 a clip, a sixtieth of what R(2+1)D takes.
`tenclip distill --recipe` takes the pre-training, with teachers of your own; `tenclip train --recipe` the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tenclip_training.recipes.recipe import Recipe

PAPER = "DistInit"
PRETRAIN_GPUS, FINETUNE_GPUS = 64, 16
CLIPS_A_GPU = 24
CLIPS_AN_EPOCH, FINETUNE_CLIPS_AN_EPOCH = 1_000_000, 40_000
STUDENTS = {"r2plus1d-18": "r2plus1d_18", "r3d-18": "torchvision_r3d_18"}
TARGETS = {"hmdb": "HMDB-51", "ucf": "UCF-101"}

_OPTIMISER = "momentum 0.9, plain, and weight decay on every parameter: those of the authors' code (VMZ)"
_WARMUP = "no warm-up: the text gives none; the paper that it takes its other settings from has 10 epochs"
_BATCH = "24 clips a GPU, as in pre-training: the paper gives none for this"

# Variants of the pre-training: what the student's clips have, and what it learns (tables 2, 3 and 6, figure 6).
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "": ("section 3.2, table 2", "one random frame", {}),
    "-center": ("table 1", "the centre frame", {"teacher_frames": "center"}),
    "-2random": ("table 2", "two random frames", {"teacher_frame_count": 2}),
    "-mse": (
        "table 3",
        "squared error of logits, a tenth of the rate",
        {"teacher_frames": "center", "distill_loss": "mse", "lr": 0.001},
    ),
    "-entropy": (
        "figure 6",
        "clips of entropy below 2.7 alone, for teachers of 1,000 classes",
        {"teacher_frames": "center", "max_entropy": (2.7,)},
    ),
    "-32f": ("table 6", "one random frame, clips of 32", {"num_frames": 32}),
    "-flow": ("table 5", "one random frame, clips of optical flow", {"modality": "flow"}),
}


def recipes() -> Iterator[Recipe]:
    """All of the paper's."""
    for student, architecture in STUDENTS.items():
        for suffix, (place, what, values) in VARIANTS.items():
            yield _pretrain(student, architecture, suffix, place, what, values)
    for target in TARGETS:
        for suffix, frames in (("", 8), ("-32f", 32)):
            yield _finetune(target, suffix, frames)
        yield _inflated(target, "")
        yield _inflated(target, "-flow")
        for student, architecture in STUDENTS.items():
            yield _scratch(target, student, architecture)


def _pretrain(student: str, architecture: str, suffix: str, place: str, what: str, values: dict[str, Any]) -> Recipe:
    ours = [_OPTIMISER, _WARMUP, "the teachers: ResNet-50 on ImageNet and on Places-365 in the paper"]
    if suffix == "-32f":
        ours.append("32 frames in pre-training, too: the paper does not say")
    if suffix == "-flow":
        ours.append("dense inverse search, clipped at 20 pixels a frame: the paper names neither")
    return Recipe(
        name=f"distinit/pretrain/{student}{suffix}",
        paper=PAPER,
        place=place,
        summary=f"{student} from image teachers: {what}",
        gpus=PRETRAIN_GPUS,
        command="distill",
        values={
            **_clips(8),
            "architecture": architecture,
            "epochs": 45,
            "batch_size": CLIPS_A_GPU,
            "draws": CLIPS_AN_EPOCH,
            **_steps(0.01, (10.0,) * 4),
            "weight_decay": 1e-4,
            "teacher_frames": "random",
            **values,
        },
        ours=tuple(ours),
    )


def _finetune(target: str, suffix: str, frames: int) -> Recipe:
    return Recipe(
        name=f"distinit/finetune/{target}{suffix}",
        paper=PAPER,
        place="section 3.2" if frames == 8 else "table 6",
        summary=f"{TARGETS[target]}, all layers",
        gpus=FINETUNE_GPUS,
        values={**_clips(frames), **_target(), "epochs": 8, **_steps(0.002, (2.0,) * 3)},
        starts_from="student.pt of a distillation",
        ours=(_OPTIMISER, _WARMUP, _BATCH),
    )


def _inflated(target: str, suffix: str) -> Recipe:
    flow = {"modality": "flow"} if suffix else {}
    what = "of optical flow, first kernels averaged over colours" if suffix else "the baseline"
    return Recipe(
        name=f"distinit/finetune-inflated/{target}{suffix}",
        paper=PAPER,
        place="table 5" if suffix else "table 1",
        summary=f"{TARGETS[target]}, R3D-18 inflated from a ResNet-18: {what}",
        gpus=FINETUNE_GPUS,
        values={
            **_clips(8),
            **_target(),
            "architecture": STUDENTS["r3d-18"],
            "inflate": True,
            "inflate_scale": False,
            "epochs": 8,
            **_steps(0.002, (2.0,) * 3),
            **flow,
        },
        starts_from="a ResNet-18 on ImageNet",
        ours=(_OPTIMISER, _WARMUP, _BATCH, "kernels are repeated and not divided, as the text has it"),
    )


def _scratch(target: str, student: str, architecture: str) -> Recipe:
    return Recipe(
        name=f"distinit/scratch/{target}-{student}",
        paper=PAPER,
        place="section 3.2",
        summary=f"{TARGETS[target]}, {student} from random weights",
        gpus=FINETUNE_GPUS,
        values={**_clips(8), **_target(), "architecture": architecture, "epochs": 45, **_steps(0.01, (10.0,) * 4)},
        ours=(_OPTIMISER, _WARMUP, _BATCH, "weight decay and clips of an epoch are those of fine-tuning"),
    )


def _clips(frames: int) -> dict[str, Any]:
    return {"num_frames": frames, "frame_stride": 1, "resize": (128, 171), "crop": 112, "flip": True}


def _target() -> dict[str, Any]:
    return {"batch_size": CLIPS_A_GPU, "draws": FINETUNE_CLIPS_AN_EPOCH, "weight_decay": 5e-3}


def _steps(rate: float, steps: tuple[float, ...]) -> dict[str, Any]:
    return {
        "lr": rate,
        "lr_scaling": "linear",
        "kind": "steps",
        "lr_steps": steps,
        "warmup_epochs": 0.0,
        "momentum": 0.9,
        "nesterov": False,
        "decay_all": True,
    }
