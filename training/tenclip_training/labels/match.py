"""Labels for a table of tagged videos (IG-65M section 3.1): read in batches, so memory does not grow with the table.

Two passes. The first joins tags with hashtags and writes the rows that match to a scratch file beside the output. Then
rows of the same video are united and videos are counted for each label. The second pass drops labels with too few
videos and writes the output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import replacing
from tenclip_training.labels.lists import filter_lists, parquet_writer, replace_lists
from tenclip_training.labels.spaces import LabelSpace
from tenclip_training.labels.tables import (
    BATCH_ROWS,
    FILE_COLUMNS,
    SourceTable,
    connect,
    identifier,
    open_table,
    scalar,
)
from tenclip_training.labels.tagging import TagCounts, TagMatcher

# IG-65M drops labels with fewer videos (footnotes 2 and 4).
DEFAULT_MIN_VIDEOS = 50

# Called with the stage, rows done, and rows in all (0: not known).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class MatchReport:
    """What `match_labels` did.

    rows, rows_without_tags, rows_matched: rows of the table, before anything is dropped.
    tags, tags_matched: tags of all rows, and those that are a hashtag of a label.
    repeated_rows: rows left out because an earlier row is the same video; it got their labels.
    missing_files: rows left out because their file is gone (with `check_files`); None where nobody looked.
    videos: rows written. label_assignments: labels of all of them. videos_with_several_labels: more than one label.
    videos_per_label: label -> videos, for the labels that are kept, in the order of the space.
    dropped: label -> videos, for labels with at least one video and fewer than min_videos.
    unmatched: labels of which no video has a hashtag.
    hashtags, hashtags_seen, hashtags_shared: distinct hashtags; those that occur; those of several labels.
    capped: label -> hashtags before the cap of max_hashtags.
    """

    out: str
    rows: int
    rows_without_tags: int
    rows_matched: int
    tags: int
    tags_matched: int
    repeated_rows: int
    missing_files: int | None
    missing_examples: tuple[str, ...]
    videos: int
    label_assignments: int
    videos_with_several_labels: int
    min_videos: int
    labels: int
    videos_per_label: dict[str, int] = field(repr=False)
    dropped: dict[str, int] = field(repr=False)
    unmatched: tuple[str, ...] = field(repr=False)
    hashtags: int
    hashtags_seen: int
    hashtags_shared: int
    max_hashtags: int | None
    capped: dict[str, int] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def match_labels(
    videos: Path | str,
    space: LabelSpace,
    *,
    tags: str,
    out: Path | str,
    min_videos: int = DEFAULT_MIN_VIDEOS,
    label_column: str = "labels",
    fold_accents: bool = False,
    check_files: bool = False,
    root: Path | None = None,
    progress: Progress | None = None,
    batch_rows: int = BATCH_ROWS,
) -> MatchReport:
    """Write the videos that carry a hashtag of a label as Parquet, with all their labels as a list column.

    videos: CSV, Parquet, or a folder of Parquet files. tags: its column of tags: text, or a list of tags. A video
    belongs to a label when it has at least one of its hashtags; one that has hashtags of several gets them all.
    Rows that name the same video (by id or path, and by start and end where there are any) are united.
    min_videos: labels with fewer videos are dropped. Videos that keep no label are not written.
    fold_accents: é and e are the same letter. check_files: leave out rows whose file is gone; relative paths start at
    `root`, the folder of the table unless given.

    `out` appears when it is complete, or not at all. Raises FileNotFoundError, OSError, and DatasetError where the
    table or the column cannot be used, no tag matches, or no label has enough videos.
    """
    out = Path(out)
    if not out.parent.is_dir():
        raise FileNotFoundError(2, "No such folder for the output", str(out.parent))
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch, connect(Path(scratch)) as db:
        table = open_table(videos, db=db, needs=tags)
        if table.find((label_column,)) is not None:
            raise DatasetError(f"{table.source}: has a column {label_column!r} already; choose another label column")
        run = _Run(db, table, space, Path(scratch) / "matched.parquet", label_column, progress or (lambda *_: None))
        matcher = TagMatcher(db, space, fold_accents=fold_accents)
        files = _Files(table, root or _folder(table.source)) if check_files else None
        run.match(matcher, table.need(tags), files, batch_rows)
        _refuse_no_match(table, matcher, space, tags, files)
        repeated = run.unite_repeated()
        counts = run.count()
        kept = counts >= max(min_videos, 1)
        if not kept.any():
            best = int(counts.argmax())
            raise DatasetError(
                f"{table.source}: no label has {min_videos} videos; {space.labels[best]!r} has most, {counts[best]}. "
                "Lower the least number of videos a label, or bring more videos"
            )
        written = run.write(out, kept)
    per_label = dict(zip(space.labels, counts.tolist(), strict=True))
    return MatchReport(
        out=str(out),
        **_plain_counts(matcher.counts),
        repeated_rows=repeated,
        missing_files=files.missing if files else None,
        missing_examples=tuple(files.examples) if files else (),
        videos=written.videos,
        label_assignments=written.assignments,
        videos_with_several_labels=written.several,
        min_videos=min_videos,
        labels=int(kept.sum()),
        videos_per_label={label: n for (label, n), keep in zip(per_label.items(), kept, strict=True) if keep},
        dropped={label: n for (label, n), keep in zip(per_label.items(), kept, strict=True) if n and not keep},
        unmatched=tuple(label for label, n in per_label.items() if not n),
        hashtags=matcher.num_hashtags,
        hashtags_seen=int(matcher.seen.sum()),
        hashtags_shared=matcher.num_shared,
        max_hashtags=space.max_tags,
        capped=space.capped,
    )


@dataclass
class _Written:
    videos: int = 0
    assignments: int = 0
    several: int = 0


class _Files:
    """Which rows' files are there."""

    def __init__(self, table: SourceTable, root: Path) -> None:
        column = table.find(FILE_COLUMNS)
        if column is None:
            raise DatasetError(
                f"{table.source}: no column names the files of the videos (path, video, file, ...), so they cannot be "
                f"checked; it has {', '.join(table.columns)}"
            )
        self._column, self._root = column, root
        self.missing, self.examples = 0, list[str]()

    def there(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """For each row of the batch: whether its file exists. bool [R]"""
        names = [str(name) for name in batch.column(self._column).to_pylist()]
        there = np.array([(self._root / name).is_file() for name in names], bool)
        gone = [name for name, found in zip(names, there, strict=True) if not found]
        self.missing += len(gone)
        self.examples += gone[: 3 - len(self.examples)]
        return there


class _Run:
    """The passes over one table, and the scratch file between them."""

    def __init__(
        self,
        db: duckdb.DuckDBPyConnection,
        table: SourceTable,
        space: LabelSpace,
        scratch: Path,
        column: str,
        progress: Progress,
    ) -> None:
        self._db, self._table, self._space = db, table, space
        self._scratch, self._column, self._progress = scratch, column, progress
        self._matched = 0
        self._rows = ""  # SQL of the matched rows, repeated ones united

    def match(self, matcher: TagMatcher, tags: str, files: _Files | None, batch_rows: int) -> None:
        """Write the rows that match, with indices of labels, to the scratch file."""
        total = self._table.num_rows or 0
        # A cursor of its own: a connection has one result at a time.
        with (
            self._db.cursor() as reading,
            self._scratch.open("wb") as file,
            parquet_writer(file, compression="lz4") as write,
        ):
            for batch in self._table.batches(reading, rows=batch_rows):
                matched = matcher.match(batch, tags, is_list=self._table.is_list(tags))
                rows = pa.table(batch.take(pa.array(matched.rows))).append_column(self._column, matched.to_arrow())
                if files is not None:
                    rows = rows.filter(pa.array(files.there(rows)))
                write(rows)
                self._matched += rows.num_rows
                self._progress("matching", matcher.counts.rows, total)
        self._rows = f"SELECT * FROM {self._scratch_sql}"

    @property
    def _scratch_sql(self) -> str:
        path = str(self._scratch).replace("'", "''")
        return f"read_parquet('{path}', file_row_number=true)"

    def unite_repeated(self) -> int:
        """Rows of the same video become its first row, with the labels of all. Returns how many rows that drops."""
        if not self._table.identity or not self._matched:
            return 0
        db, labels = self._db, identifier(self._column)
        name = f"concat_ws(chr(31), {', '.join(f'{identifier(c)}::VARCHAR' for c in self._table.identity)})"
        named = f"SELECT {name} AS name, file_row_number AS row, {labels} AS labels FROM {self._scratch_sql}"
        named += f" WHERE {identifier(self._table.identity[0])} IS NOT NULL"
        # Hashes first: 16 bytes a row instead of the whole name.
        db.execute(
            f"CREATE TEMP TABLE candidates AS SELECT hash(name) AS h FROM ({named}) GROUP BY h HAVING count(*) > 1"
        )
        db.execute(f"CREATE TEMP TABLE repeated AS SELECT * FROM ({named}) WHERE hash(name) IN (FROM candidates)")
        db.execute(
            "CREATE TEMP TABLE united AS SELECT min(row) AS row, list_sort(list_distinct(flatten(list(labels)))) AS "
            "labels FROM repeated GROUP BY name HAVING count(*) > 1"
        )
        db.execute(
            "CREATE TEMP TABLE surplus AS SELECT row FROM (SELECT row, row_number() OVER (PARTITION BY name ORDER BY "
            "row) AS n FROM repeated) WHERE n > 1"
        )
        dropped = scalar(db, "SELECT count(*) FROM surplus")
        if dropped:
            self._rows = (
                f"SELECT s.* REPLACE (coalesce(u.labels, s.{labels}) AS {labels}) FROM {self._scratch_sql} s "
                "LEFT JOIN united u ON s.file_row_number = u.row "
                "WHERE s.file_row_number NOT IN (FROM surplus)"
            )
        return dropped

    def count(self) -> NDArray[np.int64]:
        """Videos of each label, int64 [K]."""
        sql = f"SELECT label, count(*) AS n FROM (SELECT unnest({identifier(self._column)}) AS label FROM "
        found = self._db.sql(f"{sql}({self._rows})) GROUP BY label").fetchnumpy()
        counts = np.zeros(len(self._space.labels), np.int64)
        counts[np.asarray(found["label"], np.int64)] = found["n"]
        return counts

    def write(self, out: Path, kept: NDArray[np.bool_]) -> _Written:
        """The output: labels by name, without the ones that are dropped, and without videos that keep none."""
        written = _Written()
        names = pa.array(self._space.labels, pa.string())
        sql = f"SELECT * EXCLUDE (file_row_number) FROM ({self._rows})"
        reader = self._db.sql(sql).to_arrow_reader(BATCH_ROWS)
        done = 0
        with replacing(out) as file, parquet_writer(file, compression="zstd") as write:
            for batch in reader:
                write(_with_names(pa.table(batch), self._column, kept, names, written))
                done += batch.num_rows
                self._progress("writing", done, self._matched)
        return written


def _with_names(
    rows: pa.Table, column: str, kept: NDArray[np.bool_], names: pa.StringArray, written: _Written
) -> pa.Table:
    """Rows whose lists hold kept labels' names in place of indices; rows that keep none are left out."""
    lists = rows.column(column).combine_chunks()
    labels = lists.flatten()
    found = filter_lists(lists, kept[labels.to_numpy(zero_copy_only=False)], names.take(labels))
    written.videos += len(found.lengths)
    written.assignments += int(found.lengths.sum())
    written.several += int((found.lengths > 1).sum())
    return replace_lists(rows, column, found)


def _refuse_no_match(
    table: SourceTable, matcher: TagMatcher, space: LabelSpace, tags: str, files: _Files | None
) -> None:
    counts = matcher.counts
    if not counts.tags:
        raise DatasetError(f"{table.source}: column {tags!r} holds no tags in any of its {counts.rows} rows")
    if not counts.rows_matched:
        looked = ", ".join(f"#{tag}" for tag in space.hashtags["tag"].slice(0, 3).to_pylist())
        seen = ", ".join(f"#{tag}" for tag in counts.examples)
        raise DatasetError(
            f"{table.source}: none of its {counts.rows} rows has a hashtag of the {len(space.labels)} labels; column "
            f"{tags!r} holds {seen} and the like, the labels' hashtags are {looked} and the like"
        )
    if files is not None and files.missing == counts.rows_matched:
        raise DatasetError(
            f"{table.source}: the file of every video that matches is gone ({files.missing}, such as "
            f"{files.examples[0]}); --videos names the folder that paths start from"
        )


def _plain_counts(counts: TagCounts) -> dict[str, int]:
    return {k: v for k, v in asdict(counts).items() if k != "examples"}


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent
