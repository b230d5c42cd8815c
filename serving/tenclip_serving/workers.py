"""Decoding outside the server's process: a pool of expendable workers.

Each worker is a child process (`decode_worker`) with a socket of its own, so the death of one can touch no other.
Process pools of the standard library and of pebble 5.2 were tried first: all workers share one pipe and its locks, so a
worker that is killed while idle leaves pebble's pool broken for good, and one killed while it sends its result
corrupts the results of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from tenclip_api.errors import DecodeWorkerDied, ServerUnavailable, TenclipError
from tenclip_serving import memory
from tenclip_serving.confine import Confinement
from tenclip_serving.decode_worker import READY, Channel, ChannelClosed, ClipsWanted, DecodeRequest, WorkerFault
from tenclip_serving.logs import log
from tenclip_video.clips import MAX_CLIP_BYTES, VideoClips, crop_side

START_SECONDS = 60.0
# A request that is given up while its video decodes leaves the worker this long to finish: that is mostly cheaper
# than a new process, which has all its libraries to import.
DRAIN_SECONDS = 2.0
# Of an encoded video, from which on memory that is handed over costs less than the socket.
_WORTH_SHARING_BYTES = 64 << 10
# Of a worker that is told to go, before it is killed: it owns nothing that needs cleaning up.
_STOP_SECONDS = 5.0


class _Nonsense(Exception):
    """A worker says what no worker of ours would: the file that it decodes may have taken it over."""


class DecodeFault(Exception):
    """A bug in decoding: an exception that no one foresaw, with the worker's traceback in its message."""


