"""The client's memory over many mixed requests, and a client that keeps its answers, which must fail the same check.

    python -m tests.soak.client_memory [--requests 10000] [--limit-mb 1]

The client is a process of its own. After the first tenth of the requests, and again after the last, it lets go of
garbage and says what is in use on C's heap (gRPC's core is there; glibc only) and what is resident. A second one says
what Python has allocated (tracemalloc, whose own tables grow what is resident). Each may grow by `--limit-mb`.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from tests.soak._mixed import FLAGS, SHARES, Kind, make_traffic, send_mixed
from tests.tenclip_serving.helpers import make_bundle, running_server

_PADDING = 16 << 10
# gRPC lets go of a message a moment after its call has ended.
_LET_GO_SECONDS = 0.5
SEES_THE_HEAP = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallinfo2")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Bytes from the first tenth to the end. `allocated`: 0 where it was not traced."""

    allocated: int
    heap: int
    resident: int
    answers: dict[str, int]
    unexpected: list[str]


def measure(
    target: str, num_requests: int, *, kind: Kind | None = None, trace: bool = False, leaking: bool = False
) -> Run:
    """A client process of its own against the server at `target`. Raises CalledProcessError when it fails.

    kind: of all its requests; None for the mixture.
    """
    command = [sys.executable, "-m", "tests.soak.client_memory", "--child", target, "--requests", str(num_requests)]
    project = Path(__file__).resolve().parents[2]
    # One heap for all threads: which one frees what is not what is asked here.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [
            *command,
            *(["--kind", kind] if kind else []),
            *(["--trace"] if trace else []),
            *(["--leak"] if leaking else []),
        ],
        cwd=project,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Run(**json.loads(done.stdout.splitlines()[-1]))


async def be_the_client(target: str, num_requests: int, *, kind: Kind | None, trace: bool, leaking: bool) -> Run:
    """In this process. `leaking`: keeps every answer."""
    kept: list[Any] = []
    if trace:
        tracemalloc.start()
    with tempfile.TemporaryDirectory() as folder:
        traffic = make_traffic(Path(folder), padding=_PADDING)
        first, before = max(num_requests // 10, 1), (0, 0, 0)
        shares: Mapping[Kind, int] = SHARES if kind is None else {kind: 1}
        keep = kept.append if leaking else _drop
        async for done in send_mixed(target, traffic, num_requests, every=first, settle=True, shares=shares, keep=keep):
            if done == first:
                before = await _memory()
        now = await _memory()
    return Run(
        allocated=now[0] - before[0],
        heap=now[1] - before[1],
        resident=now[2] - before[2],
        answers=traffic.counts(),
        unexpected=traffic.unexpected(),
    )


def _drop(result: Any) -> None:
    """A sound client."""


async def _memory() -> tuple[int, int, int]:
    """(allocated, heap, resident) bytes, without what is garbage or free but not given back."""
    await asyncio.sleep(_LET_GO_SECONDS)
    gc.collect()
    heap = 0
    if SEES_THE_HEAP:
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallinfo2.restype = _Mallinfo2
        of_heap = libc.mallinfo2()
        heap = of_heap.uordblks + of_heap.hblkhd
    return tracemalloc.get_traced_memory()[0], heap, psutil.Process().memory_info().rss


class _Mallinfo2(ctypes.Structure):
    """Of glibc: `uordblks` bytes are in use, and `hblkhd` in large blocks beside the heap."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


def measure_both(num_requests: int) -> tuple[Run, Run]:
    """(sound, leaking) against one server; the sound one in two processes, of which one is traced."""
    with tempfile.TemporaryDirectory() as folder:
        make_bundle(Path(folder))
        with running_server(Path(folder), *FLAGS) as server:
            sound, traced = measure(server.address, num_requests), measure(server.address, num_requests, trace=True)
            sound = replace(sound, allocated=traced.allocated, unexpected=sound.unexpected + traced.unexpected)
            return sound, measure(server.address, num_requests, trace=True, leaking=True)


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.client_memory", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--limit-mb", type=float, default=1.0)
    parser.add_argument("--child", metavar="HOST:PORT", help="be the client itself, and print what it measured")
    parser.add_argument("--kind", choices=list(SHARES), help="of --child: of all requests")
    parser.add_argument("--trace", action="store_true", help="of --child: what Python allocates")
    parser.add_argument("--leak", action="store_true", help="of --child: keep every answer")
    options = parser.parse_args(argv)
    if options.child:
        run = asyncio.run(
            be_the_client(options.child, options.requests, kind=options.kind, trace=options.trace, leaking=options.leak)
        )
        print(json.dumps(vars(run)))
        return {"passed": True}
    limit = options.limit_mb * 1e6
    sound, leaking = measure_both(options.requests)
    passed = not sound.unexpected and max(sound.allocated, sound.heap, sound.resident) <= limit < leaking.allocated
    summary = (
        f"{options.requests} mixed requests: {sound.allocated / 1e6:.3f} MB allocated by Python, "
        f"{sound.heap / 1e6:.3f} MB on C's heap, {sound.resident / 1e6:.2f} MB resident; "
        f"a client that keeps its answers: {leaking.allocated / 1e6:.1f} MB; "
        f"limit {options.limit_mb:g} MB"
    )
    console = Console(highlight=False)
    console.print(summary, markup=False)
    for what in sound.unexpected:
        console.print(f"FAILED {what}", markup=False)
    return {
        "passed": passed,
        "summary": summary,
        "requests": options.requests,
        "allocated_bytes": sound.allocated,
        "heap_bytes": sound.heap,
        "resident_bytes": sound.resident,
        "control_allocated_bytes": leaking.allocated,
        "answers": sound.answers,
        "unexpected": sound.unexpected,
    }


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
