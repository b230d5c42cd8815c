"""The screen of train and evaluate: a bar on a terminal, now and then a plain line elsewhere, tables at the end.

Progress goes to standard error. Standard output has the results alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from tenclip_training.evaluation.evaluate import EvaluationResult
    from tenclip_training.runs.results import EpochResult, TrainResult

SECONDS_BETWEEN_LINES = 10.0
LARGEST_CONFUSION = 20  # classes that still fit on a screen


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
        line += f", val video top-1 {result.val_video_top1:.1%} of {result.val_videos_decoded}"
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


def print_evaluation(result: EvaluationResult, *, title: str) -> None:
    console = Console()
    table = Table(title=escape(title), title_justify="left")
    for column in ("", "top-1", "top-5", "of"):
        table.add_column(column, justify="left" if not column else "right")
    for name, top1, top5 in (
        ("videos", result.video_top1, result.video_top5),
        ("clips", result.clip_top1, result.clip_top5),
    ):
        table.add_row(name, f"{top1.value:.2%}", f"{top5.value:.2%}", str(top1.total))
    console.print(table)
    console.print(
        f"{result.protocol} on {result.split or 'all videos'}: {result.videos_asked} videos asked for, "
        f"{result.videos_decoded} decoded, {len(result.skipped)} skipped",
        highlight=False,
        markup=False,
    )
    for failure in result.skipped:
        console.print(f"  skipped {failure.video}: {failure.message} ({failure.reason})", markup=False, highlight=False)
    if result.damaged:
        more = f" and {len(result.damaged) - 5} more" if len(result.damaged) > 5 else ""
        console.print(
            f"frames damaged, or missing and stood in for by others, in: {', '.join(result.damaged[:5])}{more}",
            markup=False,
            highlight=False,
        )
    if len(result.labels) <= LARGEST_CONFUSION:
        console.print(_class_table(result))


def _class_table(result: EvaluationResult) -> Table:
    """Each class's accuracy, and how its videos were classified where that is a single class."""
    table = Table(title="classes (rows: true, columns: predicted)", title_justify="left")
    table.add_column("")
    table.add_column("top-1", justify="right")
    table.add_column("of", justify="right")
    if result.confusion is not None:
        for i in range(len(result.labels)):
            table.add_column(str(i), justify="right")
    for i, (label, accuracy) in enumerate(zip(result.labels, result.per_class, strict=True)):
        counts: Sequence[int] = result.confusion[i] if result.confusion is not None else ()
        cells = [f"[bold]{n}[/]" if j == i and n else str(n) if n else "[dim].[/]" for j, n in enumerate(counts)]
        value = f"{accuracy.value:.1%}" if accuracy.total else "-"
        table.add_row(f"{i} {escape(label)}", value, str(accuracy.total), *cells)
    return table
