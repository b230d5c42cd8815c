"""One decode process, as the server sees it: `DecodeWorker` starts it, sends it videos and checks what it answers.

The process itself is `child`. Nothing that it says is believed: a file that it decodes may have taken it over.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DecodeWorkerDied, TenclipError
from tenclip_serving.decoding import shared_memory, worker_messages
from tenclip_serving.decoding.child import Channel, ChannelClosed, DecodeRequest
from tenclip_serving.decoding.sampler_cache import KnownSamplers
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.decoding.worker_messages import Answer, ClipsWanted, Decoded, Failure, Fault, Ready
from tenclip_serving.decoding.worker_pictures import check_thumbnails, most_picture_bytes
from tenclip_video.clips import MAX_CLIP_BYTES, VideoClips
from tenclip_video.filmstrip import Thumbnail
from tenclip_video.salience import SalienceTimeline

# How long a process may take to start.
START_SECONDS = 60.0
# Time for a process to end by itself before it is killed: it owns nothing that needs cleaning up.
STOP_SECONDS = 5.0
# The longest error or traceback, besides the name of the video that it repeats.
_MAX_TEXT_BYTES = 1 << 20
# The most that parts of a message take: an index of a frame, a clip besides its frames, a window of a timeline.
_INDEX_BYTES, _CLIP_BYTES, _WINDOW_BYTES = 9, 64, 24
# A day at 60 frames a second, the longest there is where the limits name no number of frames.
_MAX_FRAMES = 60 * 86_400


class ProtocolViolation(Exception):
    """A worker says what no worker of ours would: the file that it decodes may have taken it over."""


class DecodeFault(Exception):
    """A bug in decoding: an exception that no one foresaw, with the worker's traceback in its message."""


class DecodeWorker:
    """One worker process. Its methods block; `decode` is called from one thread at a time, `kill` from any.

    sandbox: what the process may use.
    """

    def __init__(self, sandbox: SandboxLimits | None = None) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "tenclip_serving.decoding.child",
                    str(theirs.fileno()),
                    *(sandbox or SandboxLimits()).to_arguments(),
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
        self._samplers = KnownSamplers()
        self._killed = False
        self.num_requests = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """The process runs and was not told to end."""
        return not self._killed and not self.ended

    @property
    def killed(self) -> bool:
        """It was told to end: it took too long, broke the protocol, or the pool closes."""
        return self._killed

    @property
    def ended(self) -> bool:
        """The process has ended, for whatever reason."""
        return self._process.poll() is not None

    def wait_ready(self) -> None:
        """Returns when the process takes requests. Raises DecodeWorkerDied when it does not come up."""
        self._sock.settimeout(START_SECONDS)
        try:
            if not isinstance(self._receive(_MAX_TEXT_BYTES)[0], Ready):
                raise ProtocolViolation("something else than that it is ready")
        except (ChannelClosed, ProtocolViolation) as err:
            self.kill()
            raise DecodeWorkerDied("a decode worker did not start; the server's log has its error") from err
        self._sock.settimeout(None)

    def decode(self, request: DecodeRequest) -> VideoClips:
        """Decode one video. Raises the worker's TenclipError, DecodeWorkerDied, or DecodeFault for a bug.

        The clips are a view of memory that is given back when the last view of it dies.
        """
        self.num_requests += 1
        try:
            self._send(request)
            return self._receive_clips(request)
        except ChannelClosed as err:
            raise DecodeWorkerDied(f"{request.name}: the process that decoded this video died ({self._end()})") from err
        except ProtocolViolation as err:
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
        if request.sampler is not None:
            request = replace(request, sampler=self._samplers.to_send(request.sampler))
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
            raise ProtocolViolation(f"{len(payload)} bytes of clips instead of {size}")
        timeline, thumbnails = _timeline(decoded, request), _thumbnails(decoded, request)
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
            thumbnails=thumbnails,
            score_seconds=decoded.score_seconds,
        )

    def _receive_no_error(
        self, request: DecodeRequest, max_message: int, max_payload: int = 0
    ) -> tuple[Answer, bytearray]:
        """Raises the worker's TenclipError, DecodeFault, ProtocolViolation or ChannelClosed."""
        answer, payload = self._receive(max_message, max_payload)
        if isinstance(answer, Failure):
            try:
                error = answer.error()
            except ValueError as err:
                raise ProtocolViolation(str(err)) from err
            raise error
        if isinstance(answer, Fault):
            raise DecodeFault(f"{request.name}: decoding failed in the worker:\n{answer.trace}")
        return answer, payload

    def _receive(self, max_message: int, max_payload: int = 0) -> tuple[Answer, bytearray]:
        try:
            message, payload = self._channel.receive(max_message=max_message, max_payload=max_payload)
            return worker_messages.decode(message), payload
        except (ValueError, msgspec.MsgspecError, RecursionError) as err:  # ValueError: of lengths, and of no UTF-8
            raise ProtocolViolation(f"what is no message ({err})") from err

    def _end(self) -> str:
        """How the process ended: its exit code or signal, in words."""
        try:
            code = self._process.wait(STOP_SECONDS)
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

        False when it still has not ended: only the kernel can end it then. Takes at most twice `STOP_SECONDS`.
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
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True


