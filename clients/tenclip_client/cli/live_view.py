"""What `tenclip live` shows: a screen that changes on a terminal, a line for each event elsewhere, or JSON lines."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from tenclip_client._live import (
    LiveConnected,
    LiveCounters,
    LiveEnded,
    LiveEvent,
    LiveHeartbeat,
    LiveReconnecting,
    LiveUpdate,
    LiveWindow,
)
from tenclip_client.cli.output import output_console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tenclip_api.errors import TenclipError

_TYPES = {
    LiveConnected: "connected",
    LiveWindow: "window",
    LiveEvent: "event",
    LiveReconnecting: "reconnecting",
    LiveHeartbeat: "heartbeat",
    LiveEnded: "ended",
}
_EVENTS_SHOWN = 8
_BAR_WIDTH = 24
# The screen is drawn at most so often a second.
_DRAWS = 8


class View(Protocol):
    """Where updates go."""

    def show(self, source: str, update: LiveUpdate) -> None: ...

    def fail(self, source: str, error: TenclipError) -> None: ...


def as_json(source: str, update: LiveUpdate) -> dict[str, Any]:
    """A JSON object: `source`, `type`, and the fields of the update."""
    return {"source": source, "type": _TYPES[type(update)], **update.to_dict()}


@contextmanager
def open_view(sources: Sequence[str], *, json_lines: bool, windows: bool) -> Iterator[View]:
    """JSON lines, or a screen on a terminal and lines elsewhere. windows: every window, too."""
    if json_lines:
        yield JsonLines(windows=windows)
        return
    console = output_console()
    if not console.is_terminal:
        yield TextLines(console, windows=windows)
        return
    with _screen(console, sources) as screen:
        yield screen


class JsonLines:
    """One object a line, written at once."""

    def __init__(self, *, windows: bool) -> None:
        self._windows = windows

    def show(self, source: str, update: LiveUpdate) -> None:
        if self._windows or not isinstance(update, LiveWindow):
            print(json.dumps(as_json(source, update)), flush=True)

    def fail(self, source: str, error: TenclipError) -> None:
        found = {"type": "error", "error": type(error).__name__, "reason": error.reason, "message": error.message}
        print(json.dumps({"source": source, **found}), flush=True)


class TextLines:
    """One line for each thing that happens."""

    def __init__(self, console: Console, *, windows: bool) -> None:
        self._console, self._windows = console, windows

    def show(self, source: str, update: LiveUpdate) -> None:
        if isinstance(update, LiveWindow) and not self._windows:
            return
        self._print(f"{source}  {describe(update)}")

    def fail(self, source: str, error: TenclipError) -> None:
        self._print(f"{source}  {error.message}", style="red")

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)
        self._console.file.flush()


def describe(update: LiveUpdate) -> str:
    """One line for people."""
    if isinstance(update, LiveConnected):
        limit = update.latency_limit_seconds
        bound = f"windows start within {limit:g} s or are skipped" if limit else "nothing is skipped"
        return (
            f"connected: {update.codec} {update.width}x{update.height} at {update.frames_per_second:.4g}/s, "
            f"{update.model}:{update.version}, {update.window_frames} frames every {update.step_frames}; {bound}"
        )
    if isinstance(update, LiveWindow):
        best = ", ".join(f"{s.label} {s.score:.1%}" for s in update.top[:3])
        span = f"{update.start_seconds:.2f}-{update.end_seconds:.2f} s"
        return f"{span}  {best}  ({update.latency_seconds * 1000:.0f} ms after it arrived)"
    if isinstance(update, LiveEvent):
        clock = time.strftime("%H:%M:%S", time.localtime(update.start_unix_seconds))
        if not update.ended:
            return f"{clock}  {update.label} begins at {update.start_seconds:.2f} s"
        span = f"{update.start_seconds:.2f}-{update.end_seconds:.2f} s"
        return f"{clock}  {update.label} has ended: {span}, peak {update.peak_score:.1%}"
    if isinstance(update, LiveReconnecting):
        return f"interrupted: {update.why}; attempt {update.attempt} in {update.delay_seconds:.1f} s"
    if isinstance(update, LiveHeartbeat):
        read = update.counters.frames_read
        since = f"{update.silent_seconds:.0f} s since the last frame" if read else "no frame yet"
        return f"no news, {since}; {counts(update.counters)}"
    return f"{update.why}; {counts(update.counters)}"


def counts(counters: LiveCounters) -> str:
    """What was read, dropped and skipped, and how late it is."""
    return (
        f"{counters.frames_read} frames, {counters.frames_dropped} dropped; {counters.windows_run} windows, "
        f"{counters.windows_skipped} skipped; {counters.reconnects} reconnects; latency "
        f"{counters.latency_seconds * 1000:.0f} ms, at most {counters.max_latency_seconds * 1000:.0f} ms"
    )


class _Screen:
    """The state of every source, and the newest events of all."""

    def __init__(self, sources: Sequence[str], draw: Callable[[RenderableType], None]) -> None:
        self._states: dict[str, str] = dict.fromkeys(sources, "connecting")
        self._windows: dict[str, LiveWindow] = {}
        self._counters: dict[str, LiveCounters] = {}
        self._events: deque[str] = deque(maxlen=_EVENTS_SHOWN)
        self._draw, self._drawn = draw, 0.0

    def show(self, source: str, update: LiveUpdate) -> None:
        self._counters[source] = update.counters
        if isinstance(update, LiveWindow):
            self._windows[source] = update
        elif isinstance(update, LiveEvent):
            self._events.appendleft(f"{source}  {describe(update)}")
        else:
            # Their counts have a line of their own here.
            counted = isinstance(update, LiveHeartbeat | LiveEnded)
            self._states[source] = describe(update).partition("; ")[0] if counted else describe(update)
        self._refresh(now=not isinstance(update, LiveWindow))

    def fail(self, source: str, error: TenclipError) -> None:
        self._states[source] = error.message
        self._refresh(now=True)

    def _refresh(self, *, now: bool) -> None:
        clock = time.monotonic()
        if now or clock - self._drawn >= 1 / _DRAWS:
            self._drawn = clock
            self._draw(self.render())

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        for source, state in self._states.items():
            parts.append(Text.assemble((source, "bold"), f"  {state}"))
            if (window := self._windows.get(source)) is not None:
                table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
                for score in window.smoothed:
                    bar = "█" * round(score.score * _BAR_WIDTH)
                    table.add_row(Text(score.label), Text(f"{bar:<{_BAR_WIDTH}}", style="cyan"), f"{score.score:.1%}")
                parts.append(table)
            if (counters := self._counters.get(source)) is not None:
                parts.append(Text(counts(counters), style="dim"))
            parts.append(Text(""))
        parts += [Text(event) for event in self._events]
        return Group(*parts)


@contextmanager
def _screen(console: Console, sources: Sequence[str]) -> Iterator[_Screen]:
    from rich.live import Live
    from rich.text import Text

    with Live(Text("connecting"), console=console, auto_refresh=False, redirect_stdout=False) as live:
        yield _Screen(sources, lambda shown: live.update(shown, refresh=True))
