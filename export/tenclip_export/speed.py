"""How many clips a second each runtime classifies on this machine, and what this machine is."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_serving.runtimes import Runtime
from tenclip_training.models import VideoModel
from tenclip_training.models.cost import count_macs
from tenclip_video.bundle import Speed
from tenclip_video.cpus import usable_cpus
from tenclip_video.spec import ClipSpec

MIN_SECONDS = 2.0
MIN_RUNS = 3
# Large enough for the machine's full rate, small enough for a fraction of a second.
SGEMM_SIZE = 2048


def machine() -> str:
    """This machine in words: processor, cores that this process may use, system.

    >>> machine()  # doctest: +SKIP
    'AMD EPYC 7B13, 2 cores, Linux x86_64'
    """
    return f"{_processor()}, {usable_cpus()} cores, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"


class Timer:
    """Measures runtimes of one network, and the machine's float32 matrix product to compare them with."""

    def __init__(self, model: VideoModel, spec: ClipSpec) -> None:
        self._flop = 2 * count_macs(model, num_frames=spec.num_frames, crop=spec.crop)
        self._sgemm = sgemm_rate()

    def measure(self, runtime: Runtime, clips: NDArray[np.uint8], *, variant: str, threads: int = 0) -> Speed:
        """Speed of `runtime` on batches of its own choice made from `clips` [B,T,H,W,3]: the median of several runs.

        threads: what the runtime was made with; 0, its own choice, is recorded as the cores of this process.
        """
        batch = clips[np.arange(runtime.batch_size) % len(clips)]
        seconds = median_seconds(lambda: runtime.run(batch), min_seconds=MIN_SECONDS, min_runs=MIN_RUNS)
        clips_per_second = runtime.batch_size / seconds
        flops = clips_per_second * self._flop
        return Speed(
            variant=variant,
            runtime=runtime.name,
            machine=machine(),
            clips_per_second=clips_per_second,
            threads=threads or usable_cpus(),
            batch_size=runtime.batch_size,
            gflops_per_second=flops / 1e9,
            sgemm_share=flops / self._sgemm,
        )


def sgemm_rate(size: int = SGEMM_SIZE, *, min_seconds: float = 0.3) -> float:
    """Floating-point operations a second of a float32 product of two square matrices, as fast as torch does it here."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    out = torch.empty(size, size)
    seconds = median_seconds(lambda: torch.mm(a, b, out=out), min_seconds=min(min_seconds, MIN_SECONDS), min_runs=3)
    return 2 * size**3 / seconds


def median_seconds(call: Callable[[], object], *, min_seconds: float, min_runs: int) -> float:
    """Median duration of `call` after one warm-up, over at least `min_runs` runs and `min_seconds`."""
    call()
    durations: list[float] = []
    while len(durations) < min_runs or sum(durations) < min_seconds:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations))
