"""`rows.parquet`: what each vector of an index is, in the same order: clip, video, labels, source.

N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.manifest import Manifest
from tenclip_features.join import contains, match_videos

_NAMES = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("video", _NAMES),
        ("clip_index", pa.int32()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("labels", pa.list_(pa.string())),
        ("source", _NAMES),
    ]
)
_ROWS_PER_GROUP = 1 << 16


def rows_table(
    videos: Sequence[str], clip_indices: NDArray[np.int64], seconds: NDArray[np.float64], source: str
) -> pa.Table:
    """Rows without labels: clip_indices [n], seconds [n,2]."""
    count = len(videos)
    columns = [
        pa.array(videos, pa.string()).dictionary_encode(),
        pa.array(clip_indices.astype(np.int32)),
        pa.array(seconds[:, 0]),
        pa.array(seconds[:, 1]),
        pa.array([[]] * count, pa.list_(pa.string())),
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([source])),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """All rows, each name kept once."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


class Rows:
    """The rows of an index."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def read(cls, path: Path, *, rows: int) -> Rows:
        """Raises DatasetError for a file that is damaged or has another number of rows."""
        try:
            table = pq.read_table(path).select(SCHEMA.names).cast(SCHEMA)
        except (OSError, pa.ArrowException, KeyError) as err:
            raise DatasetError(f"{path}: cannot be read: {err}") from err
        if table.num_rows != rows:
            raise DatasetError(f"{path}: is damaged: {table.num_rows} rows where index.json says {rows}")
        return cls(joined([table]))

    def write(self, file: IO[bytes]) -> None:
        """The same rows give the same bytes. Raises OSError."""
        pq.write_table(self.table, file, row_group_size=_ROWS_PER_GROUP)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def video_numbers(self) -> NDArray[np.int64]:
        """A number for each video: [N]."""
        return _numbers(self.table["video"])

    @cached_property
    def videos(self) -> list[str]:
        """Their names, by these numbers."""
        return _names(self.table["video"])

    @property
    def sources(self) -> dict[str, int]:
        """Rows of each source."""
        counts = np.bincount(_numbers(self.table["source"])).tolist()
        return {name: count for name, count in zip(_names(self.table["source"]), counts, strict=False) if count}

    @property
    def labels(self) -> list[str]:
        """Every label that a row has, sorted."""
        return sorted(pc.unique(pc.list_flatten(self.table["labels"])).to_pylist())

    def described(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Plain values of some rows."""
        found: list[dict[str, Any]] = self.table.take(pa.array(rows, pa.int64())).to_pylist()
        return found

    def keys(self) -> NDArray[np.int64]:
        """A hash of (video, start, end) of each row: [N]. It is another one in every process."""
        columns = [self.table[name].to_pylist() for name in ("video", "start_seconds", "end_seconds")]
        return np.fromiter(map(hash, zip(*columns, strict=True)), np.int64, len(self))

    def select(self, keep: NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        return Rows(joined([self.table.filter(pa.array(keep))]))

    def allowed(
        self, *, labels: Sequence[str] = (), sources: Sequence[str] = (), without_videos: Sequence[str] = ()
    ) -> NDArray[np.bool_] | None:
        """Which rows have one of the labels, and one of the sources, and are of none of the videos: [N].

        None where nothing is left out. Raises InvalidRequest for a label or source that no row has.
        """
        allowed = np.ones(len(self), bool)
        if labels:
            self._check("label", labels, self.labels)
            lists = self.table["labels"].combine_chunks()
            of_row = pc.list_parent_indices(lists).to_numpy()
            chosen = pc.is_in(pc.list_flatten(lists), pa.array(labels, pa.string())).to_numpy(zero_copy_only=False)
            with_label = np.zeros(len(self), bool)
            with_label[of_row[chosen]] = True
            allowed &= with_label
        if sources:
            self._check("source", sources, list(self.sources))
            allowed &= _among(self.table["source"], sources)
        if without_videos:
            allowed &= ~_among(self.table["video"], without_videos)
        return None if allowed.all() else allowed

    def with_labels(self, manifest: Manifest) -> Rows:
        """The same rows with the labels of the videos, or of the parts of videos, in which their middles lie.

        Raises DatasetError where none of the videos is in the manifest.
        """
        of_video = match_videos(self.videos, manifest.samples)
        if not of_video:
            first = self.videos[0] if self.videos else "none"
            raise DatasetError(f"{manifest.source}: has none of the videos of the features ({first}, ...)")
        names = self.table["video"].to_pylist()
        middles = (self.table["start_seconds"].to_numpy() + self.table["end_seconds"].to_numpy()) / 2
        labels = [
            list(dict.fromkeys(x for s in of_video.get(video, ()) if contains(s, middle) for x in s.labels))
            for video, middle in zip(names, middles.tolist(), strict=True)
        ]
        column = self.table.schema.get_field_index("labels")
        return Rows(self.table.set_column(column, SCHEMA.field("labels"), pa.array(labels, pa.list_(pa.string()))))

    @staticmethod
    def _check(what: str, asked: Sequence[str], known: Sequence[str]) -> None:
        for name in asked:
            if name not in known:
                shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
                raise InvalidRequest(f"no row of the index has the {what} {name!r}; it has {shown or f'no {what}s'}")


def repeated_rows(rows: Rows, where: Callable[[int], str]) -> NDArray[np.bool_]:
    """Which rows are of the same frames as an earlier one of their video: [N].

    Short videos have such: clips that are planned at different places and begin at the same frame. where: the file and
    row of a number, for messages. Raises DatasetError for a clip that is there twice.
    """
    keys = rows.keys()
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    repeated = np.zeros(len(rows), bool)
    repeated[order[1:][same]] = True
    suspects = np.flatnonzero(np.isin(keys, keys[repeated]))
    seen: dict[tuple[Any, ...], int] = {}
    for row, facts in zip(suspects.tolist(), rows.described(suspects), strict=True):
        clip = (facts["video"], facts["clip_index"], facts["start_seconds"], facts["end_seconds"])
        earlier = seen.setdefault(clip, row)
        if earlier != row:
            raise DatasetError(
                f"{where(row)}: clip {facts['clip_index']} of {facts['video']} is there already, at {where(earlier)}"
            )
    return repeated


def _column(column: pa.ChunkedArray) -> pa.DictionaryArray:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(_column(column).indices, np.int64)


def _names(column: pa.ChunkedArray) -> list[str]:
    found: list[str] = _column(column).dictionary.to_pylist()
    return found


def _among(column: pa.ChunkedArray, names: Sequence[str]) -> NDArray[np.bool_]:
    wanted = np.array([name in names for name in _names(column)] or [False])
    return np.asarray(wanted[_numbers(column)], bool)
