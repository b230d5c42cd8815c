"""DistillConfig: everything that decides what a distillation does: a TrainConfig with teachers and without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from tenclip_data.manifest import DEFAULT_HELD_OUT
from tenclip_settings import Setting, check_all
from tenclip_training.distill.choices import DistillLoss, FrameChoice, Normaliser, TeacherRuntime, TeacherView
from tenclip_training.omni.stills_config import StillsConfig
from tenclip_training.runs.config import VIDEOS, TrainConfig
from tenclip_training.runs.sections import SAMPLING, JointConfig, ObjectiveConfig, SamplingConfig
from tenclip_video.protocols import DEFAULT_PROTOCOL

TEACHERS = "Teachers"


@dataclass(frozen=True, kw_only=True)
class TeachingConfig:
    """The teachers, what they look at, and what the student learns from them (DistInit, sections 3 and 4.3).

    teacher_weights: of each teacher in the sum of losses (eq. 3 has 1 for all). max_entropy: one for all teachers, or
    one for each, in nats: 2.7 of the paper is for 1,000 classes. keep_percent sets each teacher's own from its outputs
    on one clip of up to `calibration_videos` videos, before the first step.
    """

    teachers: Annotated[
        tuple[str, ...],
        Setting(
            "A checkpoint of frames, an ONNX file, a bundle's folder, or efficientnet-lite0 to -lite2; NAME=... names "
            "it. Repeat for more.",
            option="--teacher",
            group=TEACHERS,
        ),
    ] = ()
    teacher_weights: Annotated[
        tuple[float, ...],
        Setting("Of each teacher's loss, in their order.", option="--teacher-weight", group=TEACHERS, default="1"),
    ] = ()
    teacher_runtime: Annotated[
        TeacherRuntime,
        Setting("What runs them; auto: OpenVINO on a CPU where it is installed, else torch.", group=TEACHERS),
    ] = "auto"
    teacher_sees: Annotated[
        TeacherView,
        Setting(
            "clip: the crop and mirror image of the student's clip, at the teacher's size; frame: whole frames, whose "
            "outputs are kept.",
            group=TEACHERS,
        ),
    ] = "clip"
    teacher_frames: Annotated[
        FrameChoice, Setting("Which frames of the clip it sees: random, centre, evenly spaced, all.", group=TEACHERS)
    ] = "random"
    teacher_frame_count: Annotated[
        int, Setting("How many of them, where they are random or uniform.", lowest=1, group=TEACHERS)
    ] = 1
    teacher_cache: Annotated[
        str | None,
        Setting("Folder of outputs, for --teacher-sees frame.", is_path=True, group=TEACHERS, default="in --out"),
    ] = None
    teacher_fps: Annotated[
        float, Setting("Frames a second whose outputs are kept; 0: all.", lowest=0, group=TEACHERS)
    ] = 4.0
    distill_loss: Annotated[
        DistillLoss,
        Setting("Soft cross entropy, or squared error of logits (with a tenth of the rate).", group=TEACHERS),
    ] = "cross-entropy"
    temperature: Annotated[float, Setting("Of the teacher's softmax.", above=0, below=math.inf, group=TEACHERS)] = 1.0
    student_temperature: Annotated[
        float, Setting("Of the student's softmax.", above=0, below=math.inf, group=TEACHERS)
    ] = 1.0
    max_entropy: Annotated[
        tuple[float, ...],
        Setting("Drop clips of which a teacher's entropy is not below this, in nats.", group=TEACHERS, default="none"),
    ] = ()
    keep_percent: Annotated[
        float | None,
        Setting(
            "Keep the clips that a teacher is surest of, in per cent.",
            above=0,
            highest=100,
            group=TEACHERS,
            default="all",
        ),
    ] = None
    calibration_videos: Annotated[
        int, Setting("Videos that --keep-percent is measured on.", lowest=1, group=TEACHERS)
    ] = 1000
    gate_mean: Annotated[
        Normaliser, Setting("The loss is the mean over clips that are kept, or over all.", group=TEACHERS)
    ] = "kept"

    def __post_init__(self) -> None:
        check_all(self)
        for name, one_for_all in (("teacher_weights", False), ("max_entropy", True)):
            values = getattr(self, name)
            fits = len(values) in (0, len(self.teachers)) or (one_for_all and len(values) == 1)
            if not fits:
                raise ValueError(f"{name} has {len(values)} values for {len(self.teachers)} teachers")
            if any(not 0 < value < math.inf for value in values):
                raise ValueError(f"{name} must be above 0, got {', '.join(f'{v:g}' for v in values)}")
        if self.max_entropy and self.keep_percent is not None:
            raise ValueError("max_entropy and keep_percent are two ways to set a threshold: give one of them")
        if self.teacher_frame_count > 1 and self.teacher_frames in ("center", "all"):
            raise ValueError(f"teacher_frame_count is for random and uniform frames, not for {self.teacher_frames}")
        if self.teacher_cache is not None and self.teacher_sees != "frame":
            raise ValueError(
                "teacher_cache keeps outputs of whole frames (teacher_sees frame); the crops of clips are new ones at "
                "each visit"
            )
        if self.distill_loss == "mse" and (self.temperature, self.student_temperature) != (1.0, 1.0):
            raise ValueError("temperatures belong to a softmax; with distill_loss mse leave them at 1")

    @property
    def frames_per_second(self) -> float | None:
        """Of the cache's grid; None: every frame."""
        return self.teacher_fps or None

    def weight(self, teacher: int) -> float:
        """Of the teacher with that number."""
        return self.teacher_weights[teacher] if self.teacher_weights else 1.0

    def threshold(self, teacher: int) -> float | None:
        """The entropy that is set for the teacher with that number; None: none is, or `keep_percent` will."""
        if not self.max_entropy:
            return None
        return self.max_entropy[teacher if len(self.max_entropy) > 1 else 0]


