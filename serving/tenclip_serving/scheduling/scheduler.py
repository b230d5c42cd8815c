"""Runs clips on the runtimes, in the order of `ClipQueue`, on threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tenclip_api.errors import DeadlineExceeded, ServerUnavailable
from tenclip_serving.runtimes.base import Clips, Outputs, Runtime
from tenclip_serving.scheduling.clip_queue import Batch, ClipJob, ClipQueue, Part

# Called with the index of the first clip, and the outputs of it and those after it.
OnOutputs = Callable[[int, Outputs], None]


@dataclass(frozen=True, kw_only=True)
class InferenceResult:
    """Outputs of all clips of one job, and the seconds that it waited and ran.

    outputs: in the order of the clips, whatever batches they ran in.
    """

    outputs: tuple[Outputs, ...]
    queue_seconds: float
    infer_seconds: float


@dataclass(kw_only=True, eq=False)
class _Job(ClipJob):
    """A job with its results. Only the event loop touches these fields."""

    done: asyncio.Future[None]
    on_outputs: OnOutputs | None
    outputs: dict[int, Outputs] = field(default_factory=dict)
    num_run: int = 0
    infer_seconds: float = 0.0


class ClipScheduler:
    """Clips of many videos share batches; a long video interleaves with those that come after it.

    The threads take their next batch themselves, so a busy event loop does not keep a runtime waiting; what is
    cancelled before it is taken never reaches a runtime.
    on_batch(model, clips) is called for every batch that ran, on_saved(model, clips) for clips that were cancelled.
    """

    def __init__(
        self,
        *,
        on_batch: Callable[[str, int], None] | None = None,
        on_saved: Callable[[str, int], None] | None = None,
    ) -> None:
        self._on_batch = on_batch or (lambda model, count: None)
        self._on_saved = on_saved or (lambda model, count: None)
        self._changed = threading.Condition()  # guards the queue
        self._queue = ClipQueue()
        self._threads: list[threading.Thread] = []
        self._running: list[str] = []  # models of the batches that run
        self._closed = False

    async def run(
        self,
        runtime: Runtime | Sequence[Runtime],
        clips: Clips,
        *,
        model: str = "",
        seconds_left: float | None = None,
        on_outputs: OnOutputs | None = None,
    ) -> InferenceResult:
        """Execute all clips of one video: uint8 [N,T,H,W,3].

        runtime: of the model; several are its instances. After `seconds_left` nothing of it is begun any more; to
        cancel is the caller's part. on_outputs: called as batches finish, in whatever order they do.
        Raises what the runtime raises; DeadlineExceeded where no time is left; ServerUnavailable after `close`.
        """
        if seconds_left is not None and seconds_left <= 0:
            self._on_saved(model, len(clips))
            raise DeadlineExceeded("the deadline has passed before the clips could run")
        submitted = time.perf_counter()
        job = _Job(
            model=model,
            runtimes=tuple(runtime) if isinstance(runtime, Sequence) else (runtime,),
            clips=clips,
            done=asyncio.get_running_loop().create_future(),
            on_outputs=on_outputs,
        )
        if seconds_left is not None:
            job.deadline = submitted + seconds_left
        self._add(job)
        try:
            await job.done
        finally:
            if self._remove(job):
                self._on_saved(model, job.left)
        elapsed = time.perf_counter() - submitted
        return InferenceResult(
            outputs=tuple(job.outputs[first] for first in sorted(job.outputs)),
            queue_seconds=max(0.0, elapsed - job.infer_seconds),
            infer_seconds=job.infer_seconds,
        )

    def waiting(self) -> dict[str, int]:
        """Clips that no runtime has begun, by model. From any thread."""
        with self._changed:
            return self._queue.waiting()

    def close(self, seconds: float | None = None) -> list[str]:
        """Returns when the batches that run have ended; those that wait are dropped, with ServerUnavailable.

        seconds: waits no longer; None: as long as it takes. Returns the models whose batches run on: what hangs ends
        with the process.
        """
        until = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            self._closed = True
            dropped = self._queue.drain()
            self._changed.notify_all()
        for job in dropped:
            assert isinstance(job, _Job)
            job.done.get_loop().call_soon_threadsafe(_fail, job, ServerUnavailable("the server is shutting down"))
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        with self._changed:
            return sorted(set(self._running))

    def _add(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                raise ServerUnavailable("the server is shutting down")
            self._queue.add(job)
            while len(self._threads) < self._queue.num_slots:
                self._threads.append(threading.Thread(target=self._work, name="infer", daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()

    def _remove(self, job: _Job) -> int:
        with self._changed:
            left = self._queue.remove(job)
            self._changed.notify_all()
        return left

    def _work(self) -> None:
        while self._run_one():
            pass

    def _run_one(self) -> bool:
        """Wait for a batch and run it; False after `close`. A function of its own, so that it holds nothing after."""
        batch = self._take()
        if batch is None:
            return False
        started = time.perf_counter()
        results, clean = _execute(batch)
        seconds = time.perf_counter() - started
        with self._changed:
            self._running.remove(batch.model)
            self._queue.finished(batch, seconds if clean else None)
            self._changed.notify_all()
        job = batch.parts[0].job
        assert isinstance(job, _Job)
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            job.done.get_loop().call_soon_threadsafe(self._deliver, batch, results, seconds)
        return True

    def _take(self) -> Batch | None:
        with self._changed:
            while not self._closed:
                found = self._queue.next(time.perf_counter())
                if isinstance(found, Batch):
                    self._running.append(found.model)
                    return found
                self._changed.wait(found)
        return None

    def _deliver(self, batch: Batch, results: Sequence[Outputs | Exception], seconds: float) -> None:
        self._on_batch(batch.model, batch.size)
        for part, result in zip(batch.parts, results, strict=True):
            job = part.job
            assert isinstance(job, _Job)
            if job.done.done():  # cancelled meanwhile, or another part of it failed
                continue
            if isinstance(result, Exception):
                self._remove(job)
                _fail(job, result)
            else:
                _deliver_part(job, part, result, seconds)


def _deliver_part(job: _Job, part: Part, outputs: Outputs, seconds: float) -> None:
    job.outputs[part.first] = outputs
    job.infer_seconds += seconds
    job.num_run += part.last - part.first
    if job.on_outputs is not None:
        try:
            job.on_outputs(part.first, outputs)
        except Exception as err:  # a bug, and no reason to leave the other videos of the batch without an answer
            _fail(job, err)
            return
    if job.num_run == len(job.clips):
        job.done.set_result(None)


def _fail(job: _Job, error: Exception) -> None:
    if not job.done.done():
        job.done.set_exception(error)


def _execute(batch: Batch) -> tuple[list[Outputs | Exception], bool]:
    """Outputs or an error for each part, and whether all went well.

    Where a batch of several videos fails, each is tried alone: only those at fault get the error.
    """
    clips = [p.job.clips[p.first : p.last] for p in batch.parts]
    try:
        together = batch.runtime.run(clips[0] if len(clips) == 1 else np.concatenate(clips))
    except Exception as err:
        return ([err] if len(clips) == 1 else [_try(batch.runtime, part) for part in clips]), False
    ends = np.cumsum([len(part) for part in clips])
    return [
        Outputs(together.logits[end - len(part) : end], together.features[end - len(part) : end])
        for part, end in zip(clips, ends, strict=True)
    ], True


def _try(runtime: Runtime, clips: Clips) -> Outputs | Exception:
    try:
        return runtime.run(clips)
    except Exception as err:
        return err
