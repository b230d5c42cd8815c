"""Which files a request may name."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from tenclip_api.errors import InvalidRequest, NotAFile, PathNotAllowed, VideoNotFound, VideoNotReadable


def resolve_path(path: str, roots: Sequence[Path]) -> Path:
    """The regular file that a client means by `path`, with no symlink left in it.

    A relative path is looked up below each root in turn. Symlinks and `..` are followed first and judged by where they
    lead, so a link to elsewhere inside a root is fine and one that leaves them is not; whether something exists
    outside the roots is never told.

    Raises PathNotAllowed, VideoNotFound, NotAFile, VideoNotReadable, or InvalidRequest for what cannot be a path.
    """
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
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise NotAFile(f"{path}: {kind}; a video must be a regular file", source=path)
        return candidate
    raise VideoNotFound(f"{path}: no such file", source=path)


def _mode(file: Path, asked: str) -> int | None:
    """File type and permissions; None when there is no such file."""
    try:
        return file.stat().st_mode
    except PermissionError as err:
        raise VideoNotReadable(f"{asked}: {err.strerror}", source=asked) from err
    except OSError:  # not there, below a file, a name too long, a loop of links
        return None
