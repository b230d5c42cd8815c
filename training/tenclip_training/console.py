"""The screen of train and evaluate: a bar on a terminal, now and then a plain line elsewhere.

Progress goes to standard error. Standard output has the results alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from tenclip_training.runs.results import EpochResult, TrainResult

SECONDS_BETWEEN_LINES = 10.0


class Reporter:
    """One line of work at a time: `update` may be called very often."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self._console, self._bar = console, bar
        self._task: TaskID | None = None
        self._title = ""
        self._said = time.monotonic()

    def update(self, title: str, done: int, total: int, detail: str = "") -> None:
        if self._bar is not None:
            self._update_bar(self._bar, title, done, total, detail)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self.say(f"{title}: {done} of {total}{detail and ', '}{detail}")

    def say(self, line: str) -> None:
        """A line that stays."""
        console = self._bar.console if self._bar is not None else self._console
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _update_bar(self, bar: Progress, title: str, done: int, total: int, detail: str) -> None:
        if self._task is None or title != self._title:
            if self._task is not None:
                bar.remove_task(self._task)
            self._task, self._title = bar.add_task(escape(title), total=total, detail=""), title
        bar.update(self._task, completed=done, total=total, detail=escape(detail))


@contextmanager
def reporting() -> Iterator[Reporter]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Reporter(console, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        yield Reporter(console, bar)


def epoch_line(result: EpochResult, epochs: int) -> str:
    line = (
        f"epoch {result.epoch:>{len(str(epochs))}} of {epochs}: loss {result.loss:.3f}, "
        f"train clip top-1 {result.train_clip_top1:.1%} of {result.train_clips}"
    )
    if result.val_video_top1 is not None:
        mean_precision = "" if result.val_video_map is None else f" and mAP {result.val_video_map:.1%}"
        line += f", val video top-1 {result.val_video_top1:.1%}{mean_precision} of {result.val_videos_decoded}"
        if result.val_videos_decoded < result.val_videos_asked:
            line += f" (asked for {result.val_videos_asked})"
    if result.unreadable_classes:
        line += f", no readable video of {', '.join(result.unreadable_classes)}"
    return f"{line}, {result.seconds:.1f} s"


def failure_lines(result: TrainResult) -> list[str]:
    """A line for each split of which videos could not be read, with how many of how many and where they are listed."""
    counts = (
        (result.videos_failed, result.train_videos, "training"),
        (result.val_videos_failed, result.val_videos, "validation"),
    )
    return [
        f"{failed} of {asked} {kind} videos could not be read: {result.out / 'failures.jsonl'}"
        for failed, asked, kind in counts
        if failed
    ]
