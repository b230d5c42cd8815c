"""Reports of a run: progress, the result of each epoch, and the result of the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tenclip_training.data.damage import Damage
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.evaluate import EvaluationResult

Stage = Literal["cache", "teacher", "train", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a run: `done` of `total` videos (cache, evaluate) or steps of the epoch (train). Epochs count from 1.

    loss: mean over the clips of the epoch so far, NaN where none was read yet. clips_per_second of all processes and
    data_wait_share, the part of the time that went on waiting for clips, are of the epoch so far, too.
    epoch_seconds_left, run_seconds_left: estimates, None where nothing is known yet; the epoch's without validation.
    val_video_top1: of the last validation, None before the first.
    """

    stage: Stage
    done: int
    total: int
    epoch: int
    epochs: int
    loss: float = math.nan
    learning_rate: float = math.nan
    clips_per_second: float = 0.0
    data_wait_share: float = 0.0
    epoch_seconds_left: float | None = None
    run_seconds_left: float | None = None
    val_video_top1: float | None = None


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """A line of history.jsonl.

    loss: mean over the epoch's training clips; learning_rate: of its last step; seconds: of the epoch, validation
    included. Accuracies are fractions, each with its denominator beside it; those of validation are None, and their
    denominators 0, in an epoch that was not validated. val_video_map: mean average precision of videos, with a sigmoid
    for each class alone. unreadable_classes: those of which no training video could be read so far.
    clips_per_second: of all processes, while they trained. data_wait_share: the part of that time that went on waiting
    for clips, the mean over processes. Results that differ in times only are equal.
    facts: what else the training method counts, by name: shares of clips that a teacher dropped, for one.
    """

    epoch: int
    loss: float
    learning_rate: float
    train_clip_top1: float
    train_clips: int
    seconds: float = field(compare=False)
    val_video_top1: float | None = None
    val_video_map: float | None = None
    val_clip_top1: float | None = None
    val_loss: float | None = None
    val_videos_decoded: int = 0
    val_videos_asked: int = 0
    unreadable_classes: tuple[str, ...] = ()
    clips_per_second: float = field(default=0.0, compare=False)
    data_wait_share: float = field(default=0.0, compare=False)
    facts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unreadable_classes", tuple(self.unreadable_classes))  # a list in JSON


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainResult:
    """The result of a run. `completed` is False when it was stopped and can be resumed.

    best: None where no epoch was chosen; `best_note` says why. evaluation: of the last epoch that was validated.
    failures: the videos that could not be read, of all splits and processes, as in failures.jsonl.
    damaged: the training videos that were used with damaged frames, as in damaged.jsonl.
    steps_skipped: steps that float16's loss scaling left out.
    train_split, val_split: their names; val_split is None where nothing was validated.
    """

    out: Path
    last: Path
    best: Path | None
    best_note: str
    completed: bool
    epochs_done: int
    labels: tuple[str, ...]
    history: tuple[EpochResult, ...]
    evaluation: EvaluationResult | None
    failures: tuple[Failure, ...]
    damaged: tuple[Damage, ...]
    steps_skipped: int
    train_split: str
    val_split: str | None
    train_videos: int
    val_videos: int

    @property
    def videos_failed(self) -> int:
        """Training videos that could not be read."""
        return sum(f.split == self.train_split for f in self.failures)

    @property
    def val_videos_failed(self) -> int:
        """Validation videos that could not be read."""
        return sum(f.split == self.val_split for f in self.failures)
