"""Videos inside other files: WebDataset tar shards, and Parquet with a column of bytes."""

from __future__ import annotations

import bisect
import itertools
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tenclip_api.errors import DatasetError, TenclipError, VideoNotReadable
from tenclip_batch.sources import BatchVideo, ParquetCell, TarMember, open_file
from tenclip_data.scan import VIDEO_SUFFIXES, is_data_name, is_packed_tar, printable_name
from tenclip_data.tables import PATH_COLUMNS

PARQUET_SUFFIXES = (".parquet", ".pq")
# Names that a column of videos mostly has; and last words of others (clip.webm, raw_video).
_BYTES_COLUMNS = ("video", "mp4", "bytes", "data", "content", "video_bytes")
_BYTES_WORDS = frozenset({"video", "clip", "bytes", "data", "content", "blob", "binary", "raw"}) | {
    suffix.removeprefix(".") for suffix in VIDEO_SUFFIXES
}
_NO_WORD = re.compile(r"[\W_]+")
# Columns that name files even as bytes: writers that know no text leave them so.
_BINARY_PATHS = frozenset(PATH_COLUMNS) - {"video", "file", "video_file"}
# Columns that may name the video of a row.
_NAME_COLUMNS = (*PATH_COLUMNS, "name", "id", "key", "__key__")


def tar_videos(path: Path) -> Iterator[BatchVideo]:
    """The members of a tar file that are videos by their suffixes, as TAR/MEMBER, in its order.

    Only headers are read. Raises DatasetError for a file that is no plain tar, or ends in the middle; VideoNotFound,
    NotAFile, VideoNotReadable for one that cannot be read.
    """
    shown = printable_name(path)
    with _opened(path, shown) as file:
        for name, offset, size in tar_members(file, os.fstat(file.fileno()).st_size, shown):
            yield BatchVideo(f"{shown}/{name}", TarMember(path, offset, size))


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[BinaryIO]:
    """A file to read from. Raises VideoNotFound, NotAFile, VideoNotReadable, which says what fails within as well."""
    opened = open_file(path, shown)
    try:
        with os.fdopen(opened.descriptor, "rb", closefd=False) as file:
            yield file
    except OSError as err:
        raise VideoNotReadable(f"{shown}: cannot be read: {err.strerror or err}", source=shown) from err
    finally:
        opened.close()


def tar_members(file: Any, size: int, shown: str) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of each member of an open tar file of `size` bytes that is a video by its suffix.

    shown: stands for the file in messages. Raises DatasetError as `tar_videos` does, and what reading the file raises.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg() and member.offset_data + member.size > size:
                    raise DatasetError(f"{shown}: ends in the middle of {printable_name(member.name)}")
                name = Path(member.name)
                tar.members.clear()  # type: ignore[attr-defined]  # of a walk over millions nothing is kept
                if not member.isreg() or member.issparse() or name.suffix.lower() not in VIDEO_SUFFIXES:
                    continue
                if not all(is_data_name(part) for part in name.parts if part not in (".", "/")):
                    continue
                yield printable_name(os.path.normpath(member.name)), member.offset_data, member.size
            _check_end(file, shown, tar.offset)
    except TenclipError:
        raise
    except (tarfile.TarError, ValueError, OverflowError) as err:  # of damaged headers
        hint = "; unpack compressed ones" if is_packed_tar(shown) else ""
        raise DatasetError(f"{shown}: cannot be read as a tar file: {err}{hint}") from err


def _check_end(file: Any, shown: str, offset: int) -> None:
    """Raises DatasetError where what follows the last member is neither nothing nor blocks of zeros.

    `tarfile` takes a header that is cut off for the end.
    """
    file.seek(offset)
    rest = file.read(tarfile.BLOCKSIZE)
    if any(rest) or 0 < len(rest) < tarfile.BLOCKSIZE:
        raise DatasetError(f"{shown}: ends in the middle, or is damaged at byte {offset}")


