"""Rows of a feature table before they are in one: clips, the video they belong to, and videos without any.

Plain Python without pyarrow, so that the client can name these types wherever it runs.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from tenclip_features.stamps import VideoStamp


@dataclass(frozen=True)
class ClipRow:
    """One clip of one video: the half-open part [start_seconds, end_seconds) and its features, float32 [D]."""

    index: int
    start_seconds: float
    end_seconds: float
    values: array[float]


@dataclass(frozen=True)
class VideoRows:
    """All clips of one video, and the state of its file when it was read; None where there was no file to look at."""

    video: str
    stamp: VideoStamp | None
    clips: list[ClipRow]


@dataclass(frozen=True)
class VideoFailure:
    """A video that gave no features, and why: `reason` is the stable name of the error (`TenclipError.reason`)."""

    video: str
    reason: str
    message: str
