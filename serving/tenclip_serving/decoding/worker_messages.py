"""Messages from a decode worker to the server: MessagePack that is checked against these types field by field.

A worker may have been taken over by the file it decoded. So nothing that it sends is unpickled, the server makes no
object of it but those named here, and arrays come as bytes of one fixed type. What a message says is checked where it
is used (`worker`); that it has the shape it must have is checked here.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np

from tenclip_api.errors import TenclipError, VideoError, error_classes
from tenclip_video.clips import VideoClips
from tenclip_video.filmstrip import Thumbnail
from tenclip_video.salience import SalienceTimeline
from tenclip_video.sampling import Clip
from tenclip_video.video import DecodeReport, VideoInfo

# The most characters of a traceback, so that no honest message is too long for the server.
_MAX_TRACE_CHARACTERS = 100_000
# More notes, or longer ones, than any scorer of ours has.
_MAX_NOTES, _MAX_NOTE_CHARACTERS = 16, 1000


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker has started and is in its sandbox."""


class ClipsWanted(msgspec.Struct, frozen=True, tag=True):
    """The worker asks for memory of its clips, uint8 of this shape; the server answers with a descriptor, or none."""

    shape: tuple[int, int, int, int, int]


class Failure(msgspec.Struct, frozen=True, tag=True):
    """A TenclipError. source: of a VideoError."""

    reason: str
    message: str
    source: str = ""

    @classmethod
    def of(cls, error: TenclipError) -> Failure:
        return cls(error.reason, _encodable(error.message), _encodable(getattr(error, "source", "")))

    def error(self) -> TenclipError:
        """Raises ValueError for a reason that there is not."""
        kind = error_classes().get(self.reason)
        if kind is None:
            raise ValueError(f"an error of the kind {self.reason!r:.100}")
        return kind(self.message, source=self.source) if issubclass(kind, VideoError) else kind(self.message)


class Fault(msgspec.Struct, frozen=True, tag=True):
    """Something that no one foresaw went wrong in the worker; `trace` is its traceback."""

    trace: str

    @classmethod
    def of(cls, trace: str) -> Fault:
        return cls(_encodable(trace[-_MAX_TRACE_CHARACTERS:]))


class Timeline(msgspec.Struct, frozen=True):
    """A SalienceTimeline of M windows: float64 [M,2], float32 [M] and bool [M], each in the machine's own order.

    ranking: int64 [K] of K windows that were chosen.
    """

    scorer: str
    seconds: bytes
    scores: bytes
    selected: bytes
    ranking: bytes = b""
    flat: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, timeline: SalienceTimeline) -> Timeline:
        return cls(
            timeline.scorer,
            np.array(timeline.seconds, np.float64).tobytes(),
            timeline.scores.astype(np.float32, copy=False).tobytes(),
            timeline.selected.astype(np.bool_, copy=False).tobytes(),
            np.array(timeline.ranking, np.int64).tobytes(),
            timeline.flat,
            tuple(_encodable(note)[:_MAX_NOTE_CHARACTERS] for note in timeline.notes[:_MAX_NOTES]),
        )

    def timeline(self) -> SalienceTimeline:
        """Raises ValueError where the parts are not of one length, or the ranking is not one of what is selected."""
        seconds = np.frombuffer(self.seconds, np.float64).reshape(-1, 2)
        scores = np.frombuffer(self.scores, np.float32)
        # Bytes other than 0 and 1 would be no truth values for NumPy.
        selected = np.frombuffer(self.selected, np.uint8) != 0
        if not len(seconds) == len(scores) == len(selected):
            raise ValueError(f"a timeline of {len(seconds)}, {len(scores)} and {len(selected)} windows")
        ranking = np.frombuffer(self.ranking, np.int64)
        if len(ranking) and not np.array_equal(np.sort(ranking), np.flatnonzero(selected)):
            raise ValueError(f"a ranking of {len(ranking)} windows that are not the {selected.sum()} selected ones")
        if len(self.notes) > _MAX_NOTES or any(len(note) > _MAX_NOTE_CHARACTERS for note in self.notes):
            raise ValueError(f"a timeline with {len(self.notes)} notes, or too long ones")
        return SalienceTimeline(
            self.scorer,
            tuple((a, b) for a, b in seconds.tolist()),
            scores,
            selected,
            ranking=tuple(ranking.tolist()),
            flat=self.flat,
            notes=self.notes,
        )


class Decoded(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """A VideoClips without its pixels, which are of this shape."""

    shape: tuple[int, int, int, int, int]
    plan: tuple[Clip, ...]
    seconds: tuple[tuple[float, float], ...]
    views: int
    info: VideoInfo
    report: DecodeReport
    timeline: Timeline | None
    preprocess_seconds: float
    thumbnails: tuple[Thumbnail, ...] = ()
    score_seconds: float

    @classmethod
    def of(cls, video: VideoClips) -> Decoded:
        num_clips, length, height, width, channels = video.clips.shape
        return cls(
            shape=(num_clips, length, height, width, channels),
            plan=video.plan,
            seconds=video.seconds,
            views=video.views,
            info=video.info,
            report=video.report,
            timeline=None if video.timeline is None else Timeline.of(video.timeline),
            preprocess_seconds=video.preprocess_seconds,
            thumbnails=video.thumbnails,
            score_seconds=video.score_seconds,
        )


Answer: TypeAlias = Ready | ClipsWanted | Failure | Fault | Decoded

_DECODER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(answer: Answer) -> bytes:
    return msgspec.msgpack.encode(answer)


def decode(data: bytes | bytearray) -> Answer:
    """Raises msgspec.MsgspecError or UnicodeDecodeError for what is no answer."""
    return _DECODER.decode(data)


def _encodable(text: str) -> str:
    """Names of files may hold bytes that are no UTF-8, which Python keeps as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
