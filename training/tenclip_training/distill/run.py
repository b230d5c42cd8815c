"""`distill(config)`: a student learns from image teachers on videos without labels (DistInit).

The folder of the run is that of `tenclip train`, with two files more: `teachers.json` says who taught and where each
drew the line, and `student.pt`, at the end, is the network without its heads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_training.distill.config import DistillConfig
from tenclip_training.distill.method import DistillMethod
from tenclip_training.distill.sources import load_teachers
from tenclip_training.distill.teacher import FrameTeacher
from tenclip_training.loaders import load_any
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_training.runs.distributed import join_world
from tenclip_training.runs.results import EpochResult, Progress, TrainResult
from tenclip_training.runs.train import train


@dataclass(frozen=True, kw_only=True, eq=False)
class DistillResult:
    """The result of a distillation. run: as of any run; student: without heads, None where the run is not complete.

    teachers: who they were, see `FrameTeacher.to_dict`; dropped: the share of clips that they dropped, of the last
    epoch, None before the end of the first.
    """

    run: TrainResult
    student: Path | None
    teachers: tuple[dict[str, Any], ...]

    @property
    def dropped(self) -> float | None:
        return self.run.history[-1].facts.get("dropped") if self.run.history else None


def distill(
    config: DistillConfig,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop_after_steps: int | None = None,
    teachers: tuple[FrameTeacher, ...] | None = None,
) -> DistillResult:
    """Train a student until the last epoch. The arguments are those of `train`; teachers: in the place of those that
    the config names.

    Raises what `train` raises, and what `load_teachers` raises.

    ::

        teaching = TeachingConfig(teachers=("efficientnet-lite0",))
        result = distill(DistillConfig(manifest="videos", out="run", epochs=10, teaching=teaching))
        train(TrainConfig(manifest="labelled.csv", out="tuned", transfer=TransferConfig(init_from=str(result.student))))
    """
    if teachers is None:
        device = join_world(config.device).device(config.device)
        teachers = load_teachers(config.teaching.teachers, runtime=config.teaching.teacher_runtime, device=device)
    result = train(
        config,
        resume=resume,
        progress=progress,
        on_epoch=on_epoch,
        on_note=on_note,
        stop_after_steps=stop_after_steps,
        method=DistillMethod(config, teachers),
    )
    student = result.last.with_name("student.pt") if result.completed else None
    if student is not None and os.environ.get("RANK", "0") == "0":  # of several processes the first writes
        write_student(result.last)
    return DistillResult(run=result, student=student, teachers=tuple(teacher.to_dict() for teacher in teachers))


def write_student(last: Path) -> Path:
    """`student.pt` beside `last.pt`: its network without the heads. Raises CheckpointError."""
    path = last.with_name("student.pt")
    loaded = load_any(last, features_only=True)
    about = {name: value for name, value in loaded.provenance.items() if name != "notes"}
    save_checkpoint(path, loaded.model, clip_spec=loaded.clip_spec, labels=None, provenance=about)
    return path
