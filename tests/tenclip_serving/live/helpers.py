"""Senders of streams as processes of their own, and an engine to watch them with."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.live.events import Event
from tenclip_serving.live.requests import LiveCounters, LiveRequest, LiveUpdate, ScoredWindow
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_video.bundle import read_bundle
from tests.conftest import PROJECT
from tests.tenclip_serving.helpers import SPEC

SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_SERVER = Path(__file__).parent / "rtsp_server.py"


@functools.cache
def why_no_rtsp_server() -> str:
    """ "" where there is one."""
    check = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        "import sys; sys.exit(not all(map(Gst.ElementFactory.find, ('x264enc', 'rtph264pay', 'videotestsrc'))))"
    )
    if not os.access(SYSTEM_PYTHON, os.X_OK):
        return f"no {SYSTEM_PYTHON}"
    done = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, env=_system_environment(), check=False)
    return "" if done.returncode == 0 else "no GStreamer RTSP server: see tests/system-packages.txt"


def _system_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


@contextlib.contextmanager
def rtsp_server(port: int) -> Iterator[subprocess.Popen[str]]:
    """Skips the test where there is none."""
    if why := why_no_rtsp_server():
        pytest.skip(why)
    process = subprocess.Popen(
        [SYSTEM_PYTHON, str(RTSP_SERVER), str(port)], stdout=subprocess.PIPE, text=True, env=_system_environment()
    )
    with _ended(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process


@contextlib.contextmanager
def ts_sender(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """(process, port) of `ts_sender`."""
    command = [sys.executable, "-m", "tests.tenclip_serving.live.ts_sender", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    with _ended(process):
        assert process.stdout is not None
        yield process, 0 if "--udp" in arguments else int(process.stdout.readline())


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextlib.asynccontextmanager
async def open_engine(bundle: Path, *, runtime: FakeRuntime | None = None, **changes: Any) -> AsyncIterator[Engine]:
    """An engine with a runtime that needs no weights; its live streams may come from `allow_hosts` on loopback."""
    model = ServedModel(
        bundle=read_bundle(bundle), runtime=runtime or FakeRuntime(crop=SPEC.crop), runtime_reason="tests"
    )
    settings: dict[str, Any] = {"decode_workers": 1, **changes}
    if settings.get("live_schemes"):
        settings = {"allow_networks": ("127.0.0.0/8",), **settings}
    engine = Engine(ServerConfig(directory=bundle.parent, **settings), Repository({"tiny": {"1": model}}))
    try:  # without its decode pool, which live streams do not need
        yield engine
    finally:
        await engine.close()


async def watch(
    engine: Engine, request: LiveRequest, *, until: Any = None, seconds: float = 120
) -> tuple[list[LiveUpdate], LiveCounters]:
    """All updates up to the first for which `until(update, counters)` is true; what was counted by then."""
    seen: list[LiveUpdate] = []
    counters = LiveCounters()
    async with asyncio.timeout(seconds), contextlib.aclosing(engine.watch(request)) as updates:
        async for update, counters in updates:
            seen.append(update)
            if until is not None and until(update, counters):
                break
    return seen, counters


def windows_of(updates: list[LiveUpdate]) -> list[ScoredWindow]:
    return [u for u in updates if isinstance(u, ScoredWindow)]


def events_of(updates: list[LiveUpdate]) -> list[Event]:
    return [u for u in updates if isinstance(u, Event)]
