"""Arguments, callbacks and report of a feature extraction. Without pyarrow, as `tenclip predict` uses them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import TenclipError
from tenclip_client._types import ClipMode, ModelInfo, VideoFeatures
from tenclip_features.rows import VideoFailure


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
    adaptive: bool = False
    error_bound: float | None = None
    sampler: str | None = None
    protocol: str | None = None


@dataclass(frozen=True, kw_only=True)
class EarlierRows:
    """How rows of an earlier run are treated.

    by_content: tell changed videos by the SHA-256 of the file, too, not by its size and time of change alone. Rows
    without one get it, if size and time are the same.
    trust_unstamped: take the rows of a table of an earlier version, which has no stamps, for current.
    prune: drop the rows of videos that are gone or that are not asked for any more; else they are kept.
    """

    by_content: bool = False
    trust_unstamped: bool = False
    prune: bool = False


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """Result of an extraction. videos, clips: how many the file holds now, a row a clip.

    reused: videos of which an earlier run's rows are current; changed: videos that were extracted anew because their
    files had changed; removed: videos that are gone or not asked for any more, whose rows were kept; pruned: those
    whose rows were dropped; failures in the order of the videos; damaged: videos extracted now of which frames are
    damaged, or were missing and had others stand in for them.
    """

    out: Path
    model: str
    version: str
    videos: int
    clips: int
    reused: int
    failures: tuple[VideoFailure, ...]
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Callbacks for extraction progress; each does nothing by default.

    on_model(model): once, before anything else, with the model that the server runs. on_start(total, reused): once,
    with numbers of videos. on_video(name, clips, failure): after each video, with the number of its clips.
    on_result(name, outcome): then, with what the server said. on_pause(error, seconds): before waiting for a server
    that is busy or away.
    """

    on_start: Callable[[int, int], None] = lambda total, reused: None
    on_video: Callable[[str, int, VideoFailure | None], None] = lambda name, clips, failure: None
    on_result: Callable[[str, VideoFeatures | TenclipError], None] = lambda name, outcome: None
    on_pause: Callable[[TenclipError, float], None] = lambda err, seconds: None
    on_model: Callable[[ModelInfo], None] = lambda model: None
