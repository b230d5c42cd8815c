"""The server's memory over many mixed requests, and a server that leaks on purpose, which must fail the same check.

    python -m tests.soak.memory [--requests 10000] [--limit-mb 100]

Resident memory of the server and its decode workers together, sampled as requests are answered. The check: the median
of the last tenth of the samples is at most `--limit-mb` above that of the tenth after the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from tests.soak._mixed import FLAGS, make_traffic, send_mixed
from tests.tenclip_serving.helpers import make_bundle, running_server

# Of the padding of videos in bytes: what a leak keeps of each request.
_PADDING = 128 << 10


@dataclass(frozen=True, kw_only=True)
class Run:
    """samples: bytes. growth: bytes from mid-run to the end."""

    samples: tuple[int, ...]
    answers: dict[str, int]
    unexpected: list[str]
    seconds: float

    @property
    def growth(self) -> int:
        return growth_from_middle(self.samples)


def growth_from_middle(samples: Sequence[int]) -> int:
    """Medians, because single samples catch a worker that is being replaced."""
    if len(samples) < 4:
        raise ValueError(f"at least 4 samples, got {len(samples)}")
    tenth = max(1, len(samples) // 10)
    middle = len(samples) // 2
    return round(statistics.median(samples[-tenth:]) - statistics.median(samples[middle : middle + tenth]))


def measure(num_requests: int, *, leaking: bool = False, padding: int = _PADDING, seed: int = 0) -> Run:
    """A server of its own, with a leak or without."""
    module = "tests.soak._leaking_server" if leaking else "tenclip_serving"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_bundle(root / "models")
        traffic = make_traffic(root, padding=padding, seed=seed)
        with running_server(root / "models", *FLAGS, module=module) as server:
            process = psutil.Process(server.process.pid)
            samples: list[int] = []

            async def sample() -> None:
                async for _ in send_mixed(server.address, traffic, num_requests, seed=seed, every=20):
                    samples.append(resident_bytes(process))

            started = time.perf_counter()
            asyncio.run(sample())
            seconds = time.perf_counter() - started
            ended = server.process.poll()
    unexpected = traffic.unexpected()
    if ended is not None:
        unexpected.append(f"the server ended with exit code {ended}")
    return Run(samples=tuple(samples), answers=traffic.counts(), unexpected=unexpected, seconds=seconds)


def resident_bytes(process: psutil.Process) -> int:
    """Of a process and all its children. What they share (clips on their way from a worker) counts once."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            full: Any = member.memory_full_info()
            total += getattr(full, "pss", full.rss)  # only Linux knows each one's share
    return total


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.memory", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--limit-mb", type=float, default=100.0)
    options = parser.parse_args(argv)
    limit = options.limit_mb * 1e6
    sound, leaking = (measure(options.requests, leaking=leak) for leak in (False, True))
    passed = not sound.unexpected and sound.growth <= limit < leaking.growth
    summary = (
        f"{options.requests} mixed requests: {_mb(sound.growth)} from mid-run, workers included (at most "
        f"{_mb(max(sound.samples))} resident); a server that leaks on purpose: {_mb(leaking.growth)}; limit "
        f"{options.limit_mb:g} MB"
    )
    console = Console(highlight=False)
    console.print(f"{summary}; {sound.seconds:.0f} s; {sound.answers}", markup=False)
    for what in sound.unexpected:
        console.print(f"FAILED {what}", markup=False)
    return {
        "passed": passed,
        "summary": summary,
        "requests": options.requests,
        "growth_bytes": sound.growth,
        "most_bytes": max(sound.samples),
        "control_growth_bytes": leaking.growth,
        "answers": sound.answers,
        "unexpected": sound.unexpected,
        "seconds": round(sound.seconds, 1),
    }


def _mb(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if abs(num_bytes) < 1e8 else f"{num_bytes / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
