"""What an index answers: neighbours and duplicates, as plain dataclasses without numpy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class IndexedClip:
    """One row of an index: the half-open part [start_seconds, end_seconds) of a video, its labels and its source."""

    row: int
    video: str
    clip_index: int
    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class Neighbour(IndexedClip):
    """A clip of the index and its cosine similarity (-1 to 1) to the nearest of the clips that were asked about.

    query_clip: the place of that one among them.
    """

    score: float
    query_clip: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DuplicatePair:
    """Two clips of an index and their cosine similarity."""

    score: float
    first: IndexedClip
    second: IndexedClip

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Pairs above a threshold, the most alike first. found: how many there are; `pairs` holds at most a limit of them.

    compared: rows that were compared, each with all others.
    """

    threshold: float
    found: int
    compared: int
    pairs: tuple[DuplicatePair, ...]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which rows of an index may be found.

    labels: those with one of these; sources: those of one of these; without_videos: none of these videos. Empty ones
    leave out nothing.
    """

    labels: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    without_videos: tuple[str, ...] = ()
