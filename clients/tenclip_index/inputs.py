"""Tables of features as an index reads them: some rows at a time, whatever the size of the files.

A table is a Parquet file with one row a clip, as `tenclip features` writes it. A folder of such files counts as one
source: its `clips/*.parquet` where it has a folder `clips`, else its `*.parquet`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, IndexMismatch
from tenclip_features.schema import COLUMNS
from tenclip_features.table import check_columns, matrix_of, read_protocol, weights_of
from tenclip_index.metadata import describe_model

ROWS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True)
class FeatureFile:
    """One table. source: the name of the file or folder that was given; weights: "" where it does not say."""

    path: Path
    source: str
    rows: int
    model: str
    version: str
    weights: str
    protocol: str
    dimension: int


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureChunk:
    """Some rows of a file: features float32 [n,D], seconds [n,2], clip_indices [n]. first_row: where they begin."""

    file: FeatureFile
    first_row: int
    videos: list[str]
    clip_indices: NDArray[np.int64]
    seconds: NDArray[np.float64]
    features: NDArray[np.float32]


def open_tables(inputs: Sequence[Path], *, source: str | None = None) -> tuple[FeatureFile, ...]:
    """The files of all inputs, in their order, all of one model. source: a name for all of them.

    Raises DatasetError for one that is no table of features, IndexMismatch for tables of different models.
    """
    files = tuple(
        _open_table(path, source or (given.name if given.is_dir() else given.stem))
        for given in inputs
        for path in _files_of(given)
    )
    if not files:
        raise DatasetError("no table of features was given")
    first = files[0]
    for file in files[1:]:
        check_alike(first, file)
    return files


def check_alike(first: FeatureFile, other: FeatureFile) -> None:
    """Raises IndexMismatch that names both files and models where these differ."""
    ours, theirs = (describe_model(f.model, f.version, f.weights) for f in (first, other))
    differ = first.weights and other.weights and first.weights != other.weights
    if (first.model, first.version) != (other.model, other.version) or differ:
        raise IndexMismatch(
            f"{other.path}: features of {theirs}, and {first.path} has those of {ours}; features of different models "
            "cannot be compared"
        )
    if first.dimension != other.dimension:
        raise IndexMismatch(
            f"{other.path}: {other.dimension} features a clip, and {first.path} has {first.dimension} ({ours})"
        )


def read_chunks(file: FeatureFile, *, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[FeatureChunk]:
    """All rows of a file, checked. Raises DatasetError that names the row."""
    first_row = 0
    try:
        with file.path.open("rb") as raw, pyarrow.parquet.ParquetFile(raw) as parquet:
            for batch in parquet.iter_batches(batch_size=rows_at_once, columns=list(COLUMNS)):
                yield _chunk(file, first_row, pyarrow.Table.from_batches([batch]))
                first_row += batch.num_rows
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{file.path}: cannot be read as Parquet: {err}") from err


def _files_of(given: Path) -> list[Path]:
    if not given.exists():
        raise DatasetError(
            f"{given}: no such file or folder; `tenclip features VIDEO... --out FILE.parquet` writes one"
        )
    if not given.is_dir():
        return [given]
    folder = given / "clips" if (given / "clips").is_dir() else given
    found = sorted(p for p in folder.glob("*.parquet") if p.is_file() and not p.name.startswith((".", "_")))
    if not found:
        raise DatasetError(f"{folder}: holds no Parquet file; name a table of features, or a folder of them")
    return found


def _open_table(path: Path, source: str) -> FeatureFile:
    try:
        with path.open("rb") as raw, pyarrow.parquet.ParquetFile(raw) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
            check_columns(path, schema.names)
            if not rows:
                raise DatasetError(f"{path}: holds no clips")
            first = pyarrow.Table.from_batches([next(parquet.iter_batches(1, columns=list(COLUMNS)))])
        protocol = read_protocol(path)
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{path}: cannot be read as Parquet: {err}") from err
    _check_no_nulls(path, first, 0)
    return FeatureFile(
        path=path,
        source=source,
        rows=rows,
        model=str(first["model"][0]),
        version=str(first["version"][0]),
        weights=weights_of(schema),
        protocol=protocol,
        dimension=matrix_of(path, first["features"]).shape[1],
    )


def _chunk(file: FeatureFile, first_row: int, table: pyarrow.Table) -> FeatureChunk:
    _check_no_nulls(file.path, table, first_row)
    for column, expected in (("model", file.model), ("version", file.version)):
        for value in table[column].unique().to_pylist():
            if str(value) != expected:
                raise IndexMismatch(
                    f"{file.path}: has features of {column}s {expected} and {value}; features of different models "
                    "cannot be compared"
                )
    features = matrix_of(file.path, table["features"], first_row=first_row)
    if features.shape[1] != file.dimension:
        raise DatasetError(
            f"{file.path}, row {first_row + 1}: {features.shape[1]} features where the first row has {file.dimension}"
        )
    zero = ~features.any(axis=1)
    if zero.any():
        raise DatasetError(
            f"{file.path}, row {first_row + int(zero.argmax()) + 1}: features that are all zero, which are alike to "
            "nothing"
        )
    try:
        seconds = np.stack([table[c].to_numpy() for c in ("start_seconds", "end_seconds")], axis=1).astype(np.float64)
        clip_indices = table["clip_index"].to_numpy().astype(np.int64)
    except (ValueError, TypeError) as err:
        raise DatasetError(f"{file.path}: {err}") from err
    return FeatureChunk(
        file=file,
        first_row=first_row,
        videos=[str(v) for v in table["video"].to_pylist()],
        clip_indices=clip_indices,
        seconds=seconds,
        features=features,
    )


def _check_no_nulls(path: Path, table: pyarrow.Table, first_row: int) -> None:
    for name in COLUMNS:
        if name != "features" and table[name].null_count:
            row = table[name].is_null().to_pylist().index(True)
            raise DatasetError(f"{path}, row {first_row + row + 1}: column {name!r} is empty")
