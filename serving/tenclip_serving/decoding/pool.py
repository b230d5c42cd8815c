"""Decoding outside the server's process: a pool of expendable workers.

Each worker (`DecodeWorker`) is a child process with a socket of its own, so the death of one can touch no other.
Process pools of the standard library and of pebble 5.2 were tried first: all workers share one pipe and its locks, so a
worker that is killed while idle leaves pebble's pool broken for good, and one killed while it sends its result
corrupts the results of the others.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tenclip_api.errors import DecodeWorkerDied, ServerUnavailable
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.decoding.worker import DecodeWorker
from tenclip_serving.exhaustion import raise_if_out_of_descriptors
from tenclip_serving.telemetry.logs import log
from tenclip_video.clips import VideoClips

# A request that is given up while its video decodes leaves the worker this long to finish: that is mostly cheaper
# than a new process, which has all its libraries to import.
DRAIN_SECONDS = 2.0
# Between two looks at a process that only the kernel can end.
_LOOK_SECONDS = 1.0


class DecodePool:
    """`size` workers. A request that finds none idle waits its turn, first come first served.

    A video whose worker dies is sent to a second one, once: most likely the worker was ended for another reason (memory
    ran out, an operator). A video that ends two workers gets DecodeWorkerDied.

    max_requests: videos that a worker decodes before it is replaced. sandbox: what a worker may use.
    on_restart: called with "died", "timeout", "cancelled" or "recycled" when a worker is replaced.
    on_retry: called for each video that is sent to a second worker.
    """

    def __init__(
        self,
        size: int,
        *,
        max_requests: int = 1000,
        sandbox: SandboxLimits | None = None,
        on_restart: Callable[[str], None] | None = None,
        on_retry: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size = size
        self._sandbox = sandbox
        self._max_requests = max_requests
        self._on_restart = on_restart or (lambda reason: None)
        self._on_retry = on_retry or (lambda: None)
        self._clock = clock
        # For each worker one that decodes and one that ends or starts it.
        self._num_threads = 2 * size
        self._threads = ThreadPoolExecutor(self._num_threads, thread_name_prefix="decode")
        self._idle: asyncio.Queue[DecodeWorker] = asyncio.Queue()
        self._workers: set[DecodeWorker] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of all workers."""
        return tuple(w.pid for w in self._workers)

    async def start(self) -> None:
        """Returns when every worker is ready. Raises DecodeWorkerDied when one does not come up."""
        self._start_threads()
        for worker in await asyncio.gather(*(self._spawn() for _ in range(self._size))):
            self._idle.put_nowait(worker)

    def _start_threads(self) -> None:
        """All of them, for good.

        Later there may be none to have, and an executor that cannot start one raises but keeps the work: it would
        run some time, on a worker that another request has by then.
        """
        all_there = threading.Barrier(self._num_threads)
        try:
            for _ in range(self._num_threads):
                self._threads.submit(all_there.wait)
        except RuntimeError as err:
            all_there.abort()
            raise DecodeWorkerDied(f"cannot start {self._num_threads} threads for the decode workers: {err}") from err

    async def acquire(self) -> DecodeWorker:
        """A worker for `decode`, which gives it back."""
        if self._closed:
            raise ServerUnavailable("the server is shutting down")
        while True:
            worker = await self._idle.get()
            if worker.alive:
                return worker
            self._replace_later(worker, "died")  # killed while it was idle: no one needs to know

    async def decode(
        self,
        worker: DecodeWorker,
        request: DecodeRequest,
        *,
        timeout: float,
        on_leave: Callable[[asyncio.Task[None]], None] | None = None,
    ) -> VideoClips:
        """Decode on a worker from `acquire`, and once more on another if that dies.

        timeout: seconds, of both together. A descriptor in the request stays the caller's.
        on_leave: called when this raises while the worker has not ended what it does, with a task that ends when the
        worker holds nothing of it any more.
        Raises what `DecodeWorker.decode` does; DecodeWorkerDied also after `timeout` seconds; Overloaded when the
        server is out of descriptors. When the caller is cancelled the worker goes on for a moment before it is
        replaced.
        """
        started = self._clock()
        try:
            return await self._decode_once(worker, request, timeout, timeout, on_leave)
        except DecodeWorkerDied as err:
            left = timeout - (self._clock() - started)
            if worker.killed or self._closed or left <= 0:
                raise
            log(logging.WARNING, f"{err.message}; it is sent to another one", pid=worker.pid)
        other = await self.acquire()
        self._on_retry()
        try:
            return await self._decode_once(other, request, left, timeout, on_leave)
        except DecodeWorkerDied as err:
            if other.killed:
                raise
            raise DecodeWorkerDied(f"{err.message}, as one before it had") from err

    async def _decode_once(
        self,
        worker: DecodeWorker,
        request: DecodeRequest,
        seconds: float,
        allowed: float,
        on_leave: Callable[[asyncio.Task[None]], None] | None,
    ) -> VideoClips:
        """Within `seconds`; `allowed` is what an error names as the limit. The worker goes back, or is replaced."""
        job = self._submit(worker, request)
        leaving = None
        try:
            # Not `wait_for`: until Python 3.12 it returns a result that is there when the caller is cancelled, and the
            # cancellation, a deadline's say, is lost.
            async with asyncio.timeout(seconds):
                result = await asyncio.shield(job)
        except TimeoutError:
            self._kill(worker, "timeout")
            leaving = self._run_in_background(self._reap(worker, job))
            raise DecodeWorkerDied(
                f"{request.name}: decoding took longer than the {allowed:g} seconds that this server allows "
                f"(max_decode_seconds), and was stopped"
            ) from None
        except asyncio.CancelledError:
            leaving = self._run_in_background(self._drain(worker, job))
            raise
        except BaseException:
            self._give_back(worker)
            raise
        finally:
            if leaving is not None and on_leave is not None:
                on_leave(leaving)
        self._give_back(worker)
        return result

    def _submit(self, worker: DecodeWorker, request: DecodeRequest) -> asyncio.Future[VideoClips]:
        """The worker goes back when this raises: it has heard nothing."""
        own = None
        try:
            if isinstance(request.source, int):
                # The caller may give up and close its own while a thread here is about to send it.
                own = os.dup(request.source)
                request = replace(request, source=own)
            job = asyncio.get_running_loop().run_in_executor(self._threads, worker.decode, request)
        except BaseException as err:
            if own is not None:
                os.close(own)
            self._give_back(worker)
            raise_if_out_of_descriptors(err, request.name)
            raise
        if own is not None:
            job.add_done_callback(lambda done: os.close(own))
        return job

    async def close(self) -> None:
        """End every worker and what it does; none is left when this returns, but for those that the kernel holds."""
        self._closed = True
        for worker in tuple(self._workers):
            worker.kill()
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        loop = asyncio.get_running_loop()
        ended = await asyncio.gather(*(loop.run_in_executor(self._threads, w.close) for w in self._workers))
        if not all(ended):
            log(logging.ERROR, f"decode workers that do not end, killed: {ended.count(False)}")
        self._workers.clear()
        # Not on the loop: a decode that its caller still waits for may take `STOP_SECONDS` to see that it has ended.
        await loop.run_in_executor(None, self._threads.shutdown)

    def _give_back(self, worker: DecodeWorker) -> None:
        if not worker.alive:
            self._replace_later(worker, "died")
        elif worker.num_requests >= self._max_requests:
            self._replace_later(worker, "recycled")
        else:
            self._idle.put_nowait(worker)

    async def _drain(self, worker: DecodeWorker, job: asyncio.Future[VideoClips]) -> None:
        """Give the worker a moment to finish a job that nobody waits for any more; else replace it."""
        done, _ = await asyncio.wait([job], timeout=0 if self._closed else DRAIN_SECONDS)
        if done:
            job.exception()  # no one is left to be told
            self._give_back(worker)
        else:
            self._kill(worker, "cancelled")
            await self._reap(worker, job)

    def _kill(self, worker: DecodeWorker, reason: str) -> None:
        self._count_restart(worker, reason)
        worker.kill()

    async def _reap(self, worker: DecodeWorker, job: asyncio.Future[VideoClips]) -> None:
        """Wait for the end of a worker that was killed at its job, and replace it."""
        await asyncio.wait([job])  # not for long: its socket is shut down
        job.exception()
        await self._retire(worker)

    def _replace_later(self, worker: DecodeWorker, reason: str) -> None:
        """A new worker for one that is dead or has served its time."""
        self._count_restart(worker, reason)
        self._run_in_background(self._retire(worker))

    def _count_restart(self, worker: DecodeWorker, reason: str) -> None:
        self._on_restart(reason)
        log(logging.WARNING, "decode worker replaced", reason=reason, pid=worker.pid, requests=worker.num_requests)

    async def _retire(self, worker: DecodeWorker) -> None:
        """A new worker for this one, which is at work on nothing. Ends when its process has."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, worker.close)
        finally:
            self._workers.discard(worker)
            self._run_in_background(self._fill_place())
        if not worker.ended:
            log(logging.ERROR, "a decode worker that was killed does not end: a disk may hang", pid=worker.pid)
        while not worker.ended and not self._closed:
            await asyncio.sleep(_LOOK_SECONDS)

    async def _fill_place(self) -> None:
        while not self._closed:
            try:
                self._idle.put_nowait(await self._spawn())
                return
            except Exception as err:  # out of memory, processes or descriptors, most likely: it may pass
                log(logging.ERROR, f"cannot start a decode worker, trying again in a second: {err}")
                await asyncio.sleep(1)

    async def _spawn(self) -> DecodeWorker:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._start_worker)

    def _start_worker(self) -> DecodeWorker:
        worker = DecodeWorker(self._sandbox)
        self._workers.add(worker)
        if self._closed:  # `close` may not have seen it
            worker.kill()
        try:
            worker.wait_ready()
        except BaseException:
            self._workers.discard(worker)
            worker.close()
            raise
        return worker

    def _run_in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
