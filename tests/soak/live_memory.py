"""Memory of a live stream over a day of video, at speed; and a watcher that keeps its windows, which must fail this.

    python -m tests.soak.live_memory [--hours 24] [--limit-mb 16]

A transport stream comes over TCP as fast as it is read, its clock wraps around on the way, and nothing is skipped.
After the first tenth of the windows, and after the last, the resident memory of the process that reads the stream and
of the one that runs it are compared. The control keeps 64 KiB for each window.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from tenclip_serving.live.clock import WRAP_TICKS
from tenclip_serving.live.requests import LiveRequest, ScoredWindow
from tenclip_serving.live.source import parse_source
from tests.ports import free_port
from tests.tenclip_serving.helpers import make_bundle
from tests.tenclip_serving.live.helpers import open_engine, ts_sender

_FPS, _STEP = 10, 40
_KEPT_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Run:
    """Bytes from the first tenth to the end: of the reader, and of the process that runs windows."""

    reader: int
    host: int
    windows: int
    skipped: int
    last_seconds: float


async def watch(seconds: float, *, keeping: bool = False) -> Run:
    """A stream of so many seconds. keeping: the control."""
    frames = int(seconds * _FPS)
    ticks = 90_000 // _FPS
    start = (WRAP_TICKS // ticks - frames // 2) * ticks  # it wraps around in the middle
    port, total = free_port(), frames // _STEP
    kept, before, run = [], (0, 0), Run(reader=0, host=0, windows=0, skipped=0, last_seconds=0)
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder))
        allowed: dict[str, Any] = {"live_schemes": ("tcp",), "allow_hosts": (f"127.0.0.1:{port}",)}
        sender = ("--port", str(port), "--frames", str(frames + 4), "--fps", str(_FPS), "--start", str(start))
        async with open_engine(bundle, **allowed) as engine:
            with ts_sender(*sender, "--speed", "0"):
                source = parse_source(f"tcp://127.0.0.1:{port}")
                request = LiveRequest(source=source, step=_STEP, lossless=True, reconnect=0, idle_seconds=60)
                async with contextlib.aclosing(engine.watch(request)) as updates:
                    async for update, counters in updates:
                        if not isinstance(update, ScoredWindow):
                            continue
                        if keeping:
                            kept.append(bytes(_KEPT_BYTES))
                        if update.index == total // 10:
                            before = _memory(engine.streams.pids[0])
                        if update.index == total - 2:
                            now = _memory(engine.streams.pids[0])
                            run = Run(
                                reader=now[0] - before[0],
                                host=now[1] - before[1],
                                windows=counters.windows_run,
                                skipped=counters.windows_skipped,
                                last_seconds=update.end_seconds,
                            )
                            break
    return run


def _memory(reader: int) -> tuple[int, int]:
    gc.collect()
    return psutil.Process(reader).memory_info().rss, psutil.Process().memory_info().rss


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.live_memory", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--limit-mb", type=float, default=16.0)
    options = parser.parse_args(argv)
    sound = asyncio.run(watch(3600 * options.hours))
    control = asyncio.run(watch(3600 * min(options.hours, 2.0), keeping=True))
    limit = options.limit_mb * 1e6
    complete = sound.windows > 0 and not sound.skipped and sound.last_seconds > 3600 * options.hours * 0.99
    passed = complete and max(sound.reader, sound.host) <= limit < control.host
    summary = (
        f"{options.hours:g} hours of video, {sound.windows} windows, 33-bit wrap-around on the way: "
        f"{sound.reader / 1e6:+.1f} MB in the reader, {sound.host / 1e6:+.1f} MB in the host; a watcher that keeps its "
        f"windows: {control.host / 1e6:+.1f} MB; limit {options.limit_mb:g} MB"
    )
    Console(highlight=False).print(summary, markup=False)
    return {"passed": passed, "summary": summary, **vars(sound), "control_bytes": control.host}


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
