"""Videos inside other files: WebDataset tar shards, and Parquet with a column of bytes."""

from __future__ import annotations

import bisect
import itertools
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tenclip_api.errors import DatasetError, TenclipError, VideoNotReadable
from tenclip_batch.sources import BatchVideo, ParquetCell, TarMember
from tenclip_data.scan import VIDEO_SUFFIXES, is_data_name, printable_name
from tenclip_data.tables import PATH_COLUMNS

TAR_SUFFIX = ".tar"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
# Names that such a column mostly has, where there are several.
_BYTES_COLUMNS = ("video", "mp4", "bytes", "data", "content", "video_bytes")
# Columns that may name the video of a row.
_NAME_COLUMNS = (*PATH_COLUMNS, "name", "id", "key", "__key__")


def is_compressed_tar(name: str) -> bool:
    return name.lower().endswith(_COMPRESSED)


def tar_videos(path: Path) -> Iterator[BatchVideo]:
    """The members of a tar file that are videos by their suffixes, as TAR/MEMBER, in its order.

    Only headers are read. Raises DatasetError for a file that is no plain tar, or ends in the middle.
    """
    shown = printable_name(path)
    with path.open("rb") as file:
        for name, offset, size in tar_members(file, path.stat().st_size, shown):
            yield BatchVideo(f"{shown}/{name}", TarMember(path, offset, size))


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
    except tarfile.TarError as err:
        hint = "; unpack compressed ones" if is_compressed_tar(shown) else ""
        raise DatasetError(f"{shown}: cannot be read as a tar file: {err}{hint}") from err


def _check_end(file: Any, shown: str, offset: int) -> None:
    """Raises DatasetError where what follows the last member is neither nothing nor blocks of zeros.

    `tarfile` takes a header that is cut off for the end.
    """
    file.seek(offset)
    rest = file.read(tarfile.BLOCKSIZE)
    if any(rest) or 0 < len(rest) < tarfile.BLOCKSIZE:
        raise DatasetError(f"{shown}: ends in the middle, or is damaged at byte {offset}")


def bytes_column(path: Path, asked: str | None = None) -> str | None:
    """The binary column of a Parquet file that holds the videos; None where it has none, and so is a list of names.

    asked: the one that the caller names. Raises DatasetError where that is none, or several could be meant.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as err:
        raise DatasetError(f"{printable_name(path)}: cannot be read as Parquet: {err}") from err
    return _column_of_bytes(schema, printable_name(path), asked)


def _column_of_bytes(schema: pa.Schema, shown: str, asked: str | None) -> str | None:
    found = list(_binary_columns(schema))
    if asked is not None:
        if asked not in found:
            has = ", ".join(found) or "none"
            raise DatasetError(f"{shown}: no column of bytes {asked!r}; such are: {has}")
        return asked
    if len(found) <= 1:
        return found[0] if found else None
    likely = [c for c in found if c.partition(".")[0].lower() in _BYTES_COLUMNS]
    if len(likely) != 1:
        raise DatasetError(f"{shown}: has the columns of bytes {', '.join(found)}; name one with --bytes-column")
    return likely[0]


def parquet_videos(path: Path, column: str) -> Iterator[BatchVideo]:
    """The rows of a Parquet file whose cell in `column` is a video, named by a column of names or PATH#ROW."""
    shown = printable_name(path)
    with path.open("rb") as raw, pq.ParquetFile(raw) as file:
        num_rows = file.metadata.num_rows
        names = _names(file, column, num_rows)
    for row in range(num_rows):
        name = f"{shown}#{row}" if names is None else f"{shown}/{names[row]}"
        yield BatchVideo(name, ParquetCell(path, row, column))


def parquet_cells(file: Any, shown: str, asked: str | None) -> tuple[str, list[str]]:
    """(the column of bytes, names of the rows, #ROW where they have none) of an open Parquet file.

    shown: stands for the file in messages. Raises DatasetError, and what reading the file raises.
    """
    try:
        with pq.ParquetFile(file) as found:
            column = _column_of_bytes(found.schema_arrow, shown, asked)
            if column is None:
                raise DatasetError(
                    f"{shown}: has no column of bytes, so it is a list; lists are read from files: download it first"
                )
            num_rows = found.metadata.num_rows
            names = _names(found, column, num_rows)
    except (pa.ArrowException, OSError) as err:
        raise DatasetError(f"{shown}: cannot be read as Parquet: {err}") from err
    return column, [f"#{row}" for row in range(num_rows)] if names is None else [f"/{name}" for name in names]


class CellReader:
    """Reads cells of one column, one row after the other, without holding more than a page of them.

    A row before the one that was read last, or in another row group, makes it begin at the start of its row group.
    file: open, where it has no path; not closed. place: then the name of the file in messages.
    """

    def __init__(self, path: Path | str, column: str, file: Any = None) -> None:
        self.place = (path, column)
        self._open = file
        self._file: Any = None
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
            groups = self._file.metadata
            sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
            self._firsts = list(itertools.accumulate(sizes, initial=0))
        group = bisect.bisect_right(self._firsts, row) - 1
        if group != self._group or row < self._next:
            self._group, self._next = group, self._firsts[group]
            self._cells = self._cells_of(group)

    def _cells_of(self, group: int) -> Iterator[Any]:
        whole, _, inner = self.place[1].partition(".")
        if group == len(self._firsts) - 1:  # behind the last row
            return
        for batch in self._file.iter_batches(batch_size=1, row_groups=[group], columns=[self.place[1]]):
            cells = batch.column(whole)
            yield from cells.field(inner) if inner else cells


def _binary_columns(schema: pa.Schema) -> Iterator[str]:
    for field in schema:
        if pa.types.is_struct(field.type):  # as Hugging Face keeps files: struct<bytes, path>
            yield from (f"{field.name}.{f.name}" for f in field.type if _is_binary(f.type))
        elif _is_binary(field.type):
            yield field.name


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _names(file: pq.ParquetFile, column: str, num_rows: int) -> list[str] | None:
    """Names of the rows, where a column of text has one for each of them and each once."""
    whole, _, inner = column.partition(".")
    candidates = [f"{whole}.path"] if inner else []
    texts = {f.name.lower(): f.name for f in file.schema_arrow if pa.types.is_string(f.type) or _is_large(f.type)}
    candidates += [texts[name] for name in _NAME_COLUMNS if name in texts]
    for name in candidates:
        try:
            table = file.read(columns=[name])
        except (pa.ArrowException, ValueError):
            continue
        if not table.num_columns:
            continue
        values = table.column(0)
        if "." in name and pa.types.is_struct(values.type):
            values = values.combine_chunks().field(0)
        names = values.to_pylist()
        if len(set(names)) == num_rows and all(names):
            return [printable_name(str(n)) for n in names]
    return None


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind))
