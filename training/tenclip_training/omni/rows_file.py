"""Frames and clips on their way from a decoding process to the teacher: in memory, or in a file where they are many.

Frames of a video of hours are gigabytes, of which neither process needs more than a few at a time. A file has the same
bytes as the array, and is read a part at a time. No torch: decoders of their own import this.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DecodeWorkerDied

# What is larger goes to a file: 220 frames of 224x224.
MAX_HELD_BYTES = 32 << 20


@dataclass(frozen=True)
class RowsFile:
    """A uint8 array of `shape` [N,...] in a file, of which slices of rows are read: `rows[16:32]`."""

    path: Path
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        start, stop, _ = rows.indices(len(self))
        size = math.prod(self.shape[1:])
        count = max(0, stop - start)
        return np.fromfile(self.path, np.uint8, count * size, offset=start * size).reshape(count, *self.shape[1:])


Rows = NDArray[np.uint8] | RowsFile


def discard(rows: Rows) -> None:
    """Delete the file, where there is one."""
    if isinstance(rows, RowsFile):
        rows.path.unlink(missing_ok=True)


class RowsSink:
    """A `FrameSink` for [N,...]: an array, or a file in `scratch` where that would be large. `offset`: (top, left) of
    what is cut out of each frame. Raises DecodeWorkerDied where there is no room for the file.
    """

    def __init__(self, scratch: Path, shape: tuple[int, ...], offset: tuple[int, int], *, name: str) -> None:
        self._shape, self._offset, self._name = shape, offset, name
        self._array = np.empty(shape, np.uint8) if math.prod(shape) <= MAX_HELD_BYTES else None
        self._path = None if self._array is not None else new_file(scratch, math.prod(shape), name=name)
        self._file = None if self._path is None else self._path.open("r+b", buffering=0)

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        top, left = self._offset
        self._write(slot, frame[top : top + self._shape[1], left : left + self._shape[2]])

    def repeat(self, slot: int, of: int) -> None:
        self._write(slot, self.rows()[of : of + 1][0])

    def rows(self) -> Rows:
        """What was put so far."""
        if self._array is not None:
            return self._array
        assert self._path is not None
        return RowsFile(self._path, self._shape)

    def close(self) -> None:
        """Nothing is put any more."""
        if self._file is not None:
            self._file.close()

    def _write(self, slot: int, row: NDArray[np.uint8]) -> None:
        if self._array is not None:
            self._array[slot] = row
            return
        assert self._file is not None
        with room_for(self._name):
            os.pwrite(self._file.fileno(), np.ascontiguousarray(row).data, slot * row.size)


def new_file(scratch: Path, size: int, *, name: str) -> Path:
    """A file of `size` bytes in the folder, which is made. Raises DecodeWorkerDied where there is no room for it."""
    with room_for(name):
        scratch.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=scratch, suffix=".rows")
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(handle)
    return Path(path)


@contextmanager
def room_for(name: str) -> Iterator[None]:
    """A full disk is no property of the video: the next run tries it again, as one whose process died."""
    try:
        yield
    except OSError as err:
        raise DecodeWorkerDied(f"{name}: its frames cannot be kept on disk: {err.strerror}") from err
