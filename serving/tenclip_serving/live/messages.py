"""What the server and the process that reads a stream say to each other.

The server's messages are pickled, for the process is its own child. The child's are MessagePack that is checked, as
those of decode workers (`decoding.worker_messages`): what it reads may have taken it over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from tenclip_serving.decoding.worker_messages import Failure, Fault, Ready
from tenclip_video.protocols import Protocol
from tenclip_video.source import Limits
from tenclip_video.spec import ClipSpec


@dataclass(frozen=True, kw_only=True)
class OpenStream:
    """Read this stream from now on.

    target: an address on this machine (of the RTSP relay) or a device, with its FFmpeg `format`; None: the descriptor
    that comes along, a connected socket, a bound one, a pipe or a file.
    step: frames from one window to the next. max_latency: as in `WindowRing`.
    idle_seconds: without a byte, the stream is broken. open_seconds: for its first pictures.
    live: it has no end: what cannot be decoded in time is passed over, and no window is laid flush with its end.
    follow: of a file: wait for more where it ends. paced: of a file: read it at the speed of its own clock.
    start_seconds: place of its first frame on the clock of the stream, at least; `epoch`: when the very first frame of
    the stream arrived, on the monotonic clock, None as long as there was none.
    """

    name: str
    target: str | None = None
    format: str | None = None
    spec: ClipSpec
    protocol: Protocol
    step: int
    max_latency: float | None
    idle_seconds: float = 10.0
    open_seconds: float = 15.0
    live: bool = True
    follow: bool = False
    paced: bool = False
    start_seconds: float = 0.0
    epoch: float | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class NextWindow:
    """The next window, please; memory for it comes along."""


class Counters(msgspec.Struct, frozen=True):
    """Of one connection. silent_seconds: since its last frame. frame_seconds: from the one before to that one."""

    frames_read: int = 0
    frames_dropped: int = 0
    windows_skipped: int = 0
    discontinuities: int = 0
    silent_seconds: float = 0.0
    frame_seconds: float = 0.0


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The stream has a picture. frames_per_second: as it says itself; 0 where it does not."""

    container: str
    codec: str
    width: int
    height: int
    frames_per_second: float


class WindowReady(msgspec.Struct, frozen=True, tag=True):
    """A window was written into the memory. arrival: of its last frame, first_arrival: of the connection's first.

    missed_seconds: as of `Window`.
    """

    start_seconds: float
    end_seconds: float
    arrival: float
    first_arrival: float
    missed_seconds: float
    counters: Counters


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Nothing to say; the process lives."""

    counters: Counters


class StreamEnded(msgspec.Struct, frozen=True, tag=True):
    """No window comes any more. why: in words, "" where a file has come to its end."""

    why: str
    counters: Counters


Answer: TypeAlias = Ready | Opened | WindowReady | Beat | StreamEnded | Failure | Fault

_DECODER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(answer: Answer) -> bytes:
    return msgspec.msgpack.encode(answer)


def decode(data: bytes | bytearray) -> Answer:
    """Raises msgspec.MsgspecError for what is no answer."""
    return _DECODER.decode(data)
