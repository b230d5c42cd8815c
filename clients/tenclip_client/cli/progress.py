"""Progress on standard error: bars on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tenclip_api.errors import TenclipError
from tenclip_client import _extraction
from tenclip_features.rows import VideoFailure

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def bar_progress() -> Iterator[_extraction.Progress]:
    """A bar: videos done, clips, failures, time left. Failures are printed above it as they happen."""
    columns = (
        TextColumn("features"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos, {task.fields[clips]} clips, {task.fields[failed]} failed"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    counts = {"clips": 0, "failed": 0}
    with Progress(*columns, console=Console(stderr=True, highlight=False), redirect_stdout=False) as bars:
        task = bars.add_task("features", total=None, clips=0, failed=0)

        def on_video(name: str, clips: int, failure: VideoFailure | None) -> None:
            counts["clips"] += clips
            counts["failed"] += failure is not None
            if failure is not None:
                bars.console.print(Text(f"{name}: {failure.reason}", style="red"))
            bars.update(task, advance=1, clips=counts["clips"], failed=counts["failed"])

        yield _extraction.Progress(
            on_start=lambda total, reused: bars.update(task, total=total, completed=reused),
            on_video=on_video,
            on_pause=lambda err, seconds: bars.console.print(Text(_pause(err, seconds), style="yellow")),
        )


@contextmanager
def spinner(total: int) -> Iterator[Callable[[Callable[[], None]], None]]:
    """A spinner with a count while answers are awaited, on terminals only.

    Gives a function that runs another (which prints an answer) with the spinner out of its way.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda show: show()
        return
    columns = (SpinnerColumn(), TextColumn("predicting"), MofNCompleteColumn(), TimeElapsedColumn())
    # Standard output may go elsewhere: it is left alone.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bars:
        task = bars.add_task("predicting", total=total)

        def step(show: Callable[[], None]) -> None:
            bars.stop()
            show()
            bars.advance(task)
            bars.start()

        yield step


@contextmanager
def line_progress() -> Iterator[_extraction.Progress]:
    """A line at the beginning, one every ten seconds, and one for every failure."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    state = {"total": 0, "done": 0, "failed": 0}
    said = time.monotonic()

    def on_start(total: int, reused: int) -> None:
        state.update(total=total, done=reused)
        console.print(f"features: {total} videos, {reused} done before")

    def on_video(name: str, clips: int, failure: VideoFailure | None) -> None:
        nonlocal said
        state["done"] += 1
        state["failed"] += failure is not None
        if failure is not None:
            console.print(f"{name}: {failure.reason}", markup=False)
        if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            console.print(f"features: {state['done']}/{state['total']} videos, {state['failed']} failed")

    yield _extraction.Progress(
        on_start=on_start,
        on_video=on_video,
        on_pause=lambda err, seconds: console.print(_pause(err, seconds), markup=False),
    )


def _pause(err: TenclipError, seconds: float) -> str:
    return f"{type(err).__name__}; trying again in {seconds:.1f} s"
