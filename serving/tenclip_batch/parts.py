"""Parts of a dataset: `clips/part-00007.parquet` and `videos/part-00007.parquet`, written whole or not at all.

The file in `videos/` is written last and is what counts: a file in `clips/` without one is left over from a process
that was killed between the two, and is deleted by the next run. A part that is made of others (rows were dropped, or
small parts joined) names them in its metadata; they are deleted once it is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_batch.disk import not_written
from tenclip_batch.rows import VideoResult
from tenclip_batch.schema import DONE, FAILED, Task, clips_schema, videos_schema
from tenclip_data.atomic import replacing

CLIPS, VIDEOS = "clips", "videos"
_REPLACES = b"tenclip.replaces"
_STEM = re.compile(r"part-([0-9]+)")
# Columns worth a dictionary; vectors never repeat.
_REPEATED = ["video", "model", "version", "codec", "state", "error_kind"]


@dataclass(frozen=True, kw_only=True)
class PartFormat:
    """What every part of a dataset has in common.

    with_clips: whether there is a table of clips at all. metadata: of both tables. top_k: classes named in a row.
    """

    task: Task
    model: str
    version: str
    feature_dim: int
    labels: tuple[str, ...]
    top_k: int
    with_clips: bool
    metadata: Mapping[str, str]

    @property
    def clips_schema(self) -> pa.Schema:
        schema = clips_schema(self.task, feature_dim=self.feature_dim, num_classes=len(self.labels))
        return schema.with_metadata(_encoded(self.metadata))

    @property
    def videos_schema(self) -> pa.Schema:
        return videos_schema(self.task, num_classes=len(self.labels)).with_metadata(_encoded(self.metadata))


def stem_of(number: int) -> str:
    """
    >>> stem_of(7)
    'part-00007'
    """
    return f"part-{number:05d}"


def number_of(stem: str) -> int | None:
    """The number of a part; None for the name of a file that is none.

    >>> number_of("part-00007"), number_of("part-new")
    (7, None)
    """
    found = _STEM.fullmatch(stem)
    return None if found is None else int(found[1])


def part_files(folder: Path, table: str) -> list[Path]:
    """The files of parts in one of the two tables, in the order of their numbers. Other files are none of ours."""
    numbers = {path: number_of(path.stem) for path in (folder / table).glob("part-*.parquet")}
    return sorted((path for path, n in numbers.items() if n is not None), key=lambda path: (numbers[path], path.name))


def part_path(folder: Path, table: str, stem: str) -> Path:
    """The file of one part in one of the two tables."""
    return folder / table / f"{stem}.parquet"


def write_part(folder: Path, stem: str, results: Sequence[VideoResult], form: PartFormat) -> None:
    """Write the rows of `results` as the part `stem`, or nothing: raises DatasetError where the disk refuses."""
    clips = clips_table(results, form) if form.with_clips else None
    write_tables(folder, stem, clips, videos_table(results, form))


def write_tables(
    folder: Path, stem: str, clips: pa.Table | None, videos: pa.Table, *, replaces: Sequence[str] = ()
) -> None:
    """Write a part from tables. replaces: stems of parts whose rows it holds, deleted afterwards."""
    if replaces:
        named = {**(videos.schema.metadata or {}), _REPLACES: json.dumps(list(replaces)).encode()}
        videos = videos.replace_schema_metadata(named)
    if clips is not None and clips.num_rows:
        _write(part_path(folder, CLIPS, stem), clips)
    _write(part_path(folder, VIDEOS, stem), videos)
    for old in replaces:
        delete_part(folder, old)


def delete_part(folder: Path, stem: str) -> None:
    """The videos first: without them the clips do not count."""
    part_path(folder, VIDEOS, stem).unlink(missing_ok=True)
    part_path(folder, CLIPS, stem).unlink(missing_ok=True)


def replaced_by(path: Path) -> list[str]:
    """Stems of the parts that the part with this file in `videos/` took the place of."""
    metadata = pq.read_schema(path).metadata or {}
    return [str(stem) for stem in json.loads(metadata.get(_REPLACES, b"[]"))]


def _write(path: Path, table: pa.Table) -> None:
    try:
        with replacing(path) as file:
            pq.write_table(table, file, use_dictionary=[c for c in _REPEATED if c in table.column_names])
    except OSError as err:
        raise not_written(path, err) from err


# -- tables ------------------------------------------------------------------------------------------------------------


def clips_table(results: Iterable[VideoResult], form: PartFormat) -> pa.Table:
    """A row a clip, in the order of the results."""
    schema = form.clips_schema
    done = [r for r in results if r.failure is None]
    repeat = [(r, clip) for r in done for clip in r.clips]
    columns: dict[str, Any] = {
        "video": [r.name for r, _ in repeat],
        "clip_index": [c.index for _, c in repeat],
        "start_seconds": [c.start_seconds for _, c in repeat],
        "end_seconds": [c.end_seconds for _, c in repeat],
        "model": [form.model] * len(repeat),
        "version": [form.version] * len(repeat),
    }
    if form.task == "features":
        columns |= _stamps([r for r, _ in repeat])
        columns["features"] = _vectors([r.features for r in done], schema.field("features").type)
    else:
        columns |= _score_columns([_all_scores(r) for r in done], form, schema)
    return _table(columns, schema)


def videos_table(results: Sequence[VideoResult], form: PartFormat) -> pa.Table:
    """A row a video, in the order of the results."""
    schema = form.videos_schema
    columns: dict[str, Any] = {
        "video": [r.name for r in results],
        "state": [DONE if r.failure is None else FAILED for r in results],
        "clips": [r.num_clips for r in results],
        "frames": [r.num_frames for r in results],
        "error_kind": [r.failure and r.failure.reason for r in results],
        "error": [r.failure and r.failure.message for r in results],
        **_stamps(results),
    }
    for name in ("duration_seconds", "frames_per_second", "width", "height", "codec", "file"):
        columns[name] = [getattr(r, name) for r in results]
    for name in ("frames_corrupt", "frames_substituted"):
        columns[name] = [getattr(r, name) for r in results]
    if form.task == "predict":
        columns |= _video_scores(results, form, schema)
    return _table(columns, schema)


def _video_scores(results: Sequence[VideoResult], form: PartFormat, schema: pa.Schema) -> dict[str, Any]:
    """Null where a video failed."""
    scores = [r.scores[np.newaxis] if r.scores is not None else None for r in results]
    known = [s for s in scores if s is not None]
    filled = _score_columns(known, form, schema) if known else {n: [] for n in ("top_labels", "top_scores", "scores")}
    places = iter(range(len(known)))
    indices = pa.array([None if s is None else next(places) for s in scores], pa.int64())
    return {n: pa.array(c, schema.field(n).type).take(indices) if len(known) else [None] * len(results)
            for n, c in filled.items()}  # fmt: skip


def _all_scores(result: VideoResult) -> NDArray[np.float32]:
    assert result.clip_scores is not None
    return result.clip_scores


def _score_columns(scores: Sequence[NDArray[np.float32]], form: PartFormat, schema: pa.Schema) -> dict[str, Any]:
    """scores: each float32 [n,K]."""
    from tenclip_video.aggregate import top_classes

    best = [top_classes(row, form.labels, form.top_k) for rows in scores for row in rows]
    return {
        "top_labels": pa.array([[c.label for c in row] for row in best], schema.field("top_labels").type),
        "top_scores": pa.array([[c.score for c in row] for row in best], schema.field("top_scores").type),
        "scores": _vectors(scores, schema.field("scores").type),
    }


def _stamps(results: Sequence[VideoResult]) -> dict[str, Any]:
    return {
        "video_bytes": [r.stamp and r.stamp.num_bytes for r in results],
        "video_mtime_ns": [r.stamp and r.stamp.mtime_ns for r in results],
        "video_sha256": [(r.stamp and r.stamp.sha256) or None for r in results],
    }


def _vectors(blocks: Sequence[NDArray[np.float32]], kind: pa.DataType) -> pa.Array:
    """float32 [n,D] each -> one column of lists of a fixed size, without a Python number for every value."""
    matrix = np.concatenate(blocks) if blocks else np.empty((0, kind.list_size), np.float32)
    if matrix.shape[1] != kind.list_size:
        raise DatasetError(f"{matrix.shape[1]} numbers a row where the bundle says {kind.list_size}")
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    def column(field: pa.Field) -> pa.Array:
        value = columns[field.name]
        return value if isinstance(value, pa.Array) else pa.array(value, field.type)

    return pa.Table.from_arrays([column(field) for field in schema], schema=schema)


def _encoded(metadata: Mapping[str, str]) -> dict[bytes, bytes]:
    return {key.encode(): value.encode() for key, value in metadata.items()}
