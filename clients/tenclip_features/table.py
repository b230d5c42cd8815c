"""Read feature tables: Parquet files with one row a clip, as `tenclip features` writes them.

Needs numpy and pyarrow. No torch: features are made where the network runs, and used wherever there is Python.

N clips, D features.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_features.rows import ClipRow, VideoRows
from tenclip_features.schema import COLUMNS, SETTINGS_KEY, STAMP_COLUMNS
from tenclip_features.stamps import VideoStamp


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """One row a clip, all of one version of one model.

    videos: N names, as `tenclip features` was given them; clip_indices: [N]; seconds: [N,2], the half-open part of the
    video; features: float32 [N,D]. weights: a hash that tells two models of one name and version apart, "" where the
    table has none. source: the file or files, for messages.
    """

    source: str
    videos: tuple[str, ...]
    clip_indices: NDArray[np.int64]
    seconds: NDArray[np.float64]
    features: NDArray[np.float32]
    model: str
    version: str
    weights: str = ""


def read_features(path: Path | str) -> tuple[NDArray[np.float32], pyarrow.Table]:
    """See `tenclip_features.read_features`."""
    path = Path(path)
    table = _read_parquet(path, ("features",))
    return matrix_of(path, table["features"]), table


def read_feature_table(paths: Sequence[Path | str]) -> FeatureTable:
    """One checked table from one or more Parquet files.

    Raises DatasetError that names the file: absent, not Parquet, a column missing, no rows, vectors of different
    lengths or with values that are not finite, clips of different models, a clip that is there twice.
    """
    tables = [_read_table(Path(path)) for path in paths]
    if not tables:
        raise DatasetError("no table of features was given")
    first = tables[0]
    for table in tables[1:]:
        _check_same_model(first, table)
    joined = FeatureTable(
        source=", ".join(t.source for t in tables),
        videos=tuple(v for t in tables for v in t.videos),
        clip_indices=np.concatenate([t.clip_indices for t in tables]),
        seconds=np.concatenate([t.seconds for t in tables]),
        features=np.concatenate([t.features for t in tables]),
        model=first.model,
        version=first.version,
        weights=first.weights,
    )
    _check_unique(joined)
    return joined


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that a table was made with. Raises DatasetError for any other file."""
    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        settings: dict[str, Any] = json.loads(metadata[SETTINGS_KEY])
    except (pyarrow.ArrowException, KeyError, ValueError) as err:
        raise DatasetError(f"{path}: is there and is no feature table of ours; --overwrite replaces it") from err
    return settings


def read_protocol(path: Path) -> str:
    """The protocol that the server ran for a table, "" where the table does not say."""
    metadata = pyarrow.parquet.read_schema(path).metadata or {}
    return str(metadata.get(b"tenclip.protocol", b"").decode())


def read_stamps(path: Path) -> dict[str, VideoStamp | None] | None:
    """The stamp of each video, in the order of the rows. None for a table of an earlier version, without stamps."""
    names = pyarrow.parquet.read_schema(path).names
    if not set(STAMP_COLUMNS) <= set(names):
        return None
    table = pyarrow.parquet.read_table(path, columns=["video", *STAMP_COLUMNS])
    return {row.video: row.stamp for row in _bare_rows(table)}


def read_names(path: Path) -> list[str]:
    """The videos of a table, each once, in the order of the rows."""
    return list(pyarrow.parquet.read_table(path, columns=["video"])["video"].unique().to_pylist())


def count_rows(path: Path) -> int:
    """Rows of a table (clips), from its footer alone."""
    return int(pyarrow.parquet.read_metadata(path).num_rows)


def read_videos(path: Path) -> Iterator[VideoRows]:
    """The videos of a table, one after the other, each with all of its clips; one row group is in memory at a time.

    Raises DatasetError where a row group cannot be read.
    """
    current: VideoRows | None = None
    try:
        with path.open("rb") as raw, pyarrow.parquet.ParquetFile(raw) as file:
            for number in range(file.num_row_groups):
                for row in _rows(file.read_row_group(number)):
                    if current is not None and current.video == row.video:
                        current.clips.extend(row.clips)
                        continue
                    if current is not None:
                        yield current
                    current = row
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{path}: cannot be read as Parquet: {err}") from err
    if current is not None:
        yield current


def _bare_rows(table: pyarrow.Table) -> Iterator[VideoRows]:
    """A `VideoRows` without clips for each row."""
    videos = table["video"].to_pylist()
    if not set(STAMP_COLUMNS) <= set(table.column_names):
        yield from (VideoRows(video, None, []) for video in videos)
        return
    sizes = table["video_bytes"].to_pylist()
    times = table["video_mtime_ns"].to_pylist()
    hashes = table["video_sha256"].to_pylist()
    for video, size, time, sha256 in zip(videos, sizes, times, hashes, strict=True):
        yield VideoRows(video, None if size is None or time is None else VideoStamp(size, time, sha256 or ""), [])


