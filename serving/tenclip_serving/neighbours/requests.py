"""Requests and results of a search for neighbours: plain dataclasses, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenclip_index.metadata import IndexInfo
from tenclip_index.results import Filters, Neighbour
from tenclip_serving.requests import Recognition, RecognitionRequest

DEFAULT_K, MAX_K = 10, 1000


@dataclass(frozen=True, kw_only=True)
class SimilarRequest:
    """A video, and which clips of which index may be its neighbours.

    video: what its clips are, and of which model; "" is the model of the index. index: its name, "" for the only one,
    or the only one of the model. by_video: the k nearest videos, each with its nearest clip.
    """

    video: RecognitionRequest
    index: str = ""
    k: int = DEFAULT_K
    by_video: bool = False
    filters: Filters = field(default_factory=Filters)


@dataclass(frozen=True, kw_only=True, eq=False)
class SimilarClips:
    """Neighbours of a video, the nearest first, and what the video itself gave. index: the name of the index."""

    index: str
    info: IndexInfo
    neighbours: tuple[Neighbour, ...]
    recognition: Recognition
