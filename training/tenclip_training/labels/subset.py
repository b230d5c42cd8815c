"""Subsets of a label space: random and nested (IG-65M section 4.2.2), or the labels that a target has, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import replacing
from tenclip_data.splits import seeded_rank
from tenclip_training.labels.distribution import label_column, label_distribution
from tenclip_training.labels.lists import filter_lists, parquet_writer, replace_lists
from tenclip_training.labels.match import Progress
from tenclip_training.labels.overlap import canonical_label
from tenclip_training.labels.tables import (
    BATCH_ROWS,
    SourceTable,
    connect,
    identifier,
    labels_sql,
    open_table,
    readable,
)

_HASH = "tenclip_hash"


@dataclass(frozen=True, kw_only=True)
class SubsetReport:
    """What `write_subset` wrote.

    labels, videos: of the subset. source_labels, source_videos: of the table. overlapping: labels that the target has.
    chosen: label -> videos of the subset that have it, in order of choice.
    """

    out: str
    seed: int
    source_labels: int
    source_videos: int
    overlapping: int | None
    labels: int
    available_videos: int
    videos: int
    chosen: dict[str, int] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def random_order(labels: Iterable[str], *, seed: int) -> list[str]:
    """Labels in a random order that follows from the seed and the label alone: the first k lie within the first k + 1.

    A label keeps its place relative to others whatever else is in the space.
    """
    return sorted(labels, key=lambda label: seeded_rank(seed, label))


def choose_labels(
    labels: Iterable[str], *, num_labels: int | None, target: Iterable[str] | None, seed: int
) -> list[str]:
    """Labels of a subset, in order of choice.

    target: only labels that mean the same as one of its; with `num_labels`, these come first and random ones fill up.
    num_labels: how many; smaller subsets of the same seed lie inside larger ones. Raises ValueError where there are
    fewer labels, and where none is the target's.
    """
    order = random_order(labels, seed=seed)
    if num_labels is not None and not 0 < num_labels <= len(order):
        raise ValueError(f"{num_labels} labels asked for; there are {len(order)}")
    if target is not None:
        meanings = set(map(canonical_label, target))
        inside = [label for label in order if canonical_label(label) in meanings]
        if not inside:
            raise ValueError("no label means the same as one of the target's")
        rest = set(inside)
        order = inside if num_labels is None else [*inside, *(label for label in order if label not in rest)]
    return order[:num_labels]


def write_subset(
    source: Path | str,
    *,
    out: Path | str,
    num_labels: int | None = None,
    num_videos: int | None = None,
    target: Iterable[str] | None = None,
    seed: int = 0,
    column: str | None = None,
    progress: Progress | None = None,
) -> SubsetReport:
    """Write the rows of a labelled table that keep a label when only some labels are chosen, as Parquet.

    Labels as in `choose_labels`; the column becomes a list of the chosen labels. num_videos: so many of those rows, by
    a hash of seed and video, so that for the same labels fewer videos lie within more (the paper holds 1M videos and
    varies the labels). It is an error where there are fewer. `out` appears when it is complete, or not at all.
    Raises FileNotFoundError, OSError and DatasetError.
    """
    out, tell = Path(out), progress or (lambda *_: None)
    found = label_distribution(source, column=column)
    wanted = None if target is None else list(target)
    try:
        chosen = choose_labels(found.counts, num_labels=num_labels, target=wanted, seed=seed)
    except ValueError as err:
        raise DatasetError(f"{source}: {err}") from err
    with connect() as db:
        table = open_table(source, db=db, needs=column)
        table.refuse(_HASH, "rename it: the name is used within")
        subset = _Subset(db, table, label_column(table, column), chosen, seed)
        with readable(table.source):
            draw = None if num_videos is None else subset.draw(num_videos)
            counts = subset.write(out, draw, found.rows, tell)
    return SubsetReport(
        out=str(out),
        seed=seed,
        source_labels=len(found.counts),
        source_videos=found.videos,
        overlapping=None if wanted is None else count_overlapping(found.counts, wanted),
        labels=len(chosen),
        available_videos=draw.available if draw else subset.videos,
        videos=subset.videos,
        chosen={label: counts.get(label, 0) for label in chosen},
    )


def count_overlapping(labels: Iterable[str], target: Iterable[str]) -> int:
    """How many labels mean the same as one of the target's."""
    meanings = set(map(canonical_label, target))
    return sum(canonical_label(label) in meanings for label in labels)


