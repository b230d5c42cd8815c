"""Tables of tens of millions of rows, CSV or Parquet, read by DuckDB in batches: memory does not grow with them."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pyarrow as pa

from tenclip_api.errors import DatasetError
from tenclip_data.tables import END_COLUMNS, PATH_COLUMNS, START_COLUMNS
from tenclip_data.text import is_excel_delimiter

PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
# Sorts and groups beyond this go to disk.
MEMORY_LIMIT = "1GB"
BATCH_ROWS = 250_000

_DELIMITERS = (",", "\t", ";", "|")
# Columns with the file of a video, and those that name a video in another way.
FILE_COLUMNS = tuple(name for name in PATH_COLUMNS if name != "video_id")
_ID_COLUMNS = ("id", *PATH_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """A table on disk. sql: the table function that reads it; columns: name as written -> DuckDB type.

    files: the parts of a table that is a folder of Parquet files. num_rows: None where only reading tells (CSV).
    """

    source: Path
    files: tuple[Path, ...]
    sql: str
    columns: dict[str, Any]
    num_rows: int | None

    def find(self, names: Sequence[str]) -> str | None:
        """The first of these columns that the table has, as written there; letter case does not count."""
        by_lower = {name.lower(): name for name in self.columns}
        return next((by_lower[name.lower()] for name in names if name.lower() in by_lower), None)

    def need(self, name: str) -> str:
        """The column as the table writes it. Raises DatasetError that lists the columns there are."""
        found = self.find((name,))
        if found is None:
            raise DatasetError(f"{self.source}: no column {name!r}; it has {', '.join(self.columns) or 'none'}")
        return found

    @functools.cached_property
    def identity(self) -> tuple[str, ...]:
        """The columns that name a video: its id or path, and the part of it where the table has that.

        () where no column is known to be one: every row is a video then.
        """
        video = self.find(_ID_COLUMNS)
        parts = (self.find(START_COLUMNS), self.find(END_COLUMNS))
        return () if video is None else (video, *(part for part in parts if part is not None))

    def is_list(self, column: str) -> bool:
        return str(self.columns[column].id) in ("list", "array")

    def batches(self, db: duckdb.DuckDBPyConnection, *, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """All rows in order. Raises DatasetError where the file is damaged."""
        with readable(self.source):
            yield from db.sql(f"SELECT * FROM {self.sql}").to_arrow_reader(rows)


def open_table(source: Path | str, *, db: duckdb.DuckDBPyConnection, needs: str | None = None) -> SourceTable:
    """A CSV or Parquet file, or a folder of Parquet files that are one table.

    needs: a column that it must have; it also tells the delimiter of a CSV file. Values of CSV files stay text.
    Raises FileNotFoundError, and DatasetError where it is no table, is empty, or lacks the column.
    """
    source = Path(source)
    files = _files(source)
    if files[0].suffix.lower() in PARQUET_SUFFIXES:
        names = ", ".join(map(_quoted, files))
        sql = f"read_parquet([{names}], hive_partitioning=false)"
    else:
        sql = _csv_sql(source, needs)
    with readable(source):
        described = db.sql(f"SELECT * FROM {sql} LIMIT 0")
        columns = dict(zip(described.columns, described.types, strict=True))
        num_rows = scalar(db, f"SELECT count(*) FROM {sql}") if sql.startswith("read_parquet") else None
        empty = not scalar(db, f"SELECT count(*) FROM (SELECT 1 FROM {sql} LIMIT 1)")
    table = SourceTable(source=source, files=files, sql=sql, columns=columns, num_rows=num_rows)
    if needs is not None:
        table.need(needs)
    if empty:
        raise DatasetError(f"{source}: has no rows")
    return table


@contextmanager
def connect(scratch: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB in memory, on the cores that this process may use. scratch: a folder for what does not fit."""
    from tenclip_video.cpus import usable_cpus

    db = duckdb.connect()
    try:
        db.execute(f"SET threads = {usable_cpus()}")
        db.execute(f"SET memory_limit = {_text(MEMORY_LIMIT)}")
        db.execute("SET enable_progress_bar = false")
        db.execute("SET autoinstall_known_extensions = false")
        if scratch is not None:
            db.execute(f"SET temp_directory = {_quoted(scratch)}")
        yield db
    finally:
        db.close()


