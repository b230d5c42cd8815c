"""Where the bytes of a video are, its state there, and how it is opened for the core."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tenclip_api.errors import EmptyVideo, NotAFile, TenclipError, VideoNotFound, VideoNotReadable
from tenclip_features.stamps import VideoStamp, is_gone, is_unchanged, stamp_file
from tenclip_serving.intake.path_access import OpenFile
from tenclip_serving.requests import Upload

if TYPE_CHECKING:
    from tenclip_batch.containers import CellReader

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Uri:
    """Fetched as a server would fetch it, by its rules."""

    uri: str


@dataclass(frozen=True)
class TarMember:
    """`size` bytes from `offset` on in a tar file that is not compressed."""

    tar: Path
    offset: int
    size: int


@dataclass(frozen=True)
class ParquetCell:
    """A cell of a binary column, by its row in the whole file. column: with a dot before a field of a struct."""

    path: Path
    row: int
    column: str


Source: TypeAlias = Path | Uri | TarMember | ParquetCell


@dataclass(frozen=True)
class BatchVideo:
    """One video to work on. `name` identifies it in the dataset; `error` says why there is nothing to open."""

    name: str
    source: Source
    error: TenclipError | None = None


def stamp_of(source: Source, *, with_hash: bool = False) -> VideoStamp | None:
    """The state of what holds the video; None for a URI, which nobody looks at again, and where nothing is.

    Of a member of a tar file: its size, and when the tar was changed. Of a cell: size and time of the Parquet file.
    with_hash: with the SHA-256 of the video, for files and members.
    """
    if isinstance(source, Uri):
        return None
    if isinstance(source, Path):
        return stamp_file(source, with_hash=with_hash)
    if isinstance(source, ParquetCell):
        return stamp_file(source.path)
    whole = stamp_file(source.tar)
    if whole is None:
        return None
    try:
        digest = _member_hash(source) if with_hash else ""
    except OSError:
        return None
    return VideoStamp(source.size, whole.mtime_ns, digest)


def is_current(source: Source, stamp: VideoStamp | None, *, by_content: bool = False) -> bool:
    """Whether the video is still the one that `stamp` was taken of."""
    if isinstance(source, Uri) or stamp is None:
        return isinstance(source, Uri) and stamp is None
    if isinstance(source, Path):
        return is_unchanged(source, stamp, by_content=by_content)
    now = stamp_of(source)
    if now is None or now.num_bytes != stamp.num_bytes:
        return False
    if now.mtime_ns == stamp.mtime_ns and not (by_content and stamp.sha256):
        return True
    hashed = stamp_of(source, with_hash=True) if stamp.sha256 else None
    return hashed is not None and hashed.sha256 == stamp.sha256


def is_missing(source: Source) -> bool:
    """Whether nothing is left of what held the video."""
    match source:
        case Uri():
            return False
        case TarMember(tar=path) | ParquetCell(path=path):
            return is_gone(path)
        case _:
            return is_gone(source)


class VideoOpener:
    """Opens videos as fields of a `RecognitionRequest`. Cells of Parquet are read in the order of the calls."""

    def __init__(self) -> None:
        self._cells: CellReader | None = None
        self._in_turn = asyncio.Lock()

    def close(self) -> None:
        if self._cells is not None:
            self._cells.close()

    @asynccontextmanager
    async def open(self, video: BatchVideo) -> AsyncIterator[dict[str, Any]]:
        """Raises what is wrong with the file, by the name of the video."""
        if video.error is not None:
            raise video.error
        match video.source:
            case Uri(uri=uri):
                yield {"uri": uri}
            case TarMember() as member:
                pieces = partial(_member_pieces, member, video.name)
                yield {"upload": Upload(chunks=_in_threads(pieces), num_bytes=member.size)}
            case ParquetCell() as cell:
                data = await self._cell(cell, video.name)
                yield {"upload": Upload(chunks=_in_threads(partial(_pieces, data)), num_bytes=len(data))}
            case Path() as path:
                file = await asyncio.to_thread(open_file, path, video.name)
                try:
                    yield {"file": file}
                finally:
                    file.close()

    async def _cell(self, cell: ParquetCell, name: str) -> bytes:
        from tenclip_batch.containers import CellReader

        async with self._in_turn:  # first come, first served: rows come in their order, and no part is read twice
            if self._cells is None or self._cells.place != (cell.path, cell.column):
                self.close()
                self._cells = CellReader(cell.path, cell.column)
            data = await asyncio.to_thread(self._cells.read, cell.row)
        if not data:
            raise EmptyVideo(f"{name}: is empty (0 bytes)", source=name)
        return data


def open_file(path: Path, name: str) -> OpenFile:
    """The regular file at `path`. Raises VideoNotFound, NotAFile, VideoNotReadable."""
    try:
        # O_NONBLOCK: a named pipe must not make this wait for someone to write.
        file = OpenFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
        mode = os.fstat(file.descriptor).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise VideoNotFound(f"{name}: no such file", source=name) from None
    except OSError as err:
        raise VideoNotReadable(f"{name}: cannot be read: {err.strerror or err}", source=name) from err
    if not stat.S_ISREG(mode):
        file.close()
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise NotAFile(f"{name}: is {kind}, not a video file", source=name)
    return file


def _member_pieces(member: TarMember, name: str = "") -> Iterator[bytes]:
    shown = name or str(member.tar)
    try:
        with member.tar.open("rb") as file:
            file.seek(member.offset)
            left = member.size
            while left:
                piece = file.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise VideoNotReadable(f"{shown}: the tar file ends before it does", source=shown)
                left -= len(piece)
                yield piece
    except FileNotFoundError:
        raise VideoNotFound(f"{shown}: no such file as {member.tar}", source=shown) from None
    except OSError as err:
        raise VideoNotReadable(f"{shown}: cannot be read: {err.strerror or err}", source=shown) from err


def _member_hash(member: TarMember) -> str:
    digest = sha256()
    for piece in _member_pieces(member):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for first in range(0, len(data), _PIECE_BYTES):
        yield bytes(view[first : first + _PIECE_BYTES])


async def _in_threads(pieces: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """What an iterator gives, each piece read in a thread."""
    waiting = pieces()
    while (piece := await asyncio.to_thread(next, waiting, None)) is not None:
        yield piece