def _clips_wanted(answer: Answer, request: DecodeRequest) -> tuple[int, int, int, int, int]:
    """The shape of the clips that a worker asks memory for.

    Raises ProtocolViolation for clips that the request did not ask for.
    """
    if not isinstance(answer, ClipsWanted):
        raise ProtocolViolation(f"{type(answer).__name__} instead of the shape of its clips")
    shape = answer.shape
    side = request.protocol.crop_side(request.spec)
    most = request.protocol.max_planned
    fits = shape[1:] == (request.spec.num_frames, side, side, 3) and shape[0] > 0
    if not fits or (most is not None and shape[0] > most) or math.prod(shape) > MAX_CLIP_BYTES:
        raise ProtocolViolation(f"clips of the shape {shape!r:.100}")
    return shape


def _most_bytes(wanted: tuple[int, ...], request: DecodeRequest) -> int:
    """Size of the longest message that can come with clips: their plan, pictures, and the timeline where one is due."""
    size = wanted[0] * (_CLIP_BYTES + _INDEX_BYTES * request.spec.num_frames) + most_picture_bytes(request.thumbnails)
    if not _has_timeline(request):
        return size
    frames = _MAX_FRAMES if request.spec.target_fps else (request.limits.max_frames or _MAX_FRAMES)
    step = request.protocol.selection.window_step or request.spec.span
    if request.sampler is not None:
        step = min(step, request.sampler.window_step)
    return size + _WINDOW_BYTES * (frames // step + 2) + _INDEX_BYTES * request.protocol.selection.num_clips


def _decoded(answer: Answer, wanted: tuple[int, ...], request: DecodeRequest) -> Decoded:
    """Raises ProtocolViolation for anything but a description of the clips that were announced."""
    if not isinstance(answer, Decoded):
        raise ProtocolViolation(f"{type(answer).__name__} instead of clips")
    num_clips = len(answer.plan)
    if answer.shape != wanted or answer.views < 1 or num_clips * answer.views != wanted[0]:
        raise ProtocolViolation("other clips than it had announced")
    if len(answer.seconds) != num_clips or any(len(c.frames) != request.spec.num_frames for c in answer.plan):
        raise ProtocolViolation("a plan that does not fit its clips")
    return answer


def _timeline(decoded: Decoded, request: DecodeRequest) -> SalienceTimeline | None:
    """Raises ProtocolViolation for one that nobody asked for, or that does not hold together."""
    if (decoded.timeline is not None) != _has_timeline(request):
        raise ProtocolViolation("a timeline that is not due, or none where one is")
    try:
        timeline = None if decoded.timeline is None else decoded.timeline.timeline()
    except ValueError as err:
        raise ProtocolViolation(str(err)) from err
    salient = request.protocol.selection.mode == "salient"
    if timeline is not None and len(timeline.ranking) != (len(decoded.plan) if salient else 0):
        raise ProtocolViolation(f"a ranking of {len(timeline.ranking)} windows for {len(decoded.plan)} clips")
    return timeline


def _thumbnails(decoded: Decoded, request: DecodeRequest) -> tuple[Thumbnail, ...]:
    """Raises ProtocolViolation for pictures that are none, or that nobody asked for."""
    try:
        return check_thumbnails(decoded.thumbnails, request.thumbnails)
    except ValueError as err:
        raise ProtocolViolation(str(err)) from err


def _has_timeline(request: DecodeRequest) -> bool:
    return request.timeline or request.protocol.selection.mode == "salient"


# What a decoder, which reads files of strangers, must not know: they let anyone run code on a cluster.
_SECRETS = frozenset({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"})


def _environment() -> dict[str, str]:
    """The server's, with its import path (`-P` keeps the working directory off it) and one thread a library."""
    return {
        **{name: value for name, value in os.environ.items() if name not in _SECRETS},
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
