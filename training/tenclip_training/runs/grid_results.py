"""The results of a grid search, ranked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["done", "diverged"]
Measure = Literal["top1", "map", "loss"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result of one combination. Accuracies are of the last epoch on the videos held out, with their number.

    mean_average_precision: of videos, where each class has a sigmoid.
    status diverged: a loss or gradient was not finite; there are no figures then, and `note` says what happened.
    """

    values: Mapping[str, str]
    folder: str
    status: Status
    top1: float | None = None
    mean_average_precision: float | None = None
    clip_top1: float | None = None
    loss: float | None = None
    videos: int = 0
    videos_asked: int = 0
    train_loss: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class GridResult:
    """rows: best first, those that diverged last. completed is False where the search was interrupted."""

    folder: Path
    rows: tuple[Row, ...]
    points: int
    completed: bool
    by: Measure
    train_videos: int
    holdout_videos: int

    @property
    def best(self) -> Row | None:
        """The best combination; None where every one diverged, and before all are done."""
        return self.rows[0] if self.completed and self.rows and self.rows[0].status == "done" else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "folder": str(self.folder),
            "completed": self.completed,
            "points": self.points,
            "by": self.by,
            "train_videos": self.train_videos,
            "holdout_videos": self.holdout_videos,
            "best": None if self.best is None else dict(self.best.values),
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }


def ranked(rows: Iterable[Row], by: Measure) -> tuple[Row, ...]:
    """Best first; equal ones by their loss (by top-1 where that decides), else in the order of the grid; those that
    diverged come last."""

    def key(row: Row) -> tuple[float, ...]:
        loss = math.inf if row.loss is None else row.loss
        score = row.mean_average_precision if by == "map" else row.top1
        cost = math.inf if score is None else -score
        return (float(row.status != "done"), *((loss, cost) if by == "loss" else (cost, loss)))

    return tuple(sorted(rows, key=key))
