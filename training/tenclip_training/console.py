"""The screen of train and evaluate: a bar on a terminal, now and then a plain line elsewhere, tables at the end.

Progress goes to standard error. Standard output has the results alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tenclip_training.evaluation.evaluate import EvaluationResult

SECONDS_BETWEEN_LINES = 10.0
LARGEST_CONFUSION = 20  # classes that still fit on a screen


class BarWithFacts(Progress):
    """Progress bars, and a line of text below them."""

    facts = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.facts:
            yield Text(self.facts)


class Reporter:
    """One line of work at a time: `update` may be called very often. The bar may have facts, a second line."""

    def __init__(self, console: Console, bar: BarWithFacts | None) -> None:
        self._console, self._bar = console, bar
        self._task: TaskID | None = None
        self._title = ""
        self._said = time.monotonic()

    def update(self, title: str, done: int, total: int, detail: str = "", facts: str = "") -> None:
        """facts: what belongs under the bar; in a plain line it follows the rest."""
        if self._bar is not None:
            self._bar.facts = facts
            self._update_bar(self._bar, title, done, total, detail)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self.say(", ".join(filter(None, (f"{title}: {done} of {total}", detail, facts))))

    def say(self, line: str) -> None:
        """A line that stays."""
        console = self._bar.console if self._bar is not None else self._console
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _update_bar(self, bar: BarWithFacts, title: str, done: int, total: int, detail: str) -> None:
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
    with BarWithFacts(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        yield Reporter(console, bar)


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
