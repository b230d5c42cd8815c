"""Tables with named columns: CSV with any delimiter, and Parquet.

Column names are compared without letter case. Columns that nobody named (the index that pandas writes) are left out.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.cells import to_labels, to_seconds, to_text
from tenclip_data.paths import is_image_name, is_video_name
from tenclip_data.samples import unit, where
from tenclip_data.text import is_excel_delimiter, lines_of

PATH_COLUMNS = (
    *("path", "video", "video_path", "file", "filename", "file_name", "filepath", "file_path", "video_name"),
    *("vid_name", "video_file", "video_id"),
)
SPLIT_COLUMNS = ("split", "subset")
START_COLUMNS = ("start_seconds", "start", "start_sec", "start_time", "time_start", "t_start", "start_timestamp")
END_COLUMNS = (
    *("end_seconds", "end", "end_sec", "end_time", "time_end", "t_end", "end_timestamp"),
    *("stop_timestamp", "stop_seconds", "stop", "stop_time"),
)
KINETICS_COLUMNS = frozenset({"youtube_id", "time_start", "time_end"})
DELIMITERS = (",", "\t", ";", "|", " ")

# An index without a name, as pandas writes it to CSV and to Parquet.
_INDEX_COLUMN = re.compile(r"(Unnamed: \d+(_level_\d+)?|__index_level_\d+__|)")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table in memory. rows: (line or row number, cells by column name as written)."""

    source: Path
    columns: tuple[str, ...]
    rows: Sequence[tuple[int, Mapping[str, Any]]]

    @functools.cached_property
    def by_lower(self) -> dict[str, str]:
        """Column names in lower case -> as written. Raises DatasetError where two are alike."""
        names: dict[str, str] = {}
        for column in self.columns:
            if names.setdefault(column.lower(), column) is not column:
                raise DatasetError(f"{self._header}: a column name stands twice in {', '.join(self.columns)}")
        return names

    @property
    def _header(self) -> str:
        return where(self.source, 1) if unit(self.source) == "line" else f"{self.source}"

    def find(self, names: Sequence[str]) -> str | None:
        """The first of these columns that the table has, as written there."""
        return next((self.by_lower[n.lower()] for n in names if n.lower() in self.by_lower), None)

    def need(self, names: Sequence[str]) -> str:
        """Like `find`; raises DatasetError where there is none."""
        column = self.find(names)
        if column is None:
            alternatives = f" (or {', '.join(names[1:])})" if names[1:] else ""
            has = ", ".join(self.columns) or "none"
            raise DatasetError(f"{self._header}: no column {names[0]!r}{alternatives}; it has {has}")
        return column

    def text(self, line: int, row: Mapping[str, Any], column: str | None) -> str | None:
        """A cell as text; None where it is empty or there is no such column. Raises DatasetError with the place."""
        try:
            return None if column is None else to_text(row[column])
        except DatasetError as err:
            raise DatasetError(f"{where(self.source, line)}: column {column!r} {err}") from err

    def labels(self, line: int, row: Mapping[str, Any], column: str | None, known: Collection[str]) -> tuple[str, ...]:
        """The labels in a cell, see `cells`. Raises DatasetError with the place."""
        try:
            return () if column is None else to_labels(row[column], known)
        except DatasetError as err:
            raise DatasetError(f"{where(self.source, line)}: column {column!r}: {err}") from err

    def seconds(self, line: int, row: Mapping[str, Any], column: str | None) -> float | None:
        """The seconds in a cell; None where it is empty. Raises DatasetError with the place."""
        if column is None:
            return None
        try:
            return to_seconds(row[column])
        except (TypeError, ValueError, DatasetError):
            comma = isinstance(row[column], str) and re.fullmatch(r"\s*\d+,\d+\s*", row[column])
            raise DatasetError(
                f"{where(self.source, line)}: {column} is {row[column]!r}, not a number of seconds (nor HH:MM:SS)"
                + ("; write a dot for the decimal comma" if comma else "")
            ) from None


