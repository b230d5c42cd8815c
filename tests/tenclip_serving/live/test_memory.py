"""The short form of the proof that a live stream's memory is flat, and of its control.

Each in a process of its own: memory that earlier tests have given back would be used again, and hide what grows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.conftest import PROJECT

_WATCH = """
import asyncio, json, sys
from tests.soak.live_memory import watch

seconds, keeping = json.loads(sys.argv[1])
print(json.dumps(vars(asyncio.run(watch(seconds, keeping=keeping)))))
"""


def watched(seconds: float, *, keeping: bool) -> dict[str, Any]:
    arguments = [sys.executable, "-c", _WATCH, json.dumps([seconds, keeping])]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=800, cwd=PROJECT)
    assert done.returncode == 0, done.stderr[-3000:]
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return run


def test_memory_is_flat_over_a_stream_whose_clock_wraps_around() -> None:
    run = watched(800, keeping=False)
    assert run["skipped"] == 0
    assert run["windows"] >= 198
    assert 780 < run["last_seconds"] < 800
    assert run["reader"] < 12e6
    assert run["host"] < 12e6


def test_a_watcher_that_keeps_its_windows_fails_the_check() -> None:
    assert watched(1400, keeping=True)["host"] > 14e6
