"""Distilling image teachers into video networks (DistInit, tables 1 to 4 and figure 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenclip_findings.finding import Contrast, Finding, difference
from tenclip_findings.lab.arms import LAST, R2D, STUDENT, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.sets import BRIEF, PAIRS, TEST_SEED, TEST_VIDEOS

DISTIL_CLIPS, TARGET_CLIPS, TEACHER_IMAGES = 6_000, 4_000, 16_000
UNLABELLED = 2000
TEACHER: dict[str, Any] = {
    "architecture": "r2d_18",
    "model": {**R2D, "depth": 10},  # what R3D-10 is inflated from
    "num_frames": 1,
    "images": "replicate",
    "val_protocol": "center-clip",
}


def arms(lab: Lab) -> Mapping[str, Job]:
    """Students of equal length, each fine-tuned on pairs of nouns that neither the teachers nor the unlabelled videos
    have shown. An object teacher knows nouns from stills, a scene teacher their backgrounds.
    """
    world: dict[str, Any] = {"overlap": 0.5, "held_out_nouns": 4}
    stills = lab.videos("stills", total=2000, kind="images", label="noun", seed=1000 * lab.seed + 5, **world)
    objects = lab.train("object teacher", stills, clips=TEACHER_IMAGES, **TEACHER)
    backgrounds = lab.rows(stills, label="background", title="stills by background")
    scenes = lab.train("scene teacher", backgrounds, clips=TEACHER_IMAGES, **TEACHER)
    videos = lab.videos("unlabelled", total=UNLABELLED, num_classes=8, **BRIEF, **world)
    few = lab.rows(videos, at_most=lab.count(UNLABELLED // 4, 32), title="a quarter of the unlabelled")
    target = lab.videos("target", total=160, seed=1000 * lab.seed + 1, **PAIRS)
    test = lab.clips(lab.videos("test", total=TEST_VIDEOS, seed=TEST_SEED, **PAIRS))

    def student(name: str, data: Job = videos, teacher: Job = objects, **values: Any) -> Job:
        # No mirror images, as for the directions that the supervised network learns.
        teaching = {"teacher_sees": "frame", "teacher_fps": 0.0, "teacher_frames": "random", "flip": False, **values}
        distilled = lab.distill(name, data, clips=DISTIL_CLIPS, teachers=[teacher / LAST], **teaching)
        return tuned(name, distilled / STUDENT)

    def tuned(name: str, start: Any, **values: Any) -> Job:
        return lab.finetuned(name, start, target, test, clips=TARGET_CLIPS, **values)

    supervised = lab.train("with labels", videos, clips=DISTIL_CLIPS)
    return {
        "scratch": tuned("from scratch", None),
        "inflated": tuned("inflated teacher", objects / LAST, inflate=True, inflate_scale=False),
        "inflated, scaled": tuned("inflated teacher, scaled", objects / LAST, inflate=True),
        "random frame": student("one random frame"),
        "centre frame": student("centre frame", teacher_frames="center"),
        "two random frames": student("two random frames", teacher_frame_count=2),
        "MSE": student("squared error", distill_loss="mse", lr=0.0002),
        "gate": student("the surer half", keep_percent=50.0),
        "scenes": student("scene teacher", teacher=scenes),
        "a quarter": student("a quarter of the videos", data=few),
        "supervised": tuned("after labels", supervised / LAST),
    }


FINDING = Finding(
    number=9,
    name="distinit",
    question="Does a student of image teachers beat random weights and inflation, with no label of an action?",
    paper="DistInit, tables 1 to 4 and figure 6",
    data="2,000 unlabelled videos; teachers of 2,000 stills; target: 160 videos of 16 pairs, of which "
    "four are in 62% of them",
    arms=arms,
    contrasts=(
        Contrast(
            name="distilled - scratch",
            weights=difference("random frame", "scratch"),
            paper="Res3D 39.9 - 25.4, R(2+1)D 40.3 - 24.1",
        ),
        Contrast(
            name="distilled - inflated", weights=difference("random frame", "inflated"), paper="39.9 - 35.8 = 4.1"
        ),
        Contrast(
            name="random - centre frame", weights=difference("random frame", "centre frame"), paper="43.2 - 40.3 = 2.9"
        ),
        Contrast(
            name="two - one random frame",
            weights=difference("two random frames", "random frame"),
            paper="44.0 - 43.2 = 0.8",
            below_detection=True,
        ),
        Contrast(
            name="cross entropy - MSE",
            weights=difference("random frame", "MSE"),
            paper="40.3 - 39.9 = 0.4",
            below_detection=True,
        ),
        Contrast(
            name="gate - no gate", weights=difference("gate", "random frame"), expected="no loss", paper="costs nothing"
        ),
        Contrast(name="objects - scenes", weights=difference("random frame", "scenes"), paper="40.3 - 36.8 = 3.5"),
        Contrast(
            name="all - a quarter of the unlabelled",
            weights=difference("random frame", "a quarter"),
            paper="Kinetics 40.3, with Sports-1M 41.8",
            below_detection=True,
        ),
        Contrast(
            name="supervised - distilled", weights=difference("supervised", "random frame"), paper="51.0 - 40.3 = 10.7"
        ),
    ),
    headline=(
        Contrast(name="distilled - scratch", weights=difference("random frame", "scratch"), paper="40.3 - 24.1 = 16.2"),
    ),
    baseline="scratch",
    chance=100 / 16,
    quick=True,
    notes="`inflated` repeats kernels as DistInit does; `inflated, scaled` divides them by their number of frames.",
)
