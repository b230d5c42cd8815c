"""Neighbours of videos for the command line: from an index on this machine, or from one of the server's.

Either way an answer is plain values: `{"video": ..., "neighbours": [{"score": ..., "query_clip": {...}, ...}]}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenclip_api.errors import InvalidRequest
from tenclip_client._client import Client
from tenclip_client._extraction import ClipChoice
from tenclip_client._types import ClipInfo, SimilarVideos, VideoFeatures
from tenclip_client._video import VideoSource
from tenclip_features.weights import weights_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tenclip_features.table import FeatureTable
    from tenclip_index.index import Index

Answer = dict[str, Any]
Span = tuple[int, float, float]  # a clip's place, start and end in seconds


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How many neighbours, and which. by_video: videos, each with its nearest clip. other_videos: none of the video."""

    k: int = 10
    by_video: bool = False
    labels: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    other_videos: bool = False


def neighbours_of_video(
    client: Client, index: Index, name: str, source: VideoSource, choice: ClipChoice, wanted: Wanted
) -> Answer:
    """Features from the server, neighbours from an index on this machine.

    The model is that of the index where `choice` names none. Raises IndexMismatch for another one.
    """
    from tenclip_index.metadata import check_same_model

    model = client.get_model(choice.model or f"{index.info.model}:{index.info.version}")
    check_same_model(
        index.info, index.folder, model=model.name, version=model.version, weights=weights_hash(model.bundle),
        dimension=model.feature_dim, source=f"{client.target} serves",
    )  # fmt: skip
    extracted: VideoFeatures = client.extract_features(source, **{**vars(choice), "model": model.ref}, name=name)
    spans = [(c.clip.index, c.clip.start_seconds, c.clip.end_seconds) for c in extracted.features.clips]
    return _search(index, name, extracted.features.numpy(), spans, wanted)


def neighbours_of_table(index: Index, table: FeatureTable, wanted: Wanted) -> list[Answer]:
    """Of each video of a table of features. Raises IndexMismatch for features of another model."""
    import numpy as np

    index.check_table(table)
    names = np.asarray(table.videos)
    answers = []
    for name in dict.fromkeys(table.videos):
        rows = np.flatnonzero(names == name)
        spans = [(int(table.clip_indices[r]), float(table.seconds[r, 0]), float(table.seconds[r, 1])) for r in rows]
        answers.append(_search(index, name, table.features[rows], spans, wanted))
    return answers


def neighbours_of_indexed(index: Index, video: str, at_seconds: float | None, wanted: Wanted) -> Answer:
    """Of a video that is in the index, or of its clips that show one moment; these are not their own neighbours.

    Raises InvalidRequest for a video or moment that is not there.
    """
    rows = index.rows_of(video, at_seconds=at_seconds)
    spans = [(c.clip_index, c.start_seconds, c.end_seconds) for c in index.clips(rows.tolist())]
    return _search(index, video, index.vectors_of(rows), spans, wanted, without_rows=rows.tolist())


def neighbours_on_server(
    client: Client, index: str, name: str, source: VideoSource, choice: ClipChoice, wanted: Wanted
) -> Answer:
    """All from the server, whose index of this name ("" for its only one) is searched."""
    if choice.adaptive:
        raise InvalidRequest("--adaptive settles classes; neighbours are of the clips that --selection chooses")
    arguments = {k: v for k, v in vars(choice).items() if k not in ("adaptive", "error_bound")}
    found: SimilarVideos = client.similar(
        source,
        **arguments,
        index=index,
        k=wanted.k,
        by_video=wanted.by_video,
        labels=wanted.labels,
        sources=wanted.sources,
        without_videos=(name,) if wanted.other_videos else (),
        name=name,
    )
    neighbours = [{**n.to_dict(), "query_clip": _clip(n.query_clip)} for n in found.neighbours]
    return {"video": name, "index": found.index.to_dict(), "neighbours": neighbours}


def _search(
    index: Index,
    name: str,
    features: NDArray[np.float32],
    spans: Sequence[Span],
    wanted: Wanted,
    *,
    without_rows: Sequence[int] = (),
) -> Answer:
    from tenclip_index.results import Filters

    without = _same_video(name, index.rows.videos) if wanted.other_videos else ()
    filters = Filters(labels=wanted.labels, sources=wanted.sources, without_videos=without)
    found = index.neighbours(features, k=wanted.k, by_video=wanted.by_video, filters=filters, without_rows=without_rows)
    neighbours = []
    for neighbour in found:
        place, start, end = spans[neighbour.query_clip]
        clip = {"index": place, "start_seconds": start, "end_seconds": end}
        facts = {k: v for k, v in neighbour.to_dict().items() if k != "row"}
        neighbours.append({**facts, "labels": list(neighbour.labels), "query_clip": clip})
    about = {"name": str(index.folder), "model": index.info.model, "version": index.info.version}
    return {"video": name, "index": about, "neighbours": neighbours}


def _same_video(name: str, videos: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that stand for the same file."""
    from tenclip_features.names import path_of_name

    path = Path(name).resolve()
    return tuple(v for v in videos if v == name or (Path(v).name == path.name and path_of_name(v).resolve() == path))


def _clip(clip: ClipInfo) -> dict[str, Any]:
    return {"index": clip.index, "start_seconds": clip.start_seconds, "end_seconds": clip.end_seconds}
