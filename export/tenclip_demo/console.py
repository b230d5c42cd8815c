"""Progress of a demo on standard error: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

# Between two lines of one stage where there is no terminal.
SECONDS_BETWEEN_LINES = 10.0


class StageConsole:
    """The stages of a demo: a bar for the one that runs, a line for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title = ""
        self._said = 0.0
        if console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, title: str) -> None:
        self._title, self._said = title, time.monotonic()
        if self._bar is not None:
            self._drop()
            self._task = self._bar.add_task(escape(title), total=None, detail="")
        else:
            self._print(f"{title} ...")

    def update(self, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` of the stage that runs."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, detail=escape(detail))
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self._print(f"{self._title}: {done} of {total}  {detail}".rstrip())

    def finish(self, title: str, seconds: float) -> None:
        self._drop()
        self._print(f"{title}: {seconds:.1f} s")

    def reused(self, title: str, seconds: float) -> None:
        self._print(f"{title}: done before, in {seconds:.1f} s")

    def _drop(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)
