"""From tags to labels, a batch of rows at a time: the join of a table's tags with the hashtags of a label space."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenclip_training.labels.spaces import LabelSpace
from tenclip_training.labels.tables import scalar
from tenclip_training.labels.words import HASHES, SEPARATORS, canonical_tag

_EXAMPLES = 5
_REMEMBERED_TAGS = 100_000  # tags that are not ASCII, with their canonical form


@dataclass
class TagCounts:
    """Counters over all batches. Tags are counted after canonicalisation, one a row each."""

    rows: int = 0
    rows_without_tags: int = 0
    rows_matched: int = 0
    tags: int = 0
    tags_matched: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatchedRows:
    """Which rows of a batch match, ascending, and the labels of each: `labels[offsets[i]:offsets[i + 1]]`, ascending.

    rows: int64 [R]; offsets: int32 [R+1]; labels: int32 [sum].
    """

    rows: NDArray[np.int64]
    offsets: NDArray[np.int32]
    labels: NDArray[np.int32]

    def to_arrow(self) -> pa.ListArray:
        return pa.ListArray.from_arrays(pa.array(self.offsets), pa.array(self.labels))


class TagMatcher:
    """Finds the labels of rows by their tags. One join in DuckDB for each batch.

    num_hashtags: distinct hashtags of the space; seen: bool, which of them occurred so far.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, space: LabelSpace, *, fold_accents: bool) -> None:
        self._db, self._num_labels = db, len(space.labels)
        self.counts = TagCounts()
        db.register("space_hashtags", _folded(space.hashtags) if fold_accents else space.hashtags)
        db.execute(
            "CREATE TEMP TABLE hashtags AS SELECT DISTINCT tag, label, (dense_rank() OVER (ORDER BY tag) - 1)::INTEGER "
            "AS number FROM space_hashtags"
        )
        db.unregister("space_hashtags")
        self.num_hashtags = scalar(db, "SELECT count(DISTINCT number) FROM hashtags")
        self.seen = np.zeros(self.num_hashtags, bool)
        _register_canonical_tag(db, fold_accents=fold_accents)

    @property
    def num_shared(self) -> int:
        """Hashtags that stand for more than one label."""
        return scalar(self._db, "SELECT count(*) FROM (SELECT tag FROM hashtags GROUP BY tag HAVING count(*) > 1)")

    def match(self, batch: pa.RecordBatch, column: str, *, is_list: bool) -> MatchedRows:
        """The labels of the rows of one batch."""
        cells = pa.table({"row": np.arange(batch.num_rows), "cell": batch.column(column)})
        self._db.register("cells", cells)
        self._db.execute(f"CREATE OR REPLACE TEMP TABLE pieces AS {_pieces_sql(is_list)}")
        self._db.unregister("cells")
        found = self._db.sql(
            "SELECT p.row, h.label, h.number FROM pieces p JOIN hashtags h ON p.tag = h.tag"
        ).fetchnumpy()
        rows, labels, numbers = (np.asarray(found[name], np.int64) for name in ("row", "label", "number"))
        self.seen[numbers] = True
        self._count(batch.num_rows, rows, numbers)
        return _grouped(rows, labels, self._num_labels)

    def _count(self, num_rows: int, rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        counts = self.counts
        tags = scalar(self._db, "SELECT count(*) FROM pieces")
        tagged = scalar(self._db, "SELECT count(DISTINCT row) FROM pieces")
        counts.rows += num_rows
        counts.rows_without_tags += num_rows - tagged
        counts.rows_matched += len(np.unique(rows))
        counts.tags += tags
        counts.tags_matched += len(np.unique(rows * max(self.num_hashtags, 1) + numbers))
        if len(counts.examples) < _EXAMPLES and tags:
            sql = f"SELECT tag FROM pieces GROUP BY tag ORDER BY count(*) DESC, tag LIMIT {_EXAMPLES}"
            counts.examples = tuple(tag for (tag,) in self._db.sql(sql).fetchall())


# Unicode's blanks, as Python's \\s has them.
_BLANKS = r"\t-\r\x1c-\x20\x85\p{Z}"


def _pieces_sql(is_list: bool) -> str:
    """SQL that gives (row, tag), each tag once a row; as `canonical_tags` does. Only what is not ASCII goes to Python.

    An element of a list is one tag, whatever blanks it holds; `#` alone separates tags within it.
    """
    if is_list:
        cells, separators = "SELECT row, unnest(cell)::VARCHAR AS cell FROM cells", HASHES
    else:
        cells, separators = "SELECT row, cell::VARCHAR AS cell FROM cells", SEPARATORS + _BLANKS
    return f"""
        SELECT DISTINCT row, tag FROM (
            SELECT row, CASE WHEN strlen(piece) = length(piece) THEN regexp_replace(lower(piece), '[^a-z0-9]+', '', 'g')
                             ELSE canonical_tag(piece) END AS tag
            FROM (SELECT row, unnest(string_split_regex(cell, '[{separators}]+')) AS piece FROM ({cells}))
            WHERE piece <> ''
        ) WHERE tag <> ''
    """


def _register_canonical_tag(db: duckdb.DuckDBPyConnection, *, fold_accents: bool) -> None:
    @functools.lru_cache(maxsize=_REMEMBERED_TAGS)
    def canonical(tag: str) -> str:
        return canonical_tag(tag, fold_accents=fold_accents)

    def canonical_column(tags: pa.Array) -> pa.Array:
        return pa.array(map(canonical, tags.to_pylist()), pa.string())

    text = duckdb.sqltype("VARCHAR")
    db.create_function("canonical_tag", canonical_column, [text], text, type="arrow")


def _folded(hashtags: pa.Table) -> pa.Table:
    tags = [t if t.isascii() else canonical_tag(t, fold_accents=True) for t in hashtags["tag"].to_pylist()]
    return hashtags.set_column(hashtags.column_names.index("tag"), "tag", pa.array(tags, pa.string()))


def _grouped(rows: NDArray[np.int64], labels: NDArray[np.int64], num_labels: int) -> MatchedRows:
    """Pairs of row and label, in no order and with repeats, as lists by row."""
    keys = np.unique(rows * max(num_labels, 1) + labels)
    rows, labels = np.divmod(keys, max(num_labels, 1))
    distinct, starts = np.unique(rows, return_index=True)
    offsets = np.append(starts, len(rows)).astype(np.int32)
    return MatchedRows(rows=distinct, offsets=offsets, labels=labels.astype(np.int32))
