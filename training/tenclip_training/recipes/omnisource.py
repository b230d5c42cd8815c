"""OmniSource (Duan et al. 2020): TSN, SlowOnly and ir-CSN on a target alone, and with auxiliary sources beside it.

The paper has no training settings, and its supplement is not public. These are of the code that its authors released
(MMAction2 of 2020), on 8 GPUs; that code makes a step with each source in turn, and its images are replicated frames.
The recipes `omni` follow the paper's eq. 1 (all sources in each step) at its ratio of 2:1:1:1, `omni-alternate` that.
Name the sources with --aux: images, clips, untrimmed videos; for another number of them give --ratio, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tenclip_training.recipes.recipe import Recipe

PAPER = "OmniSource"
GPUS = 8
RATIO = (2, 1, 1, 1)
IMAGES_A_GPU = 64
# OmniSource, table 10.
POWER = 0.2
# MMAction2's; the paper gives none.
MIXUP_ALPHA = 0.2

_OURS = (
    "every value: the paper has no training settings; these are of the code that its authors released",
    "no dropout: the code has 0.4 for TSN and 0.5 for the others before the classifier, and these networks have none",
    "random squares of 0.28 to 1 of the short side, for crops of 8% to 100% of the area",
)
_JOINT = (
    "classes of each source are drawn by N^0.2, the best of table 10",
    "images are replicated, as in the code; --images warp --motion FILE is the best of table 8, and for clips alone",
)


@dataclass(frozen=True, kw_only=True)
class Student:
    """A network with the settings of its training. rate: of all GPUs. paper: where its accuracy stands."""

    name: str
    summary: str
    batch_size: int
    rate: float
    values: dict[str, Any]
    paper: str
    starts_from: str = ""
    from_scratch: bool = False
    ours: tuple[str, ...] = ()
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)


def _clips(frames: int, stride: int) -> dict[str, Any]:
    """A short edge of 256, a random square of it at 224; ImageNet's mean and standard deviation."""
    return {
        "num_frames": frames,
        "frame_stride": stride,
        "resize": (256,),
        "resize_kernel": "opencv_bilinear",
        "crop": 224,
        "fully_convolutional_crop": 0,
        "mean": (123.675, 116.28, 103.53),
        "std": (58.395, 57.12, 57.375),
        "value_range": "0-255",
        "scale": (0.28, 1.0),
    }


_STEPS = {"epochs": 100, "kind": "steps", "lr_steps": (40.0, 40.0), "lr_factor": 0.1, "warmup_epochs": 0.0}
_TSN = {"architecture": "tsn_r50", **_clips(1, 1), **_STEPS, "max_gradient_norm": 40.0, "val_protocol": "tsn-25"}
_SLOWONLY = {"epochs": 256, "kind": "cosine", "warmup_epochs": 0.0, "val_protocol": "mmaction2-10x3"}
_NO_WARMUP = "no warm-up: none is recorded"

