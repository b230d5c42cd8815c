"""One decode process, as the server sees it: `DecodeWorker` starts it, sends it videos and checks what it answers.

The process itself is `child`. Nothing that it says is believed: a file that it decodes may have taken it over.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DecodeWorkerDied, TenclipError
from tenclip_serving.decoding import shared_memory, worker_messages
from tenclip_serving.decoding.child import ChannelClosed, DecodeRequest
from tenclip_serving.decoding.child_process import (
    MAX_TEXT_BYTES,
    START_SECONDS,
    ChildProcess,
    ProtocolViolation,
)
from tenclip_serving.decoding.sampler_cache import KnownSamplers
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.decoding.worker_messages import Answer, ClipsWanted, Decoded, Failure, Fault, Ready
from tenclip_serving.decoding.worker_pictures import check_thumbnails, most_picture_bytes
from tenclip_video.clips import MAX_CLIP_BYTES, VideoClips
from tenclip_video.filmstrip import Thumbnail
from tenclip_video.salience import SalienceTimeline

# The most that parts of a message take: an index of a frame, a clip besides its frames, a window of a timeline.
_INDEX_BYTES, _CLIP_BYTES, _WINDOW_BYTES = 9, 64, 24
# A day at 60 frames a second, the longest there is where the limits name no number of frames.
_MAX_FRAMES = 60 * 86_400


class DecodeFault(Exception):
    """A bug in decoding: an exception that no one foresaw, with the worker's traceback in its message."""


class DecodeWorker(ChildProcess):
    """One worker process. Its methods block; `decode` is called from one thread at a time, `kill` from any.

    sandbox: what the process may use.
    """

    def __init__(self, sandbox: SandboxLimits | None = None) -> None:
        super().__init__("tenclip_serving.decoding.child", sandbox)
        self._memory = shared_memory.Segments()
        self._samplers = KnownSamplers()
        self.num_requests = 0

    def wait_ready(self) -> None:
        """Returns when the process takes requests. Raises DecodeWorkerDied when it does not come up."""
        self.set_timeout(START_SECONDS)
        try:
            if not isinstance(self._receive(MAX_TEXT_BYTES)[0], Ready):
                raise ProtocolViolation("something else than that it is ready")
        except (ChannelClosed, ProtocolViolation) as err:
            self.kill()
            raise DecodeWorkerDied("a decode worker did not start; the server's log has its error") from err
        self.set_timeout(None)

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
        text = MAX_TEXT_BYTES + 32 * len(request.name)
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

    def close(self) -> bool:
        """As `ChildProcess.close`; its memory is not used again."""
        ended = super().close()
        self._memory.close()
        return ended


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
