"""Whose clips run next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tenclip_serving.runtimes.base import Clips, Outputs, Runtime


@dataclass(frozen=True, kw_only=True)
class InferenceResult:
    """`outputs`: one for each batch, in the order of the clips. Seconds of waiting and of running, all batches."""

    outputs: tuple[Outputs, ...]
    queue_seconds: float
    infer_seconds: float


class ClipScheduler:
    """Runs clips in small batches on one thread, first come first served.

    A video waits with one batch at a time, so videos that arrive while a long one runs interleave with it instead of
    waiting for its end. A batch that is cancelled before its turn never reaches the runtime.
    """

    def __init__(self, *, on_clips: Callable[[int, str], None] | None = None) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._on_clips = on_clips or (lambda count, model: None)

    async def run(self, runtime: Runtime, clips: Clips, *, model: str = "") -> InferenceResult:
        """Execute all clips of one video: uint8 [N,T,H,W,3]. Cancellation takes effect between batches."""
        loop = asyncio.get_running_loop()
        outputs, queued, infer = [], 0.0, 0.0
        for first in range(0, len(clips), runtime.batch_size):
            batch = clips[first : first + runtime.batch_size]
            submitted = time.perf_counter()
            output, started, ended = await loop.run_in_executor(self._thread, _timed, runtime, batch)
            outputs.append(output)
            queued += started - submitted
            infer += ended - started
            self._on_clips(len(batch), model)
        return InferenceResult(outputs=tuple(outputs), queue_seconds=queued, infer_seconds=infer)

    def close(self) -> None:
        """Returns when the batch that runs has ended; those that wait are dropped."""
        self._thread.shutdown(cancel_futures=True)


def _timed(runtime: Runtime, batch: Clips) -> tuple[Outputs, float, float]:
    started = time.perf_counter()
    output = runtime.run(batch)
    return output, started, time.perf_counter()
