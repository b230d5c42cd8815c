"""The process that reads one stream, as the server sees it. Nothing that it says is believed."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import numpy as np

from tenclip_api.errors import DecodeWorkerDied, TenclipError
from tenclip_serving.decoding import shared_memory
from tenclip_serving.decoding.child import ChannelClosed
from tenclip_serving.decoding.child_process import MAX_TEXT_BYTES, START_SECONDS, ChildProcess, ProtocolViolation
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.decoding.worker import DecodeFault
from tenclip_serving.decoding.worker_messages import Failure, Fault, Ready
from tenclip_serving.live import messages
from tenclip_serving.live.messages import (
    Answer,
    Beat,
    Counters,
    NextWindow,
    Opened,
    OpenStream,
    StreamEnded,
    WindowReady,
)
from tenclip_serving.runtimes import Clips

T = TypeVar("T")
# It says something every second; a machine under load may need longer.
_BEAT_SECONDS = 30.0
# Besides what FFmpeg is allowed to take for opening a stream.
_OPEN_SECONDS = 30.0
# The largest number of a counter that is believed: frames of a connection of years.
_MOST = 1 << 40


class LiveWindow:
    """A window that came: uint8 [V,T,S,S,3], its seconds on the stream's clock, and when its last frame arrived.

    arrival, first_arrival: on the monotonic clock; the second one of the connection's first frame.
    missed_seconds: for so long nothing was watched before it that should have been, see `Absence`.
    """

    __slots__ = ("arrival", "clips", "end_seconds", "first_arrival", "missed_seconds", "start_seconds")

    def __init__(self, clips: Clips, ready: WindowReady) -> None:
        now = time.monotonic()
        self.clips = clips
        self.start_seconds, self.end_seconds = ready.start_seconds, ready.end_seconds
        self.arrival, self.first_arrival = min(ready.arrival, now), min(ready.first_arrival, now)
        self.missed_seconds = ready.missed_seconds


class ReaderProcess(ChildProcess):
    """One process; its methods block and are called from one thread at a time, but for `kill`."""

    def __init__(self, sandbox: SandboxLimits | None = None) -> None:
        super().__init__("tenclip_serving.live.child", sandbox)
        self._memory = shared_memory.Segments()
        self._request: OpenStream | None = None

    def wait_ready(self) -> None:
        """Raises DecodeWorkerDied when it does not come up."""
        self.set_timeout(START_SECONDS)
        self._checked(self._expect_ready, "a live stream")

    def open(self, request: OpenStream, descriptor: int | None) -> Opened:
        """Read this stream from now on. The descriptor stays the caller's to close.

        Raises what `open_stream` does; DecodeWorkerDied.
        """
        self._request = request
        self.set_timeout(request.open_seconds + request.idle_seconds + _OPEN_SECONDS)

        def opened() -> Opened:
            self._channel.send(pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL), descriptor=descriptor)
            answer, _ = self._receive()
            if not isinstance(answer, Opened):
                raise ProtocolViolation(f"{type(answer).__name__} instead of what the stream is")
            return answer

        return self._checked(opened, request.name)

    def next(self, on_beat: Callable[[Counters], None]) -> LiveWindow | str:
        """The next window, or why there is none any more ("" for the end of a file).

        on_beat: called with what is counted, also while there is no window. Raises as `open`.
        """
        request = self._request
        assert request is not None
        self.set_timeout(_BEAT_SECONDS)
        side = request.protocol.crop_side(request.spec)
        shape = (request.protocol.views, request.spec.num_frames, side, side, 3)
        return self._checked(lambda: self._next(shape, on_beat), request.name)

    def _next(self, shape: tuple[int, ...], on_beat: Callable[[Counters], None]) -> LiveWindow | str:
        size = math.prod(shape)
        segment = self._memory.take(size)
        message = pickle.dumps(NextWindow())
        self._channel.send(message, descriptor=None if segment is None else segment.descriptor)
        while True:
            answer, payload = self._receive(size if segment is None else 0)
            if isinstance(answer, WindowReady | Beat | StreamEnded):
                on_beat(_believable(answer.counters))
            if isinstance(answer, StreamEnded):
                return answer.why[:1000]
            if isinstance(answer, WindowReady):
                times = (
                    answer.start_seconds,
                    answer.end_seconds,
                    answer.arrival,
                    answer.first_arrival,
                    answer.missed_seconds,
                )
                if not all(map(math.isfinite, times)) or not answer.start_seconds < answer.end_seconds:
                    raise ProtocolViolation(f"a window of the times {times}")
                if segment is not None:
                    return LiveWindow(self._memory.lend(segment, shape), answer)
                if len(payload) != size:
                    raise ProtocolViolation(f"{len(payload)} bytes of a window instead of {size}")
                return LiveWindow(np.frombuffer(payload, np.uint8).reshape(shape), answer)
            if not isinstance(answer, Beat):
                raise ProtocolViolation(f"{type(answer).__name__} instead of a window")

    def _expect_ready(self) -> None:
        answer, _ = self._receive()
        if not isinstance(answer, Ready):
            raise ProtocolViolation("something else than that it is ready")

    def _receive(self, max_payload: int = 0) -> tuple[Answer, bytearray]:
        """Raises the TenclipError that it sends, DecodeFault for a bug."""
        try:
            message, payload = self._channel.receive(max_message=2 * MAX_TEXT_BYTES, max_payload=max_payload)
            answer = messages.decode(message)
            error = answer.error() if isinstance(answer, Failure) else None
        except (ValueError, msgspec.MsgspecError, RecursionError) as err:
            raise ProtocolViolation(f"what is no message ({err})") from err
        if error is not None:
            raise error
        if isinstance(answer, Fault):
            raise DecodeFault(f"reading a stream failed in its process:\n{answer.trace}")
        return answer, payload

    def _checked(self, call: Callable[[], T], name: str) -> T:
        try:
            return call()
        except ChannelClosed as err:
            raise DecodeWorkerDied(f"{name}: the process that read this stream died ({self._end()})") from err
        except ProtocolViolation as err:
            self.kill()
            raise DecodeWorkerDied(
                f"{name}: the process that read this stream was ended, for it answered with {err}"
            ) from err
        except (TenclipError, DecodeFault):
            raise  # its answer: it waits for the next request
        except BaseException:
            self.kill()  # who knows what it waits for
            raise

    def close(self) -> bool:
        """As `ChildProcess.close`."""
        ended = super().close()
        self._memory.close()
        return ended


class StreamProcess:
    """`ReaderProcess` for an event loop: started when it is needed, replaced when it dies, and gone after `close`."""

    def __init__(self, sandbox: SandboxLimits | None) -> None:
        self._sandbox = sandbox
        self._process: ReaderProcess | None = None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="live")
        self._closed = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def open(self, request: OpenStream, descriptor: int | None) -> Opened:
        """As `ReaderProcess.open`."""
        # The caller may give up and close its own while a thread here is about to send it.
        own = None if descriptor is None else os.dup(descriptor)

        def open_process() -> Opened:
            with shared_memory.closing(own):
                return self._open(request, own)

        return await self._run(open_process)

    async def next(self, on_beat: Callable[[Counters], None]) -> LiveWindow | str:
        """As `ReaderProcess.next`; on_beat is called in another thread."""
        process = self._process
        assert process is not None
        return await self._run(process.next, on_beat)

    async def close(self) -> None:
        """Ends the process, whatever it does."""
        self._closed = True
        if self._process is not None:
            self._process.kill()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._close)

    def _open(self, request: OpenStream, descriptor: int | None) -> Opened:
        if self._process is None or not self._process.alive:
            if self._process is not None:
                self._process.close()
            self._process = ReaderProcess(self._sandbox)
            if self._closed:
                self._process.kill()
            self._process.wait_ready()
        return self._process.open(request, descriptor)

    def _close(self) -> None:
        self._threads.shutdown()  # what waits for its answer sees that it is gone
        if self._process is not None:
            self._process.close()

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        """On the thread of this stream. When it is cancelled the process is killed: it may say nothing for long."""
        call = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if self._process is not None:
                self._process.kill()
            call.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise


def _believable(counters: Counters) -> Counters:
    numbers = (counters.frames_read, counters.frames_dropped, counters.windows_skipped, counters.discontinuities)
    times = (counters.silent_seconds, counters.frame_seconds)
    if not all(0 <= n <= _MOST for n in numbers) or not all(map(math.isfinite, times)):
        raise ProtocolViolation(f"{counters!r}")
    return counters
