"""Decoding outside the server's process: a pool of expendable workers.

Each worker is a child process (`child`) with a socket of its own, so the death of one can touch no other.
Process pools of the standard library and of pebble 5.2 were tried first: all workers share one pipe and its locks, so a
worker that is killed while idle leaves pebble's pool broken for good, and one killed while it sends its result
corrupts the results of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DecodeWorkerDied, Overloaded, ServerUnavailable, TenclipError
from tenclip_serving.decoding import shared_memory, worker_messages
from tenclip_serving.decoding.child import Channel, ChannelClosed, DecodeRequest
from tenclip_serving.decoding.sandbox import Confinement
from tenclip_serving.decoding.worker_messages import Answer, ClipsWanted, Decoded, Failure, Fault, Ready
from tenclip_serving.telemetry.logs import log
from tenclip_video.clips import MAX_CLIP_BYTES, VideoClips
from tenclip_video.salience import SalienceTimeline

START_SECONDS = 60.0
# A request that is given up while its video decodes leaves the worker this long to finish: that is mostly cheaper
# than a new process, which has all its libraries to import.
DRAIN_SECONDS = 2.0
# Of a worker that is told to go, before it is killed: it owns nothing that needs cleaning up.
_STOP_SECONDS = 5.0
# Between two looks at a process that only the kernel can end.
_LOOK_SECONDS = 1.0
# Of an error or a traceback, besides the name of the video that it repeats.
_MAX_TEXT_BYTES = 1 << 20
# Of a message, at most: an index of a frame, a clip besides its frames, a window of a timeline.
_INDEX_BYTES, _CLIP_BYTES, _WINDOW_BYTES = 9, 64, 24
# A day at 60 frames a second, the longest there is where the limits name no number of frames.
_MAX_FRAMES = 60 * 86_400


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
                    "tenclip_serving.decoding.child",
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
        self._memory = shared_memory.Segments()
        self._killed = False
        self.num_requests = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """It is there and was not told to end."""
        return not self._killed and not self.ended

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait_ready(self) -> None:
        """Raises DecodeWorkerDied when it does not come up."""
        self._sock.settimeout(START_SECONDS)
        try:
            if not isinstance(self._receive(_MAX_TEXT_BYTES)[0], Ready):
                raise _Nonsense("something else than that it is ready")
        except (ChannelClosed, _Nonsense) as err:
            self.kill()
            raise DecodeWorkerDied("a decode worker did not start; the server's log has its error") from err
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
        except (TenclipError, DecodeFault):
            raise  # its answer: it waits for the next request
        except BaseException:
            self.kill()  # who knows what it waits for
            raise

    def _send(self, request: DecodeRequest) -> None:
        data, descriptor = b"", None
        if isinstance(request.source, int):
            descriptor, request = request.source, replace(request, source=b"")
        elif isinstance(request.source, bytes):
            data, request = request.source, replace(request, source=b"")
        shared = shared_memory.create_from(data) if len(data) >= shared_memory.WORTH_SHARING_BYTES else None
        with shared_memory.closing(shared):
            given = descriptor if shared is None else shared
            message = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
            self._channel.send(message, data if given is None else b"", descriptor=given)

    def _receive_clips(self, request: DecodeRequest) -> VideoClips:
        text = _MAX_TEXT_BYTES + 32 * len(request.name)
        answer, _ = self._receive_no_error(request, text)
        wanted = _clips_wanted(answer, request)
        size = math.prod(wanted)
        segment = self._memory.take(size)
        self._channel.send(b"", descriptor=None if segment is None else segment.descriptor)
        most = text + _most_bytes(wanted, request)
        answer, payload = self._receive_no_error(request, most, size if segment is None else 0)
        decoded = _decoded(answer, wanted, request)
        if segment is None and len(payload) != size:
            raise _Nonsense(f"{len(payload)} bytes of clips instead of {size}")
        timeline = _timeline(decoded, request)
        if segment is None:
            clips: NDArray[np.uint8] = np.frombuffer(payload, np.uint8).reshape(wanted)
        else:
            clips = self._memory.lend(segment, wanted)
        return VideoClips(
            clips=clips,
            plan=decoded.plan,
            seconds=decoded.seconds,
            views=decoded.views,
            info=decoded.info,
            report=decoded.report,
            timeline=timeline,
            preprocess_seconds=decoded.preprocess_seconds,
        )

    def _receive_no_error(
        self, request: DecodeRequest, max_message: int, max_payload: int = 0
    ) -> tuple[Answer, bytearray]:
        """Raises the worker's TenclipError, DecodeFault, _Nonsense or ChannelClosed."""
        answer, payload = self._receive(max_message, max_payload)
        if isinstance(answer, Failure):
            try:
                error = answer.error()
            except ValueError as err:
                raise _Nonsense(str(err)) from err
            raise error
        if isinstance(answer, Fault):
            raise DecodeFault(f"{request.name}: decoding failed in the worker:\n{answer.trace}")
        return answer, payload

    def _receive(self, max_message: int, max_payload: int = 0) -> tuple[Answer, bytearray]:
        try:
            message, payload = self._channel.receive(max_message=max_message, max_payload=max_payload)
            return worker_messages.decode(message), payload
        except (ValueError, msgspec.MsgspecError, RecursionError) as err:  # ValueError: of lengths, and of no UTF-8
            raise _Nonsense(f"what is no message ({err})") from err

    def _end(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it had closed its socket"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """Tell the process to end now, and wait for nothing; a `decode` under way raises DecodeWorkerDied."""
        self._killed = True
        self._process.kill()
        # A process that hangs in the kernel (a network file system that is gone) dies when that lets go of it.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> bool:
        """Let go of the process, which ends by itself when its socket closes, and make sure that it does.

        False when it still has not ended: only the kernel can end it then. Takes at most twice `_STOP_SECONDS`.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if not self._wait():
            self.kill()
            self._wait()
        self._sock.close()
        self._memory.close()
        return self.ended

    def _wait(self) -> bool:
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True


def _clips_wanted(answer: Answer, request: DecodeRequest) -> tuple[int, int, int, int, int]:
    """The shape of the clips that a worker asks memory for. Raises _Nonsense where the request asked for no such."""
    if not isinstance(answer, ClipsWanted):
        raise _Nonsense(f"{type(answer).__name__} instead of the shape of its clips")
    shape = answer.shape
    side = request.protocol.crop_side(request.spec)
    most = request.protocol.max_planned
    fits = shape[1:] == (request.spec.num_frames, side, side, 3) and shape[0] > 0
    if not fits or (most is not None and shape[0] > most) or math.prod(shape) > MAX_CLIP_BYTES:
        raise _Nonsense(f"clips of the shape {shape!r:.100}")
    return shape


def _most_bytes(wanted: tuple[int, ...], request: DecodeRequest) -> int:
    """Of the message that comes with clips: their plan, and a timeline of every window where one is due."""
    size = wanted[0] * (_CLIP_BYTES + _INDEX_BYTES * request.spec.num_frames)
    if not _has_timeline(request):
        return size
    frames = _MAX_FRAMES if request.spec.target_fps else (request.limits.max_frames or _MAX_FRAMES)
    step = request.protocol.selection.window_step or request.spec.span
    return size + _WINDOW_BYTES * (frames // step + 2)


def _decoded(answer: Answer, wanted: tuple[int, ...], request: DecodeRequest) -> Decoded:
    """Raises _Nonsense for anything but a description of the clips that were announced."""
    if not isinstance(answer, Decoded):
        raise _Nonsense(f"{type(answer).__name__} instead of clips")
    num_clips = len(answer.plan)
    if answer.shape != wanted or answer.views < 1 or num_clips * answer.views != wanted[0]:
        raise _Nonsense("other clips than it had announced")
    if len(answer.seconds) != num_clips or any(len(c.frames) != request.spec.num_frames for c in answer.plan):
        raise _Nonsense("a plan that does not fit its clips")
    return answer


def _timeline(decoded: Decoded, request: DecodeRequest) -> SalienceTimeline | None:
    """Raises _Nonsense for one that nobody asked for, or that does not hold together."""
    if (decoded.timeline is not None) != _has_timeline(request):
        raise _Nonsense("a timeline that is not due, or none where one is")
    try:
        return None if decoded.timeline is None else decoded.timeline.timeline()
    except ValueError as err:
        raise _Nonsense(str(err)) from err


def _has_timeline(request: DecodeRequest) -> bool:
    return request.timeline or request.protocol.selection.mode == "salient"


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
        """Decode on a worker from `acquire`.

        Raises what `DecodeWorker.decode` does; DecodeWorkerDied also after `timeout` seconds; Overloaded when the
        server is out of descriptors. When the caller is cancelled the worker goes on for a moment before it is
        replaced. A descriptor in the request stays the caller's.
        on_leave: called when this raises while the worker has not ended what it does, with a task that ends when the
        worker holds nothing of it any more.
        """
        job = self._submit(worker, request)
        leaving = None
        try:
            result = await asyncio.wait_for(asyncio.shield(job), timeout)
        except TimeoutError:
            self._condemn(worker, "timeout")
            leaving = self._run_in_background(self._bury(worker, job))
            raise DecodeWorkerDied(
                f"{request.name}: decoding took longer than the {timeout:g} seconds that this server allows "
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
            if isinstance(err, OSError) and err.errno in (errno.EMFILE, errno.ENFILE):
                raise Overloaded(f"{request.name}: the server is out of file descriptors; try again") from err
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
        # Not on the loop: a decode that its caller still waits for may take `_STOP_SECONDS` to see that it has ended.
        await loop.run_in_executor(None, self._threads.shutdown)

    def _give_back(self, worker: DecodeWorker) -> None:
        if not worker.alive:
            self._replace_later(worker, "died")
        elif worker.num_requests >= self._max_requests:
            self._replace_later(worker, "recycled")
        else:
            self._idle.put_nowait(worker)

    async def _drain(self, worker: DecodeWorker, job: asyncio.Future[VideoClips]) -> None:
        """Nobody waits for `job` any more; the worker has a moment to finish it."""
        done, _ = await asyncio.wait([job], timeout=0 if self._closed else DRAIN_SECONDS)
        if done:
            job.exception()  # no one is left to be told
            self._give_back(worker)
        else:
            self._condemn(worker, "cancelled")
            await self._bury(worker, job)

    def _condemn(self, worker: DecodeWorker, reason: str) -> None:
        self._tell(worker, reason)
        worker.kill()

    async def _bury(self, worker: DecodeWorker, job: asyncio.Future[VideoClips]) -> None:
        await asyncio.wait([job])  # not for long: its socket is shut down
        job.exception()
        await self._retire(worker)

    def _replace_later(self, worker: DecodeWorker, reason: str) -> None:
        """A new worker for one that is dead or has served its time."""
        self._tell(worker, reason)
        self._run_in_background(self._retire(worker))

    def _tell(self, worker: DecodeWorker, reason: str) -> None:
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
        worker = DecodeWorker(self._confinement)
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


def _environment() -> dict[str, str]:
    """The server's, with its import path (`-P` keeps the working directory off it) and one thread a library."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
