"""Tar files as WebDataset has them: the members of a sample lie side by side and share the name before the first dot.

Written here with times, owners and rights that are always the same, so that equal contents give equal files.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

COPY_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
# A tar ends with two blocks of zeros and is padded to whole records, as tar itself writes it.
_END_BLOCKS = 2


class ShortFile(OSError):
    """A file has become shorter, or longer, while it was copied."""


@dataclass(frozen=True)
class Stored:
    """Where a member's bytes lie in the tar, and their SHA-256."""

    offset: int
    num_bytes: int
    sha256: str


def append_member(tar: IO[bytes], name: str, content: IO[bytes], num_bytes: int) -> Stored:
    """Write a member of `num_bytes` at the position of `tar`, which is at a block's beginning before and afterwards.

    Raises ShortFile where `content` has another length, with half a member written; OSError.
    """
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = num_bytes, 0o644, 0
    # GNU's format is ustar's, and has sizes beyond 8 GiB.
    tar.write(member.tobuf(tarfile.GNU_FORMAT))
    offset, digest, left = tar.tell(), hashlib.sha256(), num_bytes
    while left:
        chunk = content.read(min(left, COPY_BYTES))
        if not chunk:
            raise ShortFile(f"is {left} bytes shorter than it was")
        digest.update(chunk)
        tar.write(chunk)
        left -= len(chunk)
    if content.read(1):
        raise ShortFile(f"is longer than the {num_bytes} bytes that it had")
    tar.write(bytes(-num_bytes % _BLOCK))
    return Stored(offset, num_bytes, digest.hexdigest())


def finish_tar(tar: IO[bytes]) -> None:
    """Write the end of the tar."""
    end = tar.tell() + _END_BLOCKS * _BLOCK
    tar.write(bytes(_END_BLOCKS * _BLOCK + -end % tarfile.RECORDSIZE))


def stored_bytes(num_bytes: int) -> int:
    """What a member of this length takes up in a tar, its header included."""
    return _BLOCK + num_bytes + -num_bytes % _BLOCK


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in a tar. available: how many of its `num_bytes` are there; sha256: of those."""

    name: str
    offset: int
    num_bytes: int
    available: int
    sha256: str
    content: bytes | None = None


def split_key(name: str) -> tuple[str, str]:
    """(key, suffix) of a member, as WebDataset takes them apart: at the first dot of the file's name.

    >>> split_key("train/0001.video.mp4"), split_key("README")
    (('train/0001', 'video.mp4'), ('README', ''))
    """
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix


class NotATar(ValueError):
    """What is wrong with a file that is no tar."""


@dataclass
class TarWalk:
    """The regular files of a tar, in order, each with its digest: every byte is read once.

    cut_off: after the walk, whether the tar ends before its end mark, or cannot be read on.
    """

    file: IO[bytes]
    cut_off: str = ""

    def members(self, *, keep: int = 0) -> Iterator[Member]:
        """The members; the content of those of up to `keep` bytes comes with them. Raises NotATar, OSError."""
        self.file.seek(0)
        try:
            tar = tarfile.open(fileobj=self.file, mode="r:")  # noqa: SIM115  # closes nothing
        except tarfile.ReadError as err:
            raise NotATar(_why_no_tar(self.file, err)) from err
        while True:
            try:
                info = tar.next()
            except tarfile.TarError as err:
                self.cut_off = str(err)
                return
            if info is None:
                break
            if info.isreg():
                member = self._read(info, keep)
                yield member
                if member.available < member.num_bytes:
                    self.cut_off = f"ends within {info.name}"
                    return
            tar.members.clear()  # type: ignore[attr-defined]  # of a walk over millions nothing is kept
        if not self._ends(tar.offset):
            self.cut_off = "ends without the end mark of a tar"

    def _ends(self, offset: int) -> bool:
        """Whether a block of zeros stands where the next member would begin."""
        self.file.seek(offset)
        return self.file.read(_BLOCK) == bytes(_BLOCK)

    def _read(self, info: tarfile.TarInfo, keep: int) -> Member:
        self.file.seek(info.offset_data)
        digest, left, kept = hashlib.sha256(), info.size, []
        while left and (chunk := self.file.read(min(left, COPY_BYTES))):
            digest.update(chunk)
            if info.size <= keep:
                kept.append(chunk)
            left -= len(chunk)
        content = b"".join(kept) if info.size <= keep else None
        return Member(
            name=info.name,
            offset=info.offset_data,
            num_bytes=info.size,
            available=info.size - left,
            sha256=digest.hexdigest(),
            content=content,
        )


def _why_no_tar(file: IO[bytes], err: Exception) -> str:
    file.seek(0)
    head = file.read(8)
    if not head:
        return "is empty"
    packed = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd", b"PK\x03\x04": "zip"}
    kind = next((name for magic, name in packed.items() if head.startswith(magic)), None)
    if kind is not None:
        return f"is packed with {kind}, in which nothing is found by its offset; unpack it to a plain tar first"
    return f"is no tar file ({err})"