def scalar(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    """The single whole number that a query gives."""
    ((value,),) = db.sql(sql).fetchall()
    return int(value)


@contextmanager
def readable(source: Path) -> Iterator[None]:
    """Turns what DuckDB says of a file into DatasetError, in one line."""
    try:
        yield
    except (duckdb.Error, pa.ArrowInvalid) as err:
        _unreadable(source, err)


def labels_sql(table: SourceTable, column: str) -> str:
    """SQL for the labels of a row as a list, each once: a list column, or text with `;` or `|` between labels.

    It is the rule of `tenclip_data.cells`: a text that begins with `#` has blanks between its labels.
    """
    name = identifier(column)
    if table.is_list(column):
        pieces = f"list_transform({name}, lambda x: trim(x::VARCHAR))"
    else:
        text = f"trim({name}::VARCHAR)"
        pieces = (
            f"list_transform(CASE WHEN starts_with({text}, '#') THEN string_split_regex({text}, '\\s+') "
            f"ELSE string_split_regex({text}, '[;|]') END, lambda x: trim(x))"
        )
    return f"list_sort(list_distinct(list_filter({pieces}, lambda x: x <> '')))"


def identifier(name: str) -> str:
    """A column's name, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _files(source: Path) -> tuple[Path, ...]:
    if source.is_dir():
        parts = sorted(p for p in source.iterdir() if p.suffix.lower() in PARQUET_SUFFIXES)
        if not parts:
            raise DatasetError(f"{source}: has no Parquet files (.parquet); name a table, or a folder of its parts")
        return tuple(parts)
    if not source.exists():
        raise FileNotFoundError(2, "No such file or directory", str(source))
    if source.suffix.lower() not in (*PARQUET_SUFFIXES, *TEXT_SUFFIXES):
        raise DatasetError(f"{source}: is neither CSV (.csv, .tsv, .txt) nor Parquet (.parquet, .pq)")
    return (source,)


def _csv_sql(source: Path, needs: str | None) -> str:
    """What reads a CSV file with exactly the columns of its header, as text.

    DuckDB's own detection would skip lines until those that are left look alike.
    """
    blank_lines, header = _header(source)
    fields = {d: [f.strip() for f in next(csv.reader([header], delimiter=d))] for d in _DELIMITERS}
    having = [d for d in _DELIMITERS if needs is not None and needs.lower() in map(str.lower, fields[d])]
    delimiter = having[0] if having else max(_DELIMITERS, key=lambda d: len(fields[d]))
    # pandas writes its index without a name.
    names = [name or f"column{i}" for i, name in enumerate(fields[delimiter])]
    if len({name.lower() for name in names}) < len(names):
        raise DatasetError(f"{source}, line {blank_lines + 1}: a column name stands twice in {', '.join(names)}")
    columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names)
    return (
        f"read_csv({_quoted(source)}, delim={_text(delimiter)}, quote='\"', escape='\"', header=true, "
        f"skip={blank_lines}, auto_detect=false, columns={{{columns}}})"
    )


def _header(source: Path) -> tuple[int, str]:
    """The number of blank lines before the header, and the header."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        try:
            lines = enumerate(file)
            blank_lines, header = next(((i, line) for i, line in lines if line.strip()), (0, ""))
        except UnicodeDecodeError as err:
            raise DatasetError(f"{source}: cannot be read as text in UTF-8; save the file as UTF-8") from err
    if not header:
        raise DatasetError(f"{source}: is empty")
    if is_excel_delimiter(header):
        raise DatasetError(f"{source}, line {blank_lines + 1}: 'sep=' is for Excel; take the line out")
    return blank_lines, header


def _unreadable(source: Path, err: Exception) -> NoReturn:
    if isinstance(err, (duckdb.OutOfMemoryException, duckdb.InternalException)):
        raise err
    text = " ".join(str(err).split("\n\n")[0].split())
    raise DatasetError(f"{source}: cannot be read: {text[:300]}") from err


def _quoted(path: Path) -> str:
    return _text(str(path))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