def has_header(fields: Sequence[str]) -> bool:
    """True where the fields of a first line include a column name that tenclip knows."""
    names = {f.strip().strip("\"'").lower() for f in fields}
    return not any(is_video_name(n) or is_image_name(n) for n in names) and (
        bool(names & set(PATH_COLUMNS)) or names >= KINETICS_COLUMNS
    )


def find_delimiter(source: Path, text: str) -> str | None:
    """Find the delimiter under which the first line is a header that tenclip knows; None where there is none."""
    header = _first_line(text)
    order = sorted(DELIMITERS, key=lambda d: (d != "\t", d)) if source.suffix.lower() == ".tsv" else DELIMITERS
    for delimiter in order:
        # With blanks as delimiters, every one of the words must look like a column: a name without a suffix.
        fields = _split(header, delimiter)
        if has_header(fields) and (delimiter != " " or all(re.fullmatch(r"\w+", f) for f in fields)):
            return delimiter
    return None


def read_delimited(source: Path, text: str, delimiter: str) -> Table:
    """Parse text with a header line. Raises DatasetError that names the line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: list[str] = []
    rows: list[tuple[int, Mapping[str, Any]]] = []
    try:
        for fields in reader:
            if not any(f.strip() for f in fields) or (not columns and is_excel_delimiter(",".join(fields))):
                continue
            if not columns:
                columns = [f.strip() for f in fields]
                continue
            rows.append((reader.line_num, _row(source, reader.line_num, columns, fields)))
    except csv.Error as err:
        raise DatasetError(f"{source}, line {reader.line_num}: cannot be read as CSV: {err}") from err
    return Table(source=source, columns=_named(columns), rows=rows)


def read_parquet(source: Path, *, columns: Collection[str] | None = None) -> Table:
    """Read a Parquet file; categories become the values that they stand for. columns: lower-case names; None: all.

    Raises DatasetError.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        # A whole path here would make pyarrow take folders like `split=train` above it for columns.
        with source.open("rb") as raw, pyarrow.parquet.ParquetFile(raw) as file:
            names = list(file.schema_arrow.names)
            wanted = [n for n in names if not _INDEX_COLUMN.fullmatch(n) and (columns is None or n.lower() in columns)]
            data = file.read(columns=wanted)
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{source}: cannot be read as Parquet: {err}") from err
    values = [_values(data.column(i)) for i in range(data.num_columns)]
    names = list(data.column_names)
    rows = [(i, dict(zip(names, cells, strict=True))) for i, cells in enumerate(zip(*values, strict=True), start=1)]
    return Table(source=source, columns=_named(names), rows=rows)


# -- parsing --


def _row(source: Path, line: int, columns: Sequence[str], fields: list[str]) -> dict[str, Any]:
    while len(fields) > len(columns) and not fields[-1].strip():
        fields.pop()
    if len(fields) != len(columns):
        hint = "; write fields that hold a delimiter in quotes" if len(fields) > len(columns) else ""
        raise DatasetError(f"{source}, line {line}: {len(fields)} fields where the header has {len(columns)}{hint}")
    return {c: f for c, f in zip(columns, fields, strict=True) if not _INDEX_COLUMN.fullmatch(c)}


def _named(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(c for c in columns if not _INDEX_COLUMN.fullmatch(c))


def _first_line(text: str) -> str:
    lines = (line for line in lines_of(text) if line.strip() and not is_excel_delimiter(line))
    return next(lines, "")


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []


def _values(column: Any) -> list[Any]:
    """Python values of an Arrow column: times in microseconds. What Python has no type for is text, else None."""
    import pyarrow

    kind = column.type
    try:
        if pyarrow.types.is_duration(kind):
            column = column.cast(pyarrow.duration("us"), safe=False)
        elif pyarrow.types.is_timestamp(kind):
            column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False)
        elif pyarrow.types.is_time64(kind):
            column = column.cast(pyarrow.time64("us"), safe=False)
        return list(column.to_pylist())
    except (ValueError, OverflowError, NotImplementedError, pyarrow.ArrowException):
        pass
    try:
        return list(column.cast(pyarrow.string()).to_pylist())
    except (ValueError, NotImplementedError, pyarrow.ArrowException):
        return [None] * len(column)
