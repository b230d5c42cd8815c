"""Samples of shards: a manifest whose videos are read out of tar files by their place."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tenclip_api.errors import TruncatedVideo, VideoChanged, VideoNotFound, VideoNotReadable
from tenclip_data.samples import Sample
from tenclip_training.data.shards.index import Shard
from tenclip_training.data.shards.storage import ShardStorage

# Up to here a video is read whole and its SHA-256 checked; of a longer one only what its clips need is read.
WHOLE_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class ShardSample(Sample):
    """A sample whose video lies in a shard. number: that of the shard in its set, from 0.

    path: where the video would be if the shard were a folder; no file is there.
    """

    shard: Shard
    number: int
    offset: int
    num_bytes: int
    sha256: str
    storage: ShardStorage = field(compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """The video's content and its place among the shards, on which the order of training hangs."""
        return f"{self.sha256}:{self.number}"

    def source(self) -> bytes | BinaryIO:
        """The video, for `tenclip_video.video.open_video`.

        Raises VideoNotFound, VideoNotReadable, TruncatedVideo, VideoChanged and FetchFailed, which name the shard.
        """
        for attempt in (1, 2, 3):
            try:
                return self._read(self.storage.file_of(self.shard))
            except FileNotFoundError:
                if attempt == 3:  # the others: the cache has just dropped it
                    break
            except OSError as err:
                raise VideoNotReadable(f"{self._place}: {err.strerror or err}", source=self.name) from err
        raise VideoNotFound(f"{self._place}: there is no such shard", source=self.name)

    def _read(self, path: Path) -> bytes | BinaryIO:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        part = FilePart(descriptor, self.offset, self.num_bytes)
        size = os.fstat(descriptor).st_size
        if size < self.offset + self.num_bytes:
            part.close()
            raise TruncatedVideo(
                f"{self._place}: the shard is cut off: it has {size} of {self.shard.num_bytes} bytes, and the video "
                f"lies at {self.offset} to {self.offset + self.num_bytes}",
                source=self.name,
            )
        if self.num_bytes > WHOLE_BYTES:
            return part  # type: ignore[return-value]  # has all of BinaryIO that a reader uses
        with part:
            data = part.read()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise VideoChanged(
                f"{self._place}: the shard has changed since its index was made: other bytes are where the video was",
                source=self.name,
            )
        return data

    @property
    def _place(self) -> str:
        return f"{self.name} in {self.storage.place_of(self.shard)}"


class FilePart(io.RawIOBase):
    """The bytes [offset, offset + size) of an open file, as a file. Closes the descriptor when it is closed or lost."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._size, self._position = descriptor, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        os.lseek(self._descriptor, self._offset + self._position, os.SEEK_SET)
        parts = []
        while wanted and (data := os.read(self._descriptor, wanted)):
            parts.append(data)
            self._position += len(data)
            wanted -= len(data)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
