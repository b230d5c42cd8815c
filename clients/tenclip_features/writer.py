"""Feature tables: Parquet, one row a clip. Needs pyarrow (`pip install 'tenclip[batch]'`)."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tenclip_api.errors import DatasetError
from tenclip_features.journal import ClipRow

SETTINGS_KEY = b"tenclip.settings"
SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("clip_index", pa.int32()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("features", pa.list_(pa.float32())),
        ("model", pa.string()),
        ("version", pa.string()),
    ]
)
# 16 MiB of vectors of length 512; readers load whole row groups.
_ROWS_PER_GROUP = 8192
# Columns worth a dictionary; vectors never repeat.
_REPEATED = ["video", "model", "version"]


def write_features(
    path: Path,
    draft: Path,
    videos: Iterable[tuple[str, list[ClipRow]]],
    settings: Mapping[str, Any],
    *,
    protocol: str,
) -> int:
    """Write `draft`, then put it in the place of `path` in one step. Returns the number of rows.

    The metadata has every setting as `tenclip.NAME`, with `tenclip.protocol` the one that was run.
    The same videos and settings give the same bytes. Both paths must be on one file system.
    """
    rows = 0
    schema = SCHEMA.with_metadata(_metadata(settings, protocol))
    with draft.open("wb") as file:
        with pq.ParquetWriter(file, schema, use_dictionary=_REPEATED) as writer:
            for group in _groups(videos):
                writer.write_table(_table(group, settings, schema))
                rows += len(group)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    return rows


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that a feature table was made with. Raises DatasetError for any other file."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        settings: dict[str, Any] = json.loads(metadata[SETTINGS_KEY])
    except (pa.ArrowException, KeyError, ValueError) as err:
        raise DatasetError(f"{path}: is there and is no feature table of ours; --overwrite replaces it") from err
    return settings


def read_videos(path: Path) -> list[str]:
    """The videos of a feature table, each once, in the order of its rows."""
    column = pq.read_table(path, columns=["video"])["video"]
    return list(column.unique().to_pylist())


def _metadata(settings: Mapping[str, Any], protocol: str) -> dict[bytes, bytes]:
    facts = {**settings, "protocol": protocol}
    shown = {f"tenclip.{k}".encode(): _text(v).encode() for k, v in facts.items() if v is not None}
    return {**shown, SETTINGS_KEY: json.dumps(settings, sort_keys=True).encode()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _groups(videos: Iterable[tuple[str, list[ClipRow]]]) -> Iterator[list[tuple[str, ClipRow]]]:
    group: list[tuple[str, ClipRow]] = []
    for video, rows in videos:
        for row in rows:
            group.append((video, row))
            if len(group) == _ROWS_PER_GROUP:
                yield group
                group = []
    if group:
        yield group


def _table(group: list[tuple[str, ClipRow]], settings: Mapping[str, Any], schema: Any) -> Any:
    rows = [row for _, row in group]
    columns = [
        pa.array([video for video, _ in group], pa.string()),
        pa.array([r.index for r in rows], pa.int32()),
        pa.array([r.start_seconds for r in rows], pa.float64()),
        pa.array([r.end_seconds for r in rows], pa.float64()),
        _vectors([r.values for r in rows]),
        pa.array([settings["model"]] * len(rows), pa.string()),
        pa.array([settings["version"]] * len(rows), pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _vectors(values: list[array[float]]) -> Any:
    """list<float32> straight from the vectors' bytes: a Python float for every number would be slow and large."""
    offsets = [0]
    for vector in values:
        offsets.append(offsets[-1] + len(vector))
    data = pa.py_buffer(b"".join(v.tobytes() for v in values))
    flat = pa.Array.from_buffers(pa.float32(), offsets[-1], [None, data])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
