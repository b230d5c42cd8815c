"""Reads the video of a call: a path, bytes, a file object, or the server's own path or URI. Uses no network.

A video of up to INLINE_BYTES is read whole and sent in one message. A larger one is read piece by piece while it is
sent, so that it need not fit into memory.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias

from tenclip_api.errors import EmptyVideo, InvalidRequest, NotAFile, VideoNotFound, VideoNotReadable
from tenclip_api.uris import without_secrets
from tenclip_client._types import ServerPath, ServerUri
from tenclip_data.scan import printable_name

# Half of what a server takes in one message unless it is told otherwise.
INLINE_BYTES = 32 << 20
# A server may be told to take messages of one MiB.
PIECE_BYTES = 512 << 10
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Pieces:
    """A video that is read while it is sent. `size`: its bytes, 0 where unknown.

    read: reads it from its beginning each time, unless it can be read only once. Raises VideoNotReadable,
    InvalidRequest.
    """

    size: int
    read: Callable[[], Iterator[bytes]] = field(repr=False, compare=False)


VideoSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Pieces | ServerPath | ServerUri"
)


@dataclass(frozen=True)
class VideoPayload:
    """A video ready to send: `data`, `pieces`, or the server's own `path` or `uri`. `name`: for messages."""

    name: str
    data: bytes = field(default=b"", repr=False)
    path: str = ""
    uri: str = ""
    pieces: Pieces | None = None


def load_video(video: VideoSource, name: str | None = None) -> VideoPayload:
    """`video`: a path, bytes, a binary file object (from where it stands to its end), Pieces, ServerPath or ServerUri.

    Raises VideoNotFound, NotAFile, VideoNotReadable, EmptyVideo, and InvalidRequest for anything that is none of these.
    """
    name = None if name is None else printable_name(name)
    if isinstance(video, ServerPath):
        return _server_path(video, name)
    if isinstance(video, ServerUri):
        return _server_uri(video, name)
    if isinstance(video, str | os.PathLike):
        return _from_file(video, name)
    if isinstance(video, bytes | bytearray | memoryview):
        return _from_bytes(bytes(video), name or "<bytes>")
    if isinstance(video, Pieces):
        return VideoPayload(name=name or "<pieces>", pieces=video)
    if hasattr(video, "read"):
        return _from_file_object(video, name)
    raise InvalidRequest(
        "a video is a path, bytes, a file opened in binary mode, ServerPath(...) or ServerUri(...); "
        f"got {type(video).__name__}"
    )


def _server_path(video: ServerPath, name: str | None) -> VideoPayload:
    if not video.path:
        raise InvalidRequest("ServerPath is empty; give a path on the server's machine")
    try:
        video.path.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"ServerPath {video.path!r} is no valid UTF-8, so it cannot be sent") from None
    return VideoPayload(name=name or video.path, path=video.path)


def _server_uri(video: ServerUri, name: str | None) -> VideoPayload:
    shown = without_secrets(video.uri)
    if "://" not in video.uri and not video.uri.startswith("file:"):
        raise InvalidRequest(f"ServerUri {shown!r} is no URI; write https://..., s3://... or file:/...")
    try:
        video.uri.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"ServerUri {shown!r} is no valid UTF-8, so it cannot be sent") from None
    return VideoPayload(name=name or shown, uri=video.uri)


def _from_file(path: str | os.PathLike[str], name: str | None) -> VideoPayload:
    shown = printable_name(path)
    with _reading(shown):
        size = _size_of_file(path, shown)
        with open(path, "rb") as file:  # whatever its size: what cannot be opened is said before anything is sent
            if size <= INLINE_BYTES:
                return _from_bytes(file.read(), name or shown, source=shown)

    def read() -> Iterator[bytes]:
        with _reading(shown), open(path, "rb") as file:
            yield from _pieces_of(file)

    return VideoPayload(name=name or shown, pieces=Pieces(size, read))


@contextmanager
def _reading(shown: str) -> Iterator[None]:
    """Raises errors of the operating system as those of `tenclip_api.errors`."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        hint = "; download it first, or let the server do that with ServerUri(...)" if "://" in shown else ""
        raise VideoNotFound(f"{shown}: no such file{hint}", source=shown) from None
    except OSError as err:
        if err.errno == errno.ENAMETOOLONG:
            raise VideoNotFound(f"{shown[:80]}...: no such file (the name is too long)", source=shown) from None
        raise VideoNotReadable(f"{shown}: cannot be read: {err.strerror or err}", source=shown) from err


def _size_of_file(path: str | os.PathLike[str], shown: str) -> int:
    # By stat before open: opening a named pipe would wait for a writer.
    try:
        status = os.stat(path)
    except ValueError:  # a NUL in the name
        raise VideoNotFound(f"{shown!r}: no such file", source=shown) from None
    for matches, kind in _KINDS:
        if matches(status.st_mode):
            raise NotAFile(f"{shown}: is {kind}, not a video file", source=shown)
    return status.st_size


def _from_file_object(file: BinaryIO, name: str | None) -> VideoPayload:
    own_name = getattr(file, "name", None)
    name = name or (printable_name(own_name) if isinstance(own_name, str | os.PathLike) else "<file>")
    start = _position(file)
    head = _read(file, INLINE_BYTES + 1, name)
    if not head:
        raise EmptyVideo(f"{name}: nothing left to read; if it was read before, seek(0) first", source=name)
    if len(head) <= INLINE_BYTES:
        return _from_bytes(head, name)
    if start is None:
        return VideoPayload(name=name, pieces=Pieces(0, lambda: _rest_of(file, head, name)))
    return VideoPayload(name=name, pieces=_pieces_from(file, start, name))


def _pieces_from(file: BinaryIO, start: int, name: str) -> Pieces:
    size = file.seek(0, os.SEEK_END) - start

    def read() -> Iterator[bytes]:
        file.seek(start)
        yield from _rest_of(file, b"", name)

    return Pieces(size, read)


def _position(file: BinaryIO) -> int | None:
    """The position of a file; None for one that cannot seek."""
    try:
        return file.tell() if file.seekable() else None
    except (AttributeError, OSError, ValueError):
        return None


def _read(file: BinaryIO, size: int, name: str) -> bytes:
    """Read `size` bytes, fewer only at the end, however small the portions that the file gives."""
    parts: list[bytes] = []
    while size > 0:
        try:
            data = file.read(size)
        except (OSError, ValueError) as err:
            raise VideoNotReadable(f"{name}: cannot be read: {err}", source=name) from err
        if not isinstance(data, bytes | bytearray):
            raise InvalidRequest(f"{name}: read() gave {type(data).__name__}; open it in binary mode ('rb')")
        if not data:
            break
        parts.append(bytes(data))
        size -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _rest_of(file: BinaryIO, head: bytes, name: str) -> Iterator[bytes]:
    yield from pieces_of_bytes(head)
    while piece := _read(file, PIECE_BYTES, name):
        yield piece


def _pieces_of(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def pieces_of_bytes(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for first in range(0, len(data), PIECE_BYTES):
        yield bytes(view[first : first + PIECE_BYTES])


def _from_bytes(data: bytes, name: str, *, source: str | None = None) -> VideoPayload:
    source = source or name
    if not data:
        raise EmptyVideo(f"{source}: is empty (0 bytes)", source=source)
    if len(data) > INLINE_BYTES:
        return VideoPayload(name=name, pieces=Pieces(len(data), lambda: pieces_of_bytes(data)))
    return VideoPayload(name=name, data=data)
