"""From tags to labels, a batch of rows at a time: the join of a table's tags with the hashtags of a label space."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from tenclip_training.labels.spaces import LabelSpace
from tenclip_training.labels.words import HASHES, SEPARATORS, canonical_tag

_EXAMPLES = 5


@dataclass
class TagCounts:
    """Counters over all batches. tags: with letters or digits, a tag that stands twice in a row twice."""

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

    num_hashtags: distinct hashtags of the space. num_shared: those that stand for more than one label.
    seen: bool, which of them occurred so far.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, space: LabelSpace, *, fold_accents: bool) -> None:
        self._db, self._num_labels, self._fold_accents = db, len(space.labels), fold_accents
        self.counts = TagCounts()
        db.register("space_hashtags", _canonical(space.hashtags, fold_accents=fold_accents))
        db.execute(
            "CREATE TEMP TABLE hashtags AS SELECT DISTINCT tag, label, (dense_rank() OVER (ORDER BY tag) - 1)::INTEGER "
            "AS number FROM space_hashtags"
        )
        db.unregister("space_hashtags")
        numbers = np.asarray(db.sql("SELECT number FROM hashtags").fetchnumpy()["number"], np.int64)
        self._labels_of_tag = np.bincount(numbers)
        self.num_hashtags = len(self._labels_of_tag)
        self.num_shared = int((self._labels_of_tag > 1).sum())
        self.seen = np.zeros(self.num_hashtags, bool)

    def match(self, batch: pa.RecordBatch, column: str, *, is_list: bool) -> MatchedRows:
        """The labels of the rows of one batch."""
        self._split(batch.column(column), is_list)
        sql = "SELECT t.row, h.label, h.number FROM tags t JOIN hashtags h ON t.tag = h.tag"
        found = self._db.sql(sql).fetchnumpy()
        rows, labels, numbers = (np.asarray(found[name], np.int64) for name in ("row", "label", "number"))
        self.seen[numbers] = True
        self._count(batch.num_rows, rows, numbers)
        return _grouped(rows, labels, self._num_labels)

    def _split(self, cells: pa.Array, is_list: bool) -> None:
        """Fill the table `tags` (row, tag). Pieces that are not ASCII go through Python, each once a batch."""
        db = self._db
        db.register("cells", pa.table({"row": np.arange(len(cells)), "cell": cells}))
        db.execute(f"CREATE OR REPLACE TEMP TABLE pieces AS {_pieces_sql(is_list)}")
        db.unregister("cells")
        odd = db.sql("SELECT DISTINCT piece FROM pieces WHERE strlen(piece) <> length(piece)").to_arrow_table()
        tags = [canonical_tag(piece, fold_accents=self._fold_accents) for piece in odd["piece"].to_pylist()]
        db.register("spelled", odd.append_column("tag", pa.array(tags, pa.string())))
        db.execute(
            """
            CREATE OR REPLACE TEMP TABLE tags AS SELECT row, tag FROM (
                SELECT row, regexp_replace(lower(piece), '[^a-z0-9]+', '', 'g') AS tag
                FROM pieces WHERE strlen(piece) = length(piece)
                UNION ALL SELECT row, s.tag FROM pieces JOIN spelled s USING (piece)
            ) WHERE tag <> ''
            """
        )
        db.unregister("spelled")

    def _count(self, num_rows: int, rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        counts = self.counts
        tagged = np.asarray(self._db.sql("SELECT row FROM tags").fetchnumpy()["row"], np.int64)
        counts.rows += num_rows
        counts.rows_without_tags += num_rows - _num_distinct(tagged)
        counts.rows_matched += _num_distinct(rows)
        counts.tags += len(tagged)
        # A hashtag of several labels is in several pairs, and is one tag.
        counts.tags_matched += round(float((1 / self._labels_of_tag[numbers]).sum()))
        if len(counts.examples) < _EXAMPLES and len(tagged):
            sql = f"SELECT tag FROM tags GROUP BY tag ORDER BY count(*) DESC, tag LIMIT {_EXAMPLES}"
            counts.examples = tuple(tag for (tag,) in self._db.sql(sql).fetchall())


# Unicode's blanks, as Python's \\s has them.
_BLANKS = r"\t-\r\x1c-\x20\x85\p{Z}"


def _pieces_sql(is_list: bool) -> str:
    """SQL that gives (row, piece): what stands between separators, as in `canonical_tags`.

    An element of a list is one tag, whatever blanks it holds; `#` alone separates tags within it.
    """
    if is_list:
        cells, separators = "SELECT row, unnest(cell)::VARCHAR AS cell FROM cells", HASHES
    else:
        cells, separators = "SELECT row, cell::VARCHAR AS cell FROM cells", SEPARATORS + _BLANKS
    split = f"unnest(string_split_regex(cell, '[{separators}]+'))"
    return f"SELECT row, piece FROM (SELECT row, {split} AS piece FROM ({cells})) WHERE piece <> ''"


def _canonical(hashtags: pa.Table, *, fold_accents: bool) -> pa.Table:
    """The same hashtags in the spelling of tags: those of a file may have `#` and capitals, and words of some scripts
    melt where they are joined.
    """
    tags = [canonical_tag(tag, fold_accents=fold_accents) for tag in hashtags["tag"].to_pylist()]
    table = hashtags.set_column(hashtags.column_names.index("tag"), "tag", pa.array(tags, pa.string()))
    return table.filter(pa.compute.not_equal(table["tag"], ""))


def _num_distinct(rows: NDArray[np.int64]) -> int:
    return int(np.count_nonzero(np.bincount(rows)))


def _grouped(rows: NDArray[np.int64], labels: NDArray[np.int64], num_labels: int) -> MatchedRows:
    """Pairs of row and label, in no order and with repeats, as lists by row."""
    keys = np.unique(rows * max(num_labels, 1) + labels)
    rows, labels = np.divmod(keys, max(num_labels, 1))
    distinct, starts = np.unique(rows, return_index=True)
    offsets = np.append(starts, len(rows)).astype(np.int32)
    return MatchedRows(rows=distinct, offsets=offsets, labels=labels.astype(np.int32))
