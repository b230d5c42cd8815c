"""The screen of train and evaluate: a bar on a terminal, now and then a plain line elsewhere.

Progress goes to standard error. Standard output has the results alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0


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
