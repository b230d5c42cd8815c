"""Times of device work, and CUDA graphs. On a CPU: the clock, and calls as they are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

MIN_RUNS, MAX_RUNS = 5, 30


def median_ms(call: Callable[[], object], device: torch.device, *, seconds: float = 0.5, warm_up: int = 3) -> float:
    """Median of the milliseconds of a call, over as many as fit into `seconds`."""
    for _ in range(warm_up):
        call()
    if device.type != "cuda":
        return statistics.median(_host_ms(call) for _ in range(2))
    torch.cuda.synchronize()
    first = _device_ms(call)
    runs = int(min(MAX_RUNS, max(MIN_RUNS, 1000 * seconds / max(first, 1e-3))))
    return statistics.median(_device_ms(call) for _ in range(runs))


def _host_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def _device_ms(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def captured(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """The call as a CUDA graph; what it returns is overwritten by the next one."""
    if device.type != "cuda":
        return call
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def relative_l2(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """In float64, on the CPU; NaN never passes a bound."""
    a, e = actual.detach().double().cpu(), expected.detach().double().cpu()
    return float((a - e).norm() / e.norm())


def peak_mib(device: torch.device) -> float | None:
    """Most MiB that torch held since `reset_peak`."""
    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
