"""What a distillation would do: the plan of its run, and what its teachers would look at, without training anything.

M frames of a clip for a teacher, K classes of one.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenclip_api.errors import VideoError
from tenclip_data.samples import Sample
from tenclip_training.devices import find_device
from tenclip_training.distill.config import DistillConfig
from tenclip_training.distill.frame_choice import choose_frames
from tenclip_training.distill.frame_stream import grid
from tenclip_training.distill.method import DistillMethod
from tenclip_training.distill.sources import load_teachers
from tenclip_training.distill.teacher import FrameTeacher
from tenclip_training.runs.dry_run import RunPlan, plan_run
from tenclip_video.video import open_video

_TRIED_FRAMES = 16
_PROBED_VIDEOS = 16


@dataclass(frozen=True, kw_only=True)
class TeacherPlan:
    """Who a teacher is, and how many frames it looks at, for all processes together.

    classes: K. side: of its frames, in pixels. weight, max_entropy, keep_percent: of its loss. kept_videos: whose
    outputs are kept from earlier runs. frames_before: before the first step, for thresholds, or for outputs that are
    kept; the latter is an estimate from a few videos. speed: frames a second that it looks at on this machine, measured
    on a few of noise.
    """

    name: str
    source: str
    runtime: str
    classes: int
    side: int
    weight: float
    max_entropy: float | None
    keep_percent: float | None
    kept_videos: int
    frames_before: int
    frames_per_epoch: int
    frames: int
    speed: float

    @property
    def seconds(self) -> float:
        """That it needs in the whole run, as fast as it is here; without decoding."""
        return self.frames / self.speed

    def line(self) -> str:
        """The same in words."""
        gate = "" if self.max_entropy is None else f", for clips below {self.max_entropy:g} nats"
        gate = gate if self.keep_percent is None else f", for the {self.keep_percent:g}% that it is surest of"
        kept = f" (outputs of {self.kept_videos:,} videos are there)" if self.kept_videos else ""
        return (
            f"teacher {self.name}: a head of {self.classes:,} classes, weight {self.weight:g}{gate}; looks at "
            f"{self.frames_before:,} frames before the first step{kept} and {self.frames_per_epoch:,} an epoch, "
            f"{self.frames:,} in all: {self.seconds:,.1f} s at {self.speed:,.0f} a second, measured here"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class DistillPlan:
    """run: as of any run. clips_per_epoch: of all processes. clip_frames: T. frames_per_clip: M, those for teachers."""

    run: RunPlan
    teachers: tuple[TeacherPlan, ...]
    clips_per_epoch: int
    clip_frames: int
    frames_per_clip: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the run, and of the teachers."""
        teachers = [{**dataclasses.asdict(teacher), "seconds": teacher.seconds} for teacher in self.teachers]
        return {
            **self.run.to_dict(),
            "clips_per_epoch": self.clips_per_epoch,
            "frames_per_clip": self.frames_per_clip,
            "teachers": teachers,
        }

    def lines(self) -> list[str]:
        """What is learned from, in words."""
        clips = (
            f"{self.clips_per_epoch:,} clips an epoch, every video in turn; of each the teachers see "
            f"{self.frames_per_clip} of {self.clip_frames} frames"
        )
        return [clips, *(teacher.line() for teacher in self.teachers)]


def plan_distill(config: DistillConfig, *, world_size: int = 1) -> DistillPlan:
    """Load the teachers, read the videos and make the student, as `world_size` processes would. Writes nothing.

    Raises what `distill` raises for teachers, videos, kept outputs of other teachers and a student that will not do.
    """
    teaching = config.teaching
    teachers = load_teachers(teaching.teachers, runtime=teaching.teacher_runtime, device=find_device(config.device))
    method = DistillMethod(config, teachers)
    run = plan_run(config, world_size=world_size, method=method)
    assert method.manifest is not None
    samples = method.manifest.samples
    rng = np.random.default_rng(0)
    clip_frames = config.sampling.segments or run.spec.num_frames
    per_clip = len(choose_frames(teaching.teacher_frames, teaching.teacher_frame_count, clip_frames, rng))
    clips = config.sampling.draws or len(samples) * config.sampling.clips_per_video
    plan = functools.partial(_teacher_plan, method, samples, frames_per_epoch=clips * per_clip, per_clip=per_clip)
    return DistillPlan(
        run=run,
        teachers=tuple(plan(number) for number in range(len(teachers))),
        clips_per_epoch=clips,
        clip_frames=clip_frames,
        frames_per_clip=per_clip,
    )


def _teacher_plan(
    method: DistillMethod, samples: Sequence[Sample], number: int, *, frames_per_epoch: int, per_clip: int
) -> TeacherPlan:
    teacher, teaching = method.teachers[number], method.teaching
    kept = 0
    if teaching.teacher_sees == "frame":
        cache = method.cache_of(teacher)
        missing = [sample for sample in samples if sample not in cache]
        kept, before, frames_per_epoch = len(samples) - len(missing), _grid_frames(missing, cache.rate), 0
    else:
        measures = teaching.keep_percent is not None and teaching.keep_percent < 100
        before = min(len(samples), teaching.calibration_videos) * per_clip if measures else 0
    return TeacherPlan(
        name=teacher.name,
        source=teacher.source,
        runtime=teacher.network.runtime,
        classes=teacher.num_classes,
        side=teacher.spec.crop,
        weight=teaching.weight(number),
        max_entropy=teaching.threshold(number),
        keep_percent=teaching.keep_percent,
        kept_videos=kept,
        frames_before=before,
        frames_per_epoch=frames_per_epoch,
        frames=before + method.config.epochs * frames_per_epoch,
        speed=_speed(teacher),
    )


def _grid_frames(samples: Sequence[Sample], rate: float | None) -> int:
    """Frames of the grids of all videos, by those of a few that are evenly spaced among them and can be read."""
    places = np.linspace(0, len(samples) - 1, min(_PROBED_VIDEOS, len(samples))).round().astype(int)
    counts = []
    for place in places.tolist():
        try:
            with open_video(samples[place].source(), name=samples[place].name) as video:
                counts.append(len(grid(video.times, rate)))
        except VideoError:
            continue
    return round(len(samples) * float(np.mean(counts))) if counts else 0


def _speed(teacher: FrameTeacher) -> float:
    """Frames a second; it has looked at some before, when it was loaded."""
    side = teacher.spec.crop
    noise = np.random.default_rng(0).integers(0, 256, (_TRIED_FRAMES, side, side, 3), dtype=np.uint8)
    started = time.perf_counter()
    teacher(noise)
    return _TRIED_FRAMES / (time.perf_counter() - started)
