"""Where the bytes of a video are, its state there, and how it is opened for the core."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
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
    from tenclip_batch.remote import RemoteFile, RemoteFiles

_PIECE_BYTES = 1 << 20
# Of a Parquet file at a URL, in one request.
_AHEAD_BYTES = 4 << 20


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


@dataclass(frozen=True)
class RemoteShard:
    """A tar or Parquet file at a URL, whose videos are to be listed. column: of bytes, where one was named."""

    url: str
    column: str | None = None


@dataclass(frozen=True)
class RemoteMember:
    """`size` bytes from `offset` on in a tar file at a URL. known: rows that are there already are of this state."""

    file: RemoteFile
    offset: int
    size: int
    known: bool = False


@dataclass(frozen=True)
class RemoteCell:
    """As ParquetCell, in a file at a URL. known: rows that are there already are of this state of the file."""

    file: RemoteFile
    row: int
    column: str
    known: bool = False


Source: TypeAlias = Path | Uri | TarMember | ParquetCell | RemoteShard | RemoteMember | RemoteCell


@dataclass(frozen=True)
class BatchVideo:
    """One video to work on. `name` identifies it in the dataset; `error` says why there is nothing to open."""

    name: str
    source: Source
    error: TenclipError | None = None


def stamp_of(source: Source, *, with_hash: bool = False) -> VideoStamp | None:
    """The state of what holds the video; None for a URI, which nobody looks at again, and where nothing is.

    Of a member of a tar file: its size, and when the tar was changed. Of a cell: size and time of the Parquet file.
    At a URL: as they were when it was listed. with_hash: with the SHA-256 of the video, for files and their members.
    """
    if isinstance(source, Uri | RemoteShard):
        return None
    if isinstance(source, RemoteMember):
        return VideoStamp(source.size, source.file.stamp.modified_ns)
    if isinstance(source, RemoteCell):
        return VideoStamp(source.file.stamp.size, source.file.stamp.modified_ns)
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
    if isinstance(source, RemoteMember | RemoteCell):
        return source.known
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
        case Uri() | RemoteShard() | RemoteMember() | RemoteCell():
            return False
        case TarMember(tar=path) | ParquetCell(path=path):
            return is_gone(path)
        case _:
            return is_gone(source)


class VideoOpener:
    """Opens videos as fields of a `RecognitionRequest`. Cells of Parquet are read in the order of the calls.

    remote: reads what is in files at URLs; None where there is none.
    """

    def __init__(self, remote: RemoteFiles | None = None) -> None:
        self._remote = remote
        self._cells: CellReader | None = None
        self._held = AsyncExitStack()  # what the cells are read from
        self._in_turn = asyncio.Lock()

    async def close(self) -> None:
        """Close what is open, and what reads files at URLs."""
        await self._close_cells()
        if self._remote is not None:
            await self._remote.__aexit__(None, None, None)

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
            case RemoteMember(file=shard, offset=offset, size=size):
                assert self._remote is not None
                async with aclosing(self._remote.pieces(shard, offset, size, video.name)) as chunks:
                    yield {"upload": Upload(chunks=chunks, num_bytes=size)}
            case ParquetCell() | RemoteCell() as cell:
                # No name here for its bytes: this frame lasts until the video is decoded.
                yield {"upload": _upload(await self._cell(cell, video.name))}
            case Path() as path:
                file = await asyncio.to_thread(open_file, path, video.name)
                try:
                    yield {"file": file}
                finally:
                    file.close()
            case RemoteShard(url=url):
                raise AssertionError(f"{url}: was not listed")

    async def _cell(self, cell: ParquetCell | RemoteCell, name: str) -> bytes:
        async with self._in_turn:  # first come, first served: rows come in their order, and no part is read twice
            place = cell.path if isinstance(cell, ParquetCell) else cell.file.name
            if self._cells is None or self._cells.place != (place, cell.column):
                await self._close_cells()
                self._cells = await self._cell_reader(cell)
            data = await asyncio.to_thread(self._cells.read, cell.row)
        if not data:
            raise EmptyVideo(f"{name}: is empty (0 bytes)", source=name)
        return data

    async def _cell_reader(self, cell: ParquetCell | RemoteCell) -> CellReader:
        from tenclip_batch.containers import CellReader

        if isinstance(cell, ParquetCell):
            return CellReader(cell.path, cell.column)
        assert self._remote is not None
        file = await self._held.enter_async_context(self._remote.reader(cell.file, ahead_bytes=_AHEAD_BYTES))
        return CellReader(cell.file.name, cell.column, file)

    async def _close_cells(self) -> None:
        if self._cells is not None:
            self._cells.close()
            self._cells = None
        await self._held.aclose()


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


def _upload(data: bytes) -> Upload:
    """Of a video in memory, which nothing holds any more when its chunks have been read."""
    return Upload(chunks=_in_threads(partial(_pieces, data)), num_bytes=len(data))


def _pieces(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for first in range(0, len(data), _PIECE_BYTES):
        yield bytes(view[first : first + _PIECE_BYTES])


async def _in_threads(pieces: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """What an iterator gives, each piece read in a thread."""
    waiting = pieces()
    while (piece := await asyncio.to_thread(next, waiting, None)) is not None:
        yield piece