def holds_videos(path: Path, asked: str | None = None) -> bool:
    """Whether a Parquet file has a column with the videos themselves; others are lists of names.

    asked: the column that the caller names. True also for one that has to be looked at more closely: that cannot be
    read, or has several such columns.
    """
    try:
        with _opened(path, "") as file:  # which waits for no pipe
            schema = pq.read_schema(file)
        return asked in _binary_columns(schema) or _column_of_bytes(schema, "", None) is not None
    except (pa.ArrowException, TenclipError):
        return True


def _column_of_bytes(schema: pa.Schema, shown: str, asked: str | None) -> str | None:
    """The column that holds the videos; None for a list of names: it has no bytes, or other ones (hashes, say).

    Raises DatasetError where there is none such as asked for, or several could be meant.
    """
    found = _binary_columns(schema)
    if asked is not None:
        if asked not in found:
            has = ", ".join(found) or "none"
            raise DatasetError(f"{shown}: no column of bytes {asked!r}; such are: {has}")
        return asked
    likely = [name for name, column in found.items() if column.lower() in _BYTES_COLUMNS]
    likely = likely or [name for name in found if _NO_WORD.split(name.lower())[-1] in _BYTES_WORDS]
    if len(likely) == 1:
        return likely[0]
    if not found or (not likely and _has_paths(schema)):
        return None
    if len(found) > 1:
        raise DatasetError(f"{shown}: has the columns of bytes {', '.join(found)}; name one with --bytes-column")
    return next(iter(found))


def parquet_videos(path: Path, asked: str | None = None) -> Iterator[BatchVideo]:
    """The rows of a Parquet file with a column of videos, named by a column of names or PATH#ROW.

    asked: the column that the caller names. Raises DatasetError; VideoNotFound, NotAFile, VideoNotReadable for a file
    that cannot be read.
    """
    shown = printable_name(path)
    with _opened(path, shown) as file:
        column, names = parquet_cells(file, shown, asked)
    for row, name in enumerate(names):
        yield BatchVideo(f"{shown}{name}", ParquetCell(path, row, column))


def parquet_cells(file: Any, shown: str, asked: str | None) -> tuple[str, list[str]]:
    """(the column of bytes, names of the rows, #ROW where they have none) of an open Parquet file.

    shown: stands for the file in messages. Raises DatasetError, and what reading the file raises.
    """
    try:
        with pq.ParquetFile(file) as found:
            column = _column_of_bytes(found.schema_arrow, shown, asked)
            if column is None:
                raise DatasetError(
                    f"{shown}: {_why_list(found.schema_arrow)}, so it is a list; lists are read from files: "
                    "download it first"
                )
            num_rows = found.metadata.num_rows
            names = _names(found, column, num_rows)
    except (pa.ArrowException, OSError) as err:
        raise DatasetError(f"{shown}: cannot be read as Parquet: {err}") from err
    return column, [f"#{row}" for row in range(num_rows)] if names is None else [f"/{name}" for name in names]


def _why_list(schema: pa.Schema) -> str:
    found = _binary_columns(schema)
    if not found:
        return "has no column of bytes"
    return (
        f"has names of files, and no column of bytes that is called as videos are ({', '.join(found)}; --bytes-column)"
    )


