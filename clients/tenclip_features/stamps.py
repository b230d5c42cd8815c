"""Stamps: the state of a video file when its features were extracted, so that a changed file is noticed later."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

# Times that 64 bits of nanoseconds can hold (1677 to 2262), which is what Parquet stores.
_EARLIEST_NS, _LATEST_NS = -(2**63) + 1, 2**63 - 1


@dataclass(frozen=True)
class VideoStamp:
    """Size of a file, time of its last change and, where that was asked for, the SHA-256 of its content (else "")."""

    num_bytes: int
    mtime_ns: int
    sha256: str = ""


def stamp_file(path: Path, *, with_hash: bool = False) -> VideoStamp | None:
    """The stamp of a file as it is now; None where no file is there or it cannot be read.

    with_hash: read the whole file for its SHA-256, too.
    """
    try:
        status = path.stat()
        digest = _sha256(path) if with_hash else ""
    except (OSError, ValueError):
        return None
    return VideoStamp(status.st_size, min(max(status.st_mtime_ns, _EARLIEST_NS), _LATEST_NS), digest)


def is_unchanged(path: Path, stamp: VideoStamp, *, by_content: bool = False) -> bool:
    """Whether the file is still the one that `stamp` was taken of.

    Size and time of change decide. by_content: the SHA-256 decides where the stamp has one, whatever the time says.
    A file with another time is also compared by its SHA-256 where there is one: a copy is no change.
    """
    now = stamp_file(path)
    if now is None or now.num_bytes != stamp.num_bytes:
        return False
    if now.mtime_ns == stamp.mtime_ns and not (by_content and stamp.sha256):
        return True
    hashed = stamp_file(path, with_hash=True) if stamp.sha256 else None
    return hashed is not None and hashed.sha256 == stamp.sha256


def is_gone(path: Path) -> bool:
    """Whether nothing is left at `path`. A file that is there and cannot be read is not gone."""
    try:
        return not os.path.lexists(path)
    except ValueError:  # a NUL in the name
        return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