STUDENTS = (
    Student(
        name="tsn-r50-3seg",
        summary="TSN of 3 segments, ResNet-50, to Kinetics-400",
        batch_size=12,
        rate=0.01,
        values={**_TSN, "segments": 3},
        paper="table 2",
        starts_from="ResNet-50 pre-trained on ImageNet",
        ours=("12 videos a GPU, those of 8 segments",),
    ),
    Student(
        name="tsn-r50-8seg",
        summary="TSN of 8 segments, ResNet-50, to Mini-Kinetics",
        batch_size=12,
        rate=0.00375,
        values={**_TSN, "segments": 8},
        paper="the released code (77.4, with all sources 81.3)",
        starts_from="ResNet-50 pre-trained on ImageNet",
    ),
    Student(
        name="slowonly-4x16-r50",
        summary="SlowOnly 4x16, ResNet-50, from random weights, to Kinetics-400",
        batch_size=8,
        rate=0.1,
        values={"architecture": "slowonly_r50", **_clips(4, 16), **_SLOWONLY},
        paper="table 3",
        from_scratch=True,
        ours=(_NO_WARMUP,),
    ),
    Student(
        name="slowonly-8x8-r50",
        summary="SlowOnly 8x8, ResNet-50, from random weights, to Mini-Kinetics",
        batch_size=12,
        rate=0.15,
        values={"architecture": "slowonly_r50", **_clips(8, 8), **_SLOWONLY},
        paper="the released code (78.6, with all sources 82.9)",
        from_scratch=True,
        ours=(_NO_WARMUP,),
    ),
    Student(
        name="slowonly-8x8-r101",
        summary="SlowOnly 8x8, ResNet-101, from random weights, to Kinetics-400",
        batch_size=12,
        rate=0.15,
        values={"architecture": "slowonly_r101", **_clips(8, 8), **_SLOWONLY},
        paper="table 3",
        from_scratch=True,
        ours=(_NO_WARMUP, "batch and rate of ResNet-50's"),
    ),
    Student(
        name="ir-csn-152",
        summary="ir-CSN-152 on 32x2, to Kinetics-400",
        batch_size=3,
        rate=0.000125,
        values={
            "architecture": "ir_csn_152",
            **_clips(32, 2),
            "epochs": 58,
            "kind": "steps",
            # The rate falls after epochs 32 and 48, which the warm-up is part of.
            "warmup_epochs": 16.0,
            "warmup_start": "tenth",
            "lr_steps": (16.0, 16.0),
            "lr_factor": 0.1,
            "max_gradient_norm": 40.0,
            "val_protocol": "mmaction2-10x3",
        },
        paper="table 3",
        starts_from="ir-CSN-152 pre-trained on IG-65M",
        ours=("3 clips a GPU", "gradients up to a norm of 40, as TSN's"),
        variants={"-bn-frozen": {"batch_norm": "frozen"}},
    ),
)


def recipes() -> Iterator[Recipe]:
    """Each student on the target alone, and jointly in both ways."""
    for student in STUDENTS:
        for suffix, changed in {"": {}, **student.variants}.items():
            yield _recipe(student, f"target{suffix}", "the target alone", changed)
            yield _recipe(
                student, f"omni{suffix}", "with sources", {**_joint(student), **changed}, ours=_union(student)
            )
        alternate = {**_joint(student), "cross_mixup": 0.0, "turns": "alternate", "aux_batch": _aux_batch(student)}
        how = "with sources, a step with each in turn"
        yield _recipe(student, "omni-alternate", how, alternate, ours=_JOINT)


def _joint(student: Student) -> dict[str, Any]:
    mixup = {"cross_mixup": MIXUP_ALPHA} if student.from_scratch else {}
    batch = {"batch_size": student.batch_size + student.batch_size % 2}  # a half of it is one of each source
    return {**batch, "ratio": RATIO, "aux_power": POWER, "images": "replicate", **mixup}


def _union(student: Student) -> tuple[str, ...]:
    ours: tuple[str, ...] = _JOINT
    if student.from_scratch:
        ours = (*ours, f"alpha {MIXUP_ALPHA} of cross-dataset mixup is MMAction2's; the paper gives none")
    if student.batch_size % 2:
        ours = (*ours, f"{student.batch_size + 1} clips of the target, so that 2:1 comes out even")
    return ours


def _aux_batch(student: Student) -> tuple[int, ...]:
    """Of images, clips and untrimmed videos."""
    return (IMAGES_A_GPU, student.batch_size, student.batch_size)


def _recipe(student: Student, name: str, how: str, values: dict[str, Any], *, ours: tuple[str, ...] = ()) -> Recipe:
    return Recipe(
        name=f"omnisource/{name}/{student.name}",
        paper=PAPER,
        place=student.paper,
        summary=f"{student.summary}, {how}",
        gpus=GPUS,
        values={
            **student.values,
            "batch_size": student.batch_size,
            "lr": student.rate / GPUS,
            "lr_scaling": "linear",
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 1e-4,
            "decay_all": True,
            **values,
        },
        starts_from=student.starts_from,
        ours=(*_OURS, *student.ours, *ours),
    )
