"""Arguments, progress and report of a feature extraction. Without pyarrow, as `tenclip predict` uses them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import TenclipError
from tenclip_client._ledger import Failure
from tenclip_client._types import ClipMode


@dataclass(frozen=True, kw_only=True)
class ClipChoice:
    """Which model, and which clips of every video: the arguments of `extract_features`."""

    model: str = ""
    clips: ClipMode | None = None
    num_clips: int | None = None
    window_step: int | None = None
    start: float | None = None
    end: float | None = None
    fully_convolutional: bool | None = None
    protocol: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """The state of the file after a run.

    reused: videos that an earlier run had finished. failures: in the order of the videos.
    """

    out: Path
    model: str
    version: str
    videos: int
    clips: int
    reused: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Progress:
    """Callbacks for the progress of an extraction; by default they do nothing.

    on_start: (videos in all, videos done before). on_video: (name, number of clips, failure or None) after each.
    on_pause: (error, seconds until the next attempt).
    """

    on_start: Callable[[int, int], None] = lambda total, reused: None
    on_video: Callable[[str, int, Failure | None], None] = lambda name, clips, failure: None
    on_pause: Callable[[TenclipError, float], None] = lambda err, seconds: None
