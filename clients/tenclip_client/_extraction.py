"""What an extraction of features is told and what it reports. Light: `predict` uses it too, without pyarrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import TenclipError
from tenclip_client._types import ClipMode
from tenclip_features.journal import Failure


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
    """What is in the file now. `reused`: videos that an earlier run had done; `failures` in the order of the videos."""

    out: Path
    model: str
    version: str
    videos: int
    clips: int
    reused: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Progress:
    """Whom to tell what: nothing by default."""

    on_start: Callable[[int, int], None] = lambda total, reused: None
    on_video: Callable[[str, int, Failure | None], None] = lambda name, clips, failure: None
    on_pause: Callable[[TenclipError, float], None] = lambda err, seconds: None