class CellReader:
    """Reads cells of one column, one row after the other, without holding more than a page of them.

    A row before the one that was read last, or in another row group, makes it begin at the start of its row group.
    file: open, where it has no path; not closed. place: then the name of the file in messages.
    """

    def __init__(self, path: Path | str, column: str, file: Any = None) -> None:
        self.place = (path, column)
        self._open = file
        self._file: Any = None
        self._column = ("", "")
        self._firsts: list[int] = []  # rows that groups begin with
        self._cells: Iterator[Any] = iter(())
        self._group, self._next = -1, 0

    def read(self, row: int) -> bytes:
        """The bytes of a cell, b"" where it is null. Raises VideoNotReadable, and what reading `file` raises."""
        path = self.place[0]
        try:
            self._go_to(row)
            for cell in self._cells:
                self._next += 1
                if self._next == row + 1:
                    return cell.as_py() or b""
        except TenclipError:  # of a file at a URL
            self.close()
            raise
        except (pa.ArrowException, OSError) as err:
            self.close()
            raise VideoNotReadable(f"{path}: cannot be read as Parquet: {err}", source=str(path)) from err
        raise VideoNotReadable(f"{path}: has no row {row} any more", source=str(path))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._cells, self._group = None, iter(()), -1

    def _go_to(self, row: int) -> None:
        """Be in the row group of `row`, and not behind it."""
        if self._file is None:
            given = self.place[0] if self._open is None else self._open
            self._file = pq.ParquetFile(given, pre_buffer=False, buffer_size=1 << 20)
            self._column = self._find_column(self._file.schema_arrow)
            groups = self._file.metadata
            sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
            self._firsts = list(itertools.accumulate(sizes, initial=0))
        group = bisect.bisect_right(self._firsts, row) - 1
        if group != self._group or row < self._next:
            self._group, self._next = group, self._firsts[group]
            self._cells = self._cells_of(group)

    def _find_column(self, schema: pa.Schema) -> tuple[str, str]:
        path, column = self.place
        found = _find(schema, column)
        if found is None:
            raise VideoNotReadable(f"{path}: has no column {column!r} any more", source=str(path))
        return found

    def _cells_of(self, group: int) -> Iterator[Any]:
        if group == len(self._firsts) - 1:  # behind the last row
            return iter(())
        batches = self._file.iter_batches(batch_size=1, row_groups=[group], columns=[self.place[1]])
        return map(partial(_first_cell, column=self._column), batches)  # no cell that was given is held


def _first_cell(rows: pa.RecordBatch, column: tuple[str, str]) -> Any:
    return _values(rows, column)[0]


def _values(rows: pa.RecordBatch | pa.Table, column: tuple[str, str]) -> Any:
    """A column, or a field of the structs in it. Raises KeyError where there is none."""
    name, field = column
    values = rows.column(name)
    return pc.struct_field(values, field) if field else values


def _find(schema: pa.Schema, name: str) -> tuple[str, str] | None:
    """(column, field of the structs in it or "") that a name means: a column of this name, or else COLUMN.FIELD."""
    if name in schema.names:
        return name, ""
    for column in schema:
        field = name.removeprefix(f"{column.name}.")
        if field != name and pa.types.is_struct(column.type) and column.type.get_field_index(field) >= 0:
            return column.name, field
    return None


def _binary_columns(schema: pa.Schema) -> dict[str, str]:
    """The name of each, with a dot before a field of a struct -> the column that it is in."""
    found: dict[str, str] = {}
    for column in schema:
        if pa.types.is_struct(column.type):  # as Hugging Face keeps files: struct<bytes, path>
            found |= {f"{column.name}.{f.name}": column.name for f in column.type if _is_binary(f.type)}
    columns = {c.name: c.name for c in schema if _is_binary(c.type) and c.name.lower() not in _BINARY_PATHS}
    return found | columns


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):  # categories of pandas
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _has_paths(schema: pa.Schema) -> bool:
    """Whether a column names files, as text or as bytes."""
    return any(
        (_is_text(c.type) and c.name.lower() in PATH_COLUMNS)
        or (_is_binary(c.type) and c.name.lower() in _BINARY_PATHS)
        for c in schema
    )


def _names(file: pq.ParquetFile, column: str, num_rows: int) -> list[str] | None:
    """Names of the rows, where a column of text has one for each of them and each once."""
    schema = file.schema_arrow
    texts = {c.name.lower(): c.name for c in schema if _is_text(c.type)}
    candidates = [(texts[name], "") for name in _NAME_COLUMNS if name in texts]
    place = _find(schema, column)
    if place is not None and place[1]:
        candidates.insert(0, (place[0], "path"))
    for name, field in candidates:
        try:
            read = file.read(columns=[f"{name}.{field}" if field else name])
            names = _values(read, (name, field)).to_pylist()
        except (pa.ArrowException, ValueError, KeyError):
            continue
        if len(set(names)) == num_rows and all(names):
            return [printable_name(str(n)) for n in names]
    return None
