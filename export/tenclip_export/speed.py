"""How many clips a second each runtime classifies on this machine, and what this machine is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_serving.runtimes import Runtime
from tenclip_video.bundle import Speed

MIN_SECONDS = 2.0
MIN_RUNS = 3


def machine() -> str:
    """This machine in words: processor, cores that this process may use, system.

    >>> machine()  # doctest: +SKIP
    'AMD EPYC 7B13, 2 cores, Linux x86_64'
    """
    return f"{_processor()}, {cores()} cores, {platform.system()} {platform.machine()}"


def cores() -> int:
    """Cores that this process may use: fewer than the machine has where an affinity mask is set."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"


def measure(runtime: Runtime, clips: NDArray[np.uint8], *, variant: str, threads: int = 0) -> Speed:
    """Speed of `runtime` on batches of its own choice made from `clips` [B,T,H,W,3]: the median of several runs.

    threads: what the runtime was made with; 0, its own choice, is recorded as the cores of this process.
    """
    batch = clips[np.arange(runtime.batch_size) % len(clips)]
    seconds = median_seconds(lambda: runtime.run(batch), min_seconds=MIN_SECONDS, min_runs=MIN_RUNS)
    return Speed(
        variant=variant,
        runtime=runtime.name,
        machine=machine(),
        clips_per_second=runtime.batch_size / seconds,
        threads=threads or cores(),
        batch_size=runtime.batch_size,
    )


def median_seconds(call: Callable[[], object], *, min_seconds: float, min_runs: int) -> float:
    """Median duration of `call` after one warm-up, over at least `min_runs` runs and `min_seconds`."""
    call()
    durations: list[float] = []
    while len(durations) < min_runs or sum(durations) < min_seconds:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations))