@dataclass
class _Draw:
    """Which videos are drawn: those with a hash below `largest`, and so many that have it."""

    available: int
    largest: int
    with_largest: int

    def take(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """bool [R]"""
        mask = hashes < self.largest
        ties = np.flatnonzero(hashes == self.largest)[: self.with_largest]
        mask[ties] = True
        self.with_largest -= len(ties)
        return np.asarray(mask, bool)


class _Subset:
    """The rows of a table that keep a label, a batch at a time. videos: rows written."""

    def __init__(
        self, db: duckdb.DuckDBPyConnection, table: SourceTable, column: str, chosen: list[str], seed: int
    ) -> None:
        self._db, self._table, self._column = db, table, column
        self._chosen = pa.array(chosen, pa.string())
        names = ", ".join(f"{identifier(c)}::VARCHAR" for c in table.identity)
        self._hash = f"md5_number_lower('{int(seed)}:' || concat_ws(chr(31), {names}))" if names else ""
        self.videos = 0

    def draw(self, num_videos: int) -> _Draw:
        """The videos with the smallest hashes of seed and name. Raises DatasetError where there are too few."""
        source = self._table.source
        if not self._hash:
            raise DatasetError(
                f"{source}: no column names the videos (id, path, video, ...), so that a number of them cannot be "
                f"drawn by seed; it has {', '.join(self._table.columns)}"
            )
        parts = [_hashes(rows) for rows in self._batches(identifier(self._column), hashed=True)]
        hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
        if not 0 < num_videos <= len(hashes):
            raise DatasetError(
                f"{source}: {num_videos} videos asked for; the {len(self._chosen)} labels have {len(hashes)}. Take "
                "more labels or fewer videos"
            )
        largest = np.partition(hashes, num_videos - 1)[num_videos - 1]
        return _Draw(len(hashes), int(largest), num_videos - int((hashes < largest).sum()))

    def write(self, out: Path, draw: _Draw | None, total: int, progress: Progress) -> dict[str, int]:
        """Write the rows; gives the videos of each label."""
        counts: Counter[str] = Counter()
        with replacing(out) as file, parquet_writer(file, compression="zstd") as write:
            for rows in self._batches("*", hashed=draw is not None):
                if draw is not None:
                    rows = rows.filter(pa.array(draw.take(_hashes(rows)))).drop_columns([_HASH])
                write(rows)
                self.videos += rows.num_rows
                found = pc.value_counts(rows.column(self._column).combine_chunks().flatten())
                counts.update({str(pair["values"]): pair["counts"] for pair in found.to_pylist()})
                progress("writing", self._read, total)
        return dict(counts)

    def _batches(self, columns: str, *, hashed: bool) -> Iterator[pa.Table]:
        """Rows that keep a chosen label, with those labels alone."""
        labels = identifier(self._column)
        columns = (
            f"* REPLACE ({labels_sql(self._table, self._column)} AS {labels})"
            if columns == "*"
            else (f"{labels_sql(self._table, self._column)} AS {labels}")
        )
        sql = f"SELECT {columns}{f', {self._hash} AS {_HASH}' if hashed else ''} FROM {self._table.sql}"
        self._read = 0
        for batch in self._db.sql(sql).to_arrow_reader(BATCH_ROWS):
            rows = pa.table(batch)
            lists = rows.column(self._column).combine_chunks()
            keep = pc.is_in(lists.flatten(), value_set=self._chosen).to_numpy(zero_copy_only=False)
            self._read += rows.num_rows
            yield replace_lists(rows, self._column, filter_lists(lists, keep))


def _hashes(rows: pa.Table) -> NDArray[np.uint64]:
    return np.asarray(rows.column(_HASH).to_numpy(), np.uint64)
