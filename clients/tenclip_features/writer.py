"""Write a feature table. Needs pyarrow (`pip install 'tenclip[batch]'`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tenclip_api.errors import DatasetError
from tenclip_features.rows import ClipRow, VideoRows
from tenclip_features.schema import SETTINGS_KEY, shown_settings, table_schema

# 16 MiB of vectors of length 512; readers load whole row groups.
_ROWS_PER_GROUP = 8192
# Columns worth a dictionary; vectors never repeat.
_REPEATED = ["video", "model", "version", "video_bytes", "video_mtime_ns", "video_sha256"]

_Row = tuple[VideoRows, ClipRow]


def write_features(
    path: Path, draft: Path, videos: Iterable[VideoRows], settings: Mapping[str, Any], *, protocol: str
) -> int:
    """Write `draft`, then put it in the place of `path` in one step. Returns the number of rows (clips).

    settings: "model", "version" and whatever else the features depend on, JSON values. The metadata has each of them
    as `tenclip.NAME`, and as `tenclip.protocol` the protocol that was run.
    The same videos and settings give the same bytes. Both paths must be on one file system.
    Raises DatasetError where the lengths of two vectors differ, nothing is to be written, or the disk refuses.
    """
    groups = _groups(path, videos)
    first = next(groups, None)
    if first is None:
        raise DatasetError(f"{path}: no clips to write")
    schema = table_schema(len(first[0][1].values)).with_metadata(_metadata(settings, protocol))
    rows = 0
    try:
        with draft.open("wb") as file:
            with pq.ParquetWriter(file, schema, use_dictionary=_REPEATED) as writer:
                group: list[_Row] | None = first
                while group is not None:
                    writer.write_table(_table(group, settings, schema))
                    rows += len(group)
                    group = next(groups, None)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as err:
        raise DatasetError(f"{path}: cannot be written: {err.strerror or err}") from err
    return rows


def _metadata(settings: Mapping[str, Any], protocol: str) -> dict[bytes, bytes]:
    shown = shown_settings({**settings, "protocol": protocol})
    return {
        **{k.encode(): v.encode() for k, v in shown.items()},
        SETTINGS_KEY: json.dumps(settings, sort_keys=True).encode(),
    }


def _groups(path: Path, videos: Iterable[VideoRows]) -> Iterator[list[_Row]]:
    """Lists of rows, each as long as a row group; the lengths of all vectors are equal."""
    group: list[_Row] = []
    feature_dim: int | None = None
    for video in videos:
        for clip in video.clips:
            feature_dim = feature_dim or len(clip.values)
            if len(clip.values) != feature_dim or not feature_dim:
                raise DatasetError(
                    f"{path}: clip {clip.index} of {video.video} has {len(clip.values)} features, those before it have "
                    f"{feature_dim}"
                )
            group.append((video, clip))
            if len(group) == _ROWS_PER_GROUP:
                yield group
                group = []
    if group:
        yield group


def _table(group: list[_Row], settings: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    clips = [clip for _, clip in group]
    stamps = [video.stamp for video, _ in group]
    columns = [
        pa.array([video.video for video, _ in group], pa.string()),
        pa.array([c.index for c in clips], pa.int32()),
        pa.array([c.start_seconds for c in clips], pa.float64()),
        pa.array([c.end_seconds for c in clips], pa.float64()),
        _vectors(clips, schema.field("features").type),
        pa.array([settings["model"]] * len(clips), pa.string()),
        pa.array([settings["version"]] * len(clips), pa.string()),
        pa.array([s and s.num_bytes for s in stamps], pa.int64()),
        pa.array([s and s.mtime_ns for s in stamps], pa.int64()).cast(schema.field("video_mtime_ns").type),
        pa.array([(s and s.sha256) or None for s in stamps], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _vectors(clips: list[ClipRow], kind: pa.DataType) -> pa.Array:
    """Straight from the vectors' bytes: a Python float for every number would be slow and large."""
    data = pa.py_buffer(b"".join(c.values.tobytes() for c in clips))
    flat = pa.Array.from_buffers(pa.float32(), len(clips) * kind.list_size, [None, data])
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)
