"""Paths that a request names: which of them it may, and how they are opened."""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path

from tenclip_api.errors import InvalidRequest, NotAFile, PathNotAllowed, VideoNotFound, VideoNotReadable
from tenclip_serving.exhaustion import raise_if_out_of_descriptors

# O_PATH is Linux's: a directory that may be passed through need not be readable.
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
# O_NONBLOCK: a pipe that has taken the file's place must not make this wait for someone to write.
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class OpenFile:
    """A file that stays the same, whatever becomes of its name. Closed by `close`, or when nobody refers to it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """May be called again."""
        self._close()


def file_stamp(descriptor: int) -> tuple[int, int] | None:
    """(size in bytes, time of the last change in ns): differs when the open file has been written to.

    None when a network file system has lost the file.
    """
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def open_path(path: str, roots: Sequence[Path]) -> OpenFile:
    """The regular file that a client means by `path`, open for reading.

    A relative path is looked up below each root in turn. Symlinks and `..` are followed first and judged by where they
    lead, so a link to elsewhere inside a root is fine and one that leaves them is not; whether something exists
    outside the roots is never told.
    It is judged and opened once. Who may write below a root could otherwise put a link to any file in its place while
    the request waits; on the way from the root to the file no link is followed, for none is left.
    Raises PathNotAllowed, VideoNotFound, NotAFile, VideoNotReadable, InvalidRequest for what cannot be a path, and
    Overloaded without a descriptor.
    """
    root, found = _resolve(path, roots)
    try:
        opened = OpenFile(_open_below(root, found.relative_to(root)))
        mode = os.fstat(opened.descriptor).st_mode
    except FileNotFoundError:
        raise VideoNotFound(f"{path}: no such file", source=path) from None
    except PermissionError:
        raise VideoNotReadable(f"{path}: permission denied", source=path) from None
    except OSError as err:
        raise_if_out_of_descriptors(err, path)
        if err.errno in (errno.ELOOP, errno.ENOTDIR):  # a link in the place of a file or of a directory
            raise VideoNotReadable(f"{path}: was replaced while it was opened; try again", source=path) from err
        raise VideoNotReadable(f"{path}: {err.strerror}", source=path) from err
    _check_regular(mode, path)
    return opened


def _open_below(root: Path, relative: Path) -> int:
    if not relative.parts:  # a file as a root
        return os.open(root, _FILE)
    *folders, name = relative.parts
    folder = os.open(root, _FOLDER)
    try:
        for part in folders:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)


def _resolve(path: str, roots: Sequence[Path]) -> tuple[Path, Path]:
    """(A root of the file, the file), without symlinks. Raises as `open_path`."""
    if not path or "\0" in path:
        raise InvalidRequest(f"video path {path!r} is no path")
    if not roots:
        raise PathNotAllowed(
            f"{path}: this server opens no paths; start it with --allow-root DIRECTORY, or send the bytes of the video"
        )
    resolved_roots = [Path(os.path.realpath(root)) for root in roots]
    candidates = [Path(os.path.realpath(root / path)) for root in resolved_roots]  # an absolute path replaces the root
    allowed = [c for c in candidates if any(c.is_relative_to(root) for root in resolved_roots)]
    if not allowed:
        raise PathNotAllowed(f"{path}: outside the directories that this server may read")
    for candidate in allowed:
        mode = _mode(candidate, path)
        if mode is None:
            continue
        _check_regular(mode, path)
        return next(root for root in resolved_roots if candidate.is_relative_to(root)), candidate
    raise VideoNotFound(f"{path}: no such file", source=path)


def _check_regular(mode: int, asked: str) -> None:
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise NotAFile(f"{asked}: {kind}; a video must be a regular file", source=asked)


def _mode(file: Path, asked: str) -> int | None:
    """File type and permissions; None when there is no such file."""
    try:
        return file.stat().st_mode
    except PermissionError as err:
        raise VideoNotReadable(f"{asked}: {err.strerror}", source=asked) from err
    except OSError:  # not there, below a file, a name too long, a loop of links
        return None