def _rows(table: pyarrow.Table) -> Iterator[VideoRows]:
    """A `VideoRows` of one clip for each row."""
    columns = [table[name].to_pylist() for name in ("clip_index", "start_seconds", "end_seconds")]
    vectors = table["features"].combine_chunks()
    for i, (row, index, start, end) in enumerate(zip(_bare_rows(table), *columns, strict=True)):
        values = np.ascontiguousarray(vectors[i].values.to_numpy(zero_copy_only=False), np.float32)
        row.clips.append(ClipRow(index, start, end, array("f", values.tobytes())))
        yield row


def _check_same_model(first: FeatureTable, other: FeatureTable) -> None:
    if (other.model, other.version) != (first.model, first.version):
        raise DatasetError(
            f"{other.source} is of {other.model} version {other.version}, {first.source} of {first.model} version "
            f"{first.version}; features of different models cannot be mixed"
        )
    if first.weights and other.weights and first.weights != other.weights:
        raise DatasetError(
            f"{other.source} and {first.source} are of {first.model} version {first.version} with different weights; "
            "features of different models cannot be mixed"
        )
    lengths = other.features.shape[1], first.features.shape[1]
    if lengths[0] != lengths[1]:
        raise DatasetError(f"{other.source} has {lengths[0]} features a clip, {first.source} {lengths[1]}")


def _read_parquet(path: Path, columns: Sequence[str]) -> pyarrow.Table:
    """A file that has rows and these columns. Raises DatasetError."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; `tenclip features VIDEO... --out {path}` writes one")
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{path}: cannot be read as Parquet: {err}") from err
    check_columns(path, table.column_names)
    if not table.num_rows:
        raise DatasetError(f"{path}: holds no clips")
    for name in columns:
        if name != "features" and table[name].null_count:
            row = table[name].is_null().to_pylist().index(True)
            raise DatasetError(f"{path}, row {row + 1}: column {name!r} is empty")
    return table


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Raises DatasetError that names the first column which a feature table must have and this file has not."""
    missing = [c for c in COLUMNS if c not in names]
    if missing:
        raise DatasetError(f"{path}: no column {missing[0]!r}; it has {', '.join(names)}")


def _read_table(path: Path) -> FeatureTable:
    table = _read_parquet(path, COLUMNS)
    models = {(str(m), str(v)) for m, v in zip(*(table[c].to_pylist() for c in ("model", "version")), strict=True)}
    if len(models) > 1:
        names = ", ".join(sorted(f"{m} version {v}" for m, v in models))
        raise DatasetError(f"{path}: has features of {names}; features of different models cannot be mixed")
    ((model, version),) = models
    try:
        seconds = np.stack([table[c].to_numpy() for c in ("start_seconds", "end_seconds")], axis=1).astype(np.float64)
        indices = table["clip_index"].to_numpy().astype(np.int64)
    except (ValueError, TypeError) as err:
        raise DatasetError(f"{path}: {err}") from err
    return FeatureTable(
        source=str(path),
        videos=tuple(str(v) for v in table["video"].to_pylist()),
        clip_indices=indices,
        seconds=seconds,
        features=matrix_of(path, table["features"]),
        model=model,
        version=version,
        weights=weights_of(table.schema),
    )


def weights_of(schema: pyarrow.Schema) -> str:
    """The hash of the model's weights that a table's metadata has; "" where it has none."""
    try:
        return str(json.loads((schema.metadata or {})[SETTINGS_KEY]).get("weights") or "")
    except (KeyError, ValueError, AttributeError):
        return ""


def matrix_of(path: Path, column: pyarrow.ChunkedArray, *, first_row: int = 0) -> NDArray[np.float32]:
    """A column of lists of equal lengths -> [N,D]. first_row: where in the file it begins, for messages.

    Raises DatasetError for anything else, and for values that are not finite.
    """
    kind = column.type
    if not (pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)):
        raise DatasetError(f"{path}: column 'features' holds {kind}, not lists of numbers")
    if not (pyarrow.types.is_floating(kind.value_type) or pyarrow.types.is_integer(kind.value_type)):
        raise DatasetError(f"{path}: column 'features' holds lists of {kind.value_type}, not of numbers")
    array = column.combine_chunks()
    lengths = np.asarray(pyarrow.compute.list_value_length(array).fill_null(0))
    if not lengths[0] or np.any(lengths != lengths[0]):
        row = int(np.argmax(lengths != lengths[0])) if lengths[0] else 0
        raise DatasetError(
            f"{path}, row {first_row + row + 1}: {lengths[row]} features where the first row has {lengths[0]}"
        )
    flat = np.asarray(pyarrow.compute.list_flatten(array).fill_null(np.nan), np.float32)
    vectors: NDArray[np.float32] = flat.reshape(len(lengths), -1)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DatasetError(f"{path}, row {first_row + int(np.argmin(finite)) + 1}: features that are not finite")
    return vectors


def _check_unique(table: FeatureTable) -> None:
    seen: set[tuple[str, int]] = set()
    for key in zip(table.videos, table.clip_indices.tolist(), strict=True):
        if key in seen:
            raise DatasetError(f"{table.source}: clip {key[1]} of {key[0]} is there twice")
        seen.add(key)