_HIDDEN = Setting("Needs labels.", exposed=False)


@dataclass(frozen=True, kw_only=True)
class UnlabelledSampling(SamplingConfig):
    """Which clips an epoch draws: every video in turn, since there are no classes."""

    tags: Annotated[Any, _HIDDEN] = "soft"
    class_power: Annotated[Any, _HIDDEN] = None
    class_cap: Annotated[Any, _HIDDEN] = None
    draws: Annotated[
        int | None,
        Setting("Clips in an epoch of all processes.", lowest=1, group=SAMPLING, default="as many as there are videos"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """The settings of a distillation: those of `TrainConfig` that need no labels, and `teaching`.

    >>> config = DistillConfig(manifest="videos", out="run", teaching=TeachingConfig(teachers=("efficientnet-lite0",)))
    >>> config.changed(teacher_frames="center").teaching.teacher_frames
    'center'
    """

    manifest: Annotated[
        str,
        Setting(
            "Videos without labels: a folder, at any depth, or a list or table as tenclip train reads it.",
            option="VIDEOS",
            is_path=True,
        ),
    ]
    train_split: Annotated[str, Setting("Split to learn from.", group=VIDEOS, default="all but those called test")] = ""
    labels: Annotated[str | None, _HIDDEN] = None
    label_column: Annotated[str | None, _HIDDEN] = None
    val_split: Annotated[str | None, _HIDDEN] = None
    held_out: Annotated[float, _HIDDEN] = DEFAULT_HELD_OUT
    whole_videos: Annotated[bool, _HIDDEN] = False
    leaks: Annotated[Any, _HIDDEN] = "error"
    val_every: Annotated[int, _HIDDEN] = 1
    val_protocol: Annotated[str, _HIDDEN] = DEFAULT_PROTOCOL
    heads: Annotated[tuple[str, ...], _HIDDEN] = ()
    stills: Annotated[StillsConfig, _HIDDEN] = field(default_factory=StillsConfig)
    objective: Annotated[ObjectiveConfig, _HIDDEN] = field(default_factory=ObjectiveConfig)
    joint: Annotated[JointConfig, _HIDDEN] = field(default_factory=JointConfig)
    sampling: UnlabelledSampling = field(default_factory=UnlabelledSampling)
    teaching: TeachingConfig = field(default_factory=TeachingConfig)

    @classmethod
    def sections(cls) -> dict[str, type[Any]]:
        """The fields that are dataclasses of their own, with their types."""
        return {**super().sections(), "sampling": UnlabelledSampling, "teaching": TeachingConfig}
