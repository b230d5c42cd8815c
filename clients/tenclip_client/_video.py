"""What the caller calls a video -> the bytes (or the server's path) that travel. Nothing here touches the network."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias

from tenclip_api.errors import EmptyVideo, InvalidRequest, NotAFile, VideoNotFound, VideoNotReadable, VideoTooLarge
from tenclip_client._types import ServerPath

VideoSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | ServerPath"

# A protobuf message ends at 2 GiB - 1; what else a request holds fits in a mebibyte.
MAX_INLINE_BYTES = 2**31 - 1 - 2**20
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class VideoPayload:
    """A video ready to send: `data`, or the server's own `path`. `name` is what to call it in messages."""

    name: str
    data: bytes = field(default=b"", repr=False)
    path: str = ""


def load_video(video: VideoSource, name: str | None = None) -> VideoPayload:
    """Read `video`: a path, bytes, a binary file object (from where it stands to its end), or a ServerPath.

    Raises VideoNotFound, NotAFile, VideoNotReadable, EmptyVideo, VideoTooLarge (2 GiB and more do not fit into one
    message), and InvalidRequest for anything that is none of these.
    """
    name = None if name is None else printable(name)
    if isinstance(video, ServerPath):
        return _server_path(video, name)
    if isinstance(video, str | os.PathLike):
        return _from_file(video, name)
    if isinstance(video, bytes | bytearray | memoryview):
        return _from_bytes(bytes(video), name or "<bytes>")
    if hasattr(video, "read"):
        return _from_file_object(video, name)
    raise InvalidRequest(
        f"a video is a path, bytes, a file opened in binary mode, or ServerPath(...); got {type(video).__name__}"
    )


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that any encoder takes: bytes that are no UTF-8 (allowed in file names) become U+FFFD."""
    return os.fsencode(os.fspath(path)).decode("utf-8", errors="replace")


def _server_path(video: ServerPath, name: str | None) -> VideoPayload:
    if not video.path:
        raise InvalidRequest("ServerPath is empty; give a path on the server's machine")
    try:
        video.path.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"ServerPath {video.path!r} is no valid UTF-8, so it cannot be sent") from None
    return VideoPayload(name=name or video.path, path=video.path)


def _from_file(path: str | os.PathLike[str], name: str | None) -> VideoPayload:
    shown = printable(path)
    try:
        _check_file(path, shown)
        with open(path, "rb") as file:
            return _from_bytes(file.read(), name or shown, source=shown)
    except (FileNotFoundError, NotADirectoryError):
        hint = "; tenclip reads files, so download it first" if "://" in shown else ""
        raise VideoNotFound(f"{shown}: no such file{hint}", source=shown) from None
    except OSError as err:
        if err.errno == errno.ENAMETOOLONG:
            raise VideoNotFound(f"{shown[:80]}...: no such file (the name is too long)", source=shown) from None
        raise VideoNotReadable(f"{shown}: cannot be read: {err.strerror or err}", source=shown) from err


def _check_file(path: str | os.PathLike[str], shown: str) -> None:
    # By stat before open: opening a named pipe would wait for a writer.
    try:
        status = os.stat(path)
    except ValueError:  # a NUL in the name
        raise VideoNotFound(f"{shown!r}: no such file", source=shown) from None
    for matches, kind in _KINDS:
        if matches(status.st_mode):
            raise NotAFile(f"{shown}: is {kind}, not a video file", source=shown)
    if status.st_size > MAX_INLINE_BYTES:
        raise _too_large(status.st_size, shown)


def _from_file_object(file: BinaryIO, name: str | None) -> VideoPayload:
    own_name = getattr(file, "name", None)
    name = name or (printable(own_name) if isinstance(own_name, str | os.PathLike) else "<file>")
    try:
        data = file.read()
    except (OSError, ValueError) as err:
        raise VideoNotReadable(f"{name}: cannot be read: {err}", source=name) from err
    if not isinstance(data, bytes | bytearray):
        raise InvalidRequest(f"{name}: read() gave {type(data).__name__}; open it in binary mode ('rb')")
    if not data:
        raise EmptyVideo(f"{name}: nothing left to read; if it was read before, seek(0) first", source=name)
    return _from_bytes(bytes(data), name)


def _from_bytes(data: bytes, name: str, *, source: str | None = None) -> VideoPayload:
    source = source or name
    if not data:
        raise EmptyVideo(f"{source}: is empty (0 bytes)", source=source)
    if len(data) > MAX_INLINE_BYTES:
        raise _too_large(len(data), source)
    return VideoPayload(name=name, data=data)


def _too_large(size: int, source: str) -> VideoTooLarge:
    return VideoTooLarge(
        f"{source}: {size / 2**30:.1f} GiB do not fit into one request (2 GiB); put it where the server can read it "
        "and send ServerPath(...)",
        source=source,
    )
