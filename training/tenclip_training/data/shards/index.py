"""The index of a set of shards: one Parquet file that says where each sample lies and what it shows.

The file appears last and whole, so a folder that has one is complete.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import replacing

INDEX_NAME = "index.parquet"
FORMAT_VERSION = 1
_METADATA_KEY = b"tenclip_shards"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file. name: its path below the folder or URL of the set, with slashes.

    plan: identifies what was meant to be written into it; "" for tars that others wrote.
    """

    name: str
    num_bytes: int
    sha256: str
    plan: str = ""


@dataclass(frozen=True, kw_only=True)
class ShardRow:
    """One sample: a video, or a part of one. The parts of a video share its bytes.

    key: of the members in the tar. name: of the video, as the manifest had it. shard: index into the shards.
    offset, num_bytes, sha256: the video's bytes within the shard.
    """

    key: str
    name: str
    labels: tuple[str, ...]
    split: str
    shard: int
    offset: int
    num_bytes: int
    sha256: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """All samples of a set of shards, in the order in which they lie there.

    labels: the label space. base: folder or URL of the shards, where that is not the one that holds the index.
    """

    labels: tuple[str, ...]
    shards: tuple[Shard, ...]
    rows: tuple[ShardRow, ...]
    base: str = ""

    @property
    def plan(self) -> str:
        """Identifies what all shards were meant to hold."""
        return hashlib.sha256("".join(s.plan for s in self.shards).encode()).hexdigest()


def write_index(path: Path, index: ShardIndex) -> None:
    """Write the index in one step; the same index gives the same bytes. Raises OSError."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: [getattr(row, name) for row in index.rows] for name in _types()}
    columns["labels"] = [list(row.labels) for row in index.rows]
    columns["extra"] = [json.dumps(row.extra, sort_keys=True, default=str) if row.extra else "" for row in index.rows]
    header = {
        "version": FORMAT_VERSION,
        "labels": list(index.labels),
        "base": index.base,
        "shards": [asdict(shard) for shard in index.shards],
    }
    schema = pyarrow.schema(list(_types().items()), metadata={_METADATA_KEY: json.dumps(header).encode()})
    with replacing(path) as file:
        pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), file, compression="zstd")


def read_index(source: Path | bytes, *, name: str) -> ShardIndex:
    """Read an index from a file or its bytes; `name` stands for it in messages. Raises DatasetError."""
    import pyarrow
    import pyarrow.parquet

    try:
        data = source.read_bytes() if isinstance(source, Path) else source
        with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)) as file:
            header = _header(file.schema_arrow.metadata, name)
            table = file.read()
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{name}: cannot be read as an index of shards: {err}") from err
    try:
        shards = tuple(Shard(**values) for values in header["shards"])
        rows = tuple(_row(values) for values in table.to_pylist())
    except (KeyError, TypeError, ValueError) as err:
        raise DatasetError(f"{name}: is no index of shards, or is damaged: {err!r}") from err
    for shard in shards:  # an index may come from anywhere, and both become names of files here
        if not _SHA256.fullmatch(shard.sha256) or shard.name.startswith("/") or ".." in shard.name.split("/"):
            raise DatasetError(f"{name}: is damaged: no shard can be called {shard.name!r}, SHA-256 {shard.sha256!r}")
    if bad := next((row for row in rows if not 0 <= row.shard < len(shards)), None):
        raise DatasetError(f"{name}: {bad.name} lies in shard {bad.shard}, and there are {len(shards)}")
    return ShardIndex(labels=tuple(header["labels"]), shards=shards, rows=rows, base=header["base"])


def _header(metadata: Mapping[bytes, bytes] | None, name: str) -> dict[str, Any]:
    text = (metadata or {}).get(_METADATA_KEY)
    if text is None:
        raise DatasetError(
            f"{name}: is a Parquet file, but no index of shards; make one with: tenclip shards index FOLDER"
        )
    header: dict[str, Any] = json.loads(text)
    if header.get("version") != FORMAT_VERSION:
        raise DatasetError(
            f"{name}: is an index of version {header.get('version')}; this tenclip reads version {FORMAT_VERSION}"
        )
    return header


def _row(values: Mapping[str, Any]) -> ShardRow:
    extra = json.loads(values["extra"]) if values["extra"] else {}
    known = {f.name: values[f.name] for f in dataclasses.fields(ShardRow)}
    return ShardRow(**{**known, "labels": tuple(values["labels"]), "extra": extra})


def _types() -> dict[str, Any]:
    """Columns of the file and their Arrow types, in order."""
    import pyarrow

    text, integer, seconds = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    return {
        "key": text,
        "name": text,
        "labels": pyarrow.list_(text),
        "split": text,
        "start_seconds": seconds,
        "end_seconds": seconds,
        "shard": pyarrow.int32(),
        "offset": integer,
        "num_bytes": integer,
        "sha256": text,
        "extra": text,
    }


def split_counts(rows: Sequence[ShardRow]) -> dict[str, int]:
    """Samples of each split, in the order of their first ones."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.split] = counts.get(row.split, 0) + 1
    return counts