class DecodeWorker:
    """One worker process. Its methods block; `decode` is called from one thread at a time, `kill` from any."""

    def __init__(self, confinement: Confinement | None = None) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "tenclip_serving.decode_worker",
                    str(theirs.fileno()),
                    *(confinement or Confinement()).to_arguments(),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # stdout is the server's own, for one line
                env=_environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._sock = ours
        self._channel = Channel(ours)
        self._memory = memory.Segments()
        self.num_requests = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Raises DecodeWorkerDied when it does not come up."""
        self._sock.settimeout(START_SECONDS)
        try:
            message, _ = self._channel.receive()
        except ChannelClosed as err:
            self.kill()
            raise DecodeWorkerDied("a decode worker did not start; the server's log has its error") from err
        assert message == READY
        self._sock.settimeout(None)

    def decode(self, request: DecodeRequest) -> VideoClips:
        """The clips, or the worker's TenclipError. Raises DecodeWorkerDied, or DecodeFault for a bug.

        The clips are a view of memory that is given back when the last view of it dies.
        """
        self.num_requests += 1
        try:
            self._send(request)
            return self._receive_clips(request)
        except ChannelClosed as err:
            raise DecodeWorkerDied(f"{request.name}: the process that decoded this video died ({self._end()})") from err
        except _Nonsense as err:
            self.kill()
            raise DecodeWorkerDied(
                f"{request.name}: the process that decoded this video was ended, for it answered with {err}"
            ) from err

    def _send(self, request: DecodeRequest) -> None:
        data = b""
        if isinstance(request.source, int):
            self._channel.send(replace(request, source=b""), descriptor=request.source)
            return
        if isinstance(request.source, bytes):
            data, request = request.source, replace(request, source=b"")
        shared = memory.create_from(data) if len(data) >= _WORTH_SHARING_BYTES else None
        with memory.closing(shared) as descriptor:
            self._channel.send(request, data if descriptor is None else b"", descriptor=descriptor)

    def _receive_clips(self, request: DecodeRequest) -> VideoClips:
        message, _ = self._receive(request)
        wanted = _clips_wanted(message, request)
        segment = self._memory.take(math.prod(wanted))
        self._channel.send(READY, descriptor=None if segment is None else segment.descriptor)
        message, payload = self._receive(request)
        if not (isinstance(message, tuple) and len(message) == 2 and isinstance(message[0], VideoClips)):
            raise _Nonsense(f"{type(message).__name__} instead of clips")
        if message[1] != wanted or (segment is None and len(payload) != math.prod(wanted)):
            raise _Nonsense("other clips than it had announced")
        if segment is None:
            return replace(message[0], clips=np.frombuffer(payload, np.uint8).reshape(wanted))
        return replace(message[0], clips=self._memory.lend(segment, wanted))

    def _receive(self, request: DecodeRequest) -> tuple[Any, bytearray]:
        """A message that is no error. Raises the worker's TenclipError, DecodeFault, _Nonsense or ChannelClosed."""
        try:
            message, payload = self._channel.receive()
        except ChannelClosed:
            raise
        except Exception as err:  # unpickling what a hostile worker made up can raise anything
            raise _Nonsense(f"what is no message ({err})") from err
        if isinstance(message, TenclipError):
            raise message
        if isinstance(message, WorkerFault):
            raise DecodeFault(f"{request.name}: decoding failed in the worker:\n{message.trace}")
        return message, payload

    def _end(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it had closed its socket"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End the process now; a `decode` under way raises DecodeWorkerDied."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of the process, which ends by itself when its socket closes, and make sure that it does."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._sock.close()
        self._memory.close()


def _clips_wanted(message: object, request: DecodeRequest) -> tuple[int, ...]:
    """The shape of the clips that a worker asks memory for. Raises _Nonsense where the request asked for no such."""
    if not isinstance(message, ClipsWanted) or not isinstance(message.shape, tuple):
        raise _Nonsense(f"{type(message).__name__} instead of the shape of its clips")
    shape = message.shape
    side = crop_side(request.spec, fully_convolutional=request.fully_convolutional)
    fits = shape[1:] == (request.spec.num_frames, side, side, 3) and isinstance(shape[0], int) and shape[0] > 0
    if not fits or math.prod(shape) > MAX_CLIP_BYTES:
        raise _Nonsense(f"clips of the shape {shape!r:.100}")
    return shape


class DecodePool:
    """`size` workers. A request that finds none idle waits its turn, first come first served.

    on_restart: called with "died", "timeout", "cancelled" or "recycled" when a worker is replaced.
    max_requests: of one worker, then it is replaced. confinement: what a worker may use.
    """

    def __init__(
        self,
        size: int,
        *,
        max_requests: int = 1000,
        confinement: Confinement | None = None,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        self._size = size
        self._confinement = confinement
        self._max_requests = max_requests
        self._on_restart = on_restart or (lambda reason: None)
        self._threads = ThreadPoolExecutor(2 * size, thread_name_prefix="decode")
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
        for worker in await asyncio.gather(*(self._spawn() for _ in range(self._size))):
            self._idle.put_nowait(worker)

    async def acquire(self) -> DecodeWorker:
        """A worker for `decode`, which gives it back."""
        if self._closed:
            raise ServerUnavailable("the server is shutting down")
        while True:
            worker = await self._idle.get()
            if worker.alive:
                return worker
            self._replace_later(worker, "died")  # killed while it was idle: no one needs to know

    async def decode(self, worker: DecodeWorker, request: DecodeRequest, *, timeout: float) -> VideoClips:
        """Decode on a worker from `acquire`.

        Raises what `DecodeWorker.decode` does; DecodeWorkerDied also after `timeout` seconds. When the caller is
        cancelled the worker goes on for a moment before it is replaced. A descriptor in the request stays the caller's.
        """
        own = None
        if isinstance(request.source, int):
            # The caller may give up and close its own while a thread here is about to send it.
            own = os.dup(request.source)
            request = replace(request, source=own)
        job = asyncio.get_running_loop().run_in_executor(self._threads, worker.decode, request)
        if own is not None:
            job.add_done_callback(lambda done: os.close(own))
        try:
            result = await asyncio.wait_for(asyncio.shield(job), timeout)
        except TimeoutError:
            self._replace_later(worker, "timeout", job)
            raise DecodeWorkerDied(
                f"{request.name}: decoding took longer than the {timeout:g} seconds that this server allows"
            ) from None
        except asyncio.CancelledError:
            self._run_in_background(self._drain(worker, job))
            raise
        except BaseException:
            self._give_back(worker)
            raise
        self._give_back(worker)
        return result

    async def close(self) -> None:
        """End every worker and what it does; none is left when this returns."""
        self._closed = True
        for worker in tuple(self._workers):
            worker.kill()
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, w.close) for w in self._workers))
        self._workers.clear()
        self._threads.shutdown()

    def _give_back(self, worker: DecodeWorker) -> None:
        if not worker.alive:
            self._replace_later(worker, "died")
        elif worker.num_requests >= self._max_requests:
            self._replace_later(worker, "recycled")
        else:
            self._idle.put_nowait(worker)

    async def _drain(self, worker: DecodeWorker, job: asyncio.Future[VideoClips]) -> None:
        done, _ = await asyncio.wait([job], timeout=0 if self._closed else DRAIN_SECONDS)
        if done:
            job.exception()  # no one is left to be told
            self._give_back(worker)
        else:
            self._replace_later(worker, "cancelled", job)

    def _replace_later(self, worker: DecodeWorker, reason: str, job: asyncio.Future[VideoClips] | None = None) -> None:
        """A new worker for one that is dead, stuck in `job` (it is killed) or has served its time."""
        self._on_restart(reason)
        log(logging.WARNING, "decode worker replaced", reason=reason, pid=worker.pid, requests=worker.num_requests)
        self._run_in_background(self._replace(worker, job))

    async def _replace(self, worker: DecodeWorker, job: asyncio.Future[VideoClips] | None) -> None:
        loop = asyncio.get_running_loop()
        if job is not None:
            await loop.run_in_executor(self._threads, worker.kill)
            await asyncio.wait([job])
            job.exception()
        await loop.run_in_executor(self._threads, worker.close)
        self._workers.discard(worker)
        while not self._closed:
            try:
                self._idle.put_nowait(await self._spawn())
                return
            except (DecodeWorkerDied, OSError) as err:  # out of memory or processes, most likely: it may pass
                log(logging.ERROR, f"cannot start a decode worker, trying again in a second: {err}")
                await asyncio.sleep(1)

    async def _spawn(self) -> DecodeWorker:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._start_worker)

    def _start_worker(self) -> DecodeWorker:
        worker = DecodeWorker(self._confinement)
        self._workers.add(worker)
        try:
            worker.wait_ready()
        except BaseException:
            self._workers.discard(worker)
            worker.close()
            raise
        return worker

    def _run_in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _environment() -> dict[str, str]:
    """The server's, with its import path (`-P` keeps the working directory off it) and one thread a library."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
