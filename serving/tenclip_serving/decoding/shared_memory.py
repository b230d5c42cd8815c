"""Memory that is handed from process to process and has no name, so that none can be left over.

A memfd lives as long as a descriptor or a mapping of it does: when the processes that hold those have ended, however
they ended, it is gone. Its size is sealed before another process sees it; a process that could shrink it could end
this one with SIGBUS.

Allocating fresh pages is expensive, so memory that was used once is used again (`Segments`) by the same worker. For
that it is not sealed against writing: a worker that was taken over could change what it gave before, but it gives what
it likes in any case.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import weakref
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl

    _SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    _create = os.memfd_create
    _FLAGS = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    AVAILABLE = True
except (ImportError, AttributeError):  # not Linux
    AVAILABLE = False

_MIB = 1 << 20
# The size of an encoded video from which on handing memory over costs less than the socket.
WORTH_SHARING_BYTES = 64 << 10
# The most memory that waits for its next use, for each worker: ten clips of 16x112x112 are 6 MiB, of 32x128x128 15 MiB.
_KEPT_BYTES = 32 * _MIB
# More than one, for clips wait for the runtime while the worker decodes the next video. Each has two descriptors.
KEPT_SEGMENTS = 4


def create(size: int) -> int | None:
    """A descriptor of `size` zero bytes whose size no one can change; None where there is no such memory.

    The caller closes it. Not here: systems other than Linux, and Linux when it refuses (out of descriptors, forbidden).
    """
    if not AVAILABLE:
        return None
    with contextlib.suppress(OSError):
        descriptor = _create("tenclip", _FLAGS)
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SIZE_SEALS)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
    return None


def create_from(data: bytes) -> int | None:
    """A descriptor of memory that holds `data`, whose size and bytes no one can change; None as for `create`."""
    descriptor = create(len(data))
    if descriptor is None:
        return None
    view = memoryview(data)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, view[done:], done)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def map_writable(descriptor: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """uint8 array over the beginning of the memory; unmapped when its last view has died. Raises OSError or ValueError.

    The mapping stands by itself: the descriptor may be closed.
    """
    size, status = math.prod(shape), os.fstat(descriptor)
    flags = mmap.MAP_SHARED
    if status.st_blocks * 512 >= size:
        # Its pages are there, and mapping them at once costs half of a fault for each; fresh ones cost the same.
        flags |= mmap.MAP_POPULATE
    mapped = mmap.mmap(descriptor, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return np.frombuffer(mapped, np.uint8).reshape(shape)


class MemoryFile:
    """An inline video in memory that is given back as soon as it is decoded."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor
        # Also where nobody is left to call `close`: who waited for it may have been cancelled.
        self._close = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def of(cls, name: str, data: bytes) -> MemoryFile | None:
        """A file that holds `data`; None where there is no such memory."""
        descriptor = create_from(data)
        return None if descriptor is None else cls(name, descriptor)

    @property
    def descriptor(self) -> int:
        """Descriptor of the memory, which stays this object's to close. Raises ValueError after `close`."""
        if not self._close.alive:
            raise ValueError(f"{self.name}: its memory has been given back")
        return self._descriptor

    def close(self) -> None:
        """Give the memory back. May be called again."""
        self._close()


class Segment:
    """Memory that is filled through `descriptor` and read here. It goes when nothing refers to it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._mapped: mmap.mmap | None = None
        weakref.finalize(self, os.close, descriptor)

    def view(self, shape: Sequence[int]) -> NDArray[np.uint8]:
        """Its beginning as a read-only array of uint8, with a base of its own. Raises OSError."""
        if self._mapped is None:
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self._mapped = mmap.mmap(self.descriptor, self.size, flags=flags, prot=mmap.PROT_READ)
        return np.frombuffer(self._mapped, np.uint8, math.prod(shape)).reshape(shape)


class Segments:
    """Memory for one worker: each segment is used again once the last view of what it held has died."""

    def __init__(self) -> None:
        self._free: deque[Segment] = deque()

    def take(self, size: int) -> Segment | None:
        """One of at least `size` bytes that no one uses; None where there is no such memory."""
        while self._free:
            segment = self._free.popleft()
            if segment.size >= size:
                return segment
            # Too small a one goes: what comes next is most likely as large as this.
        descriptor = create(-(-size // _MIB) * _MIB)
        return None if descriptor is None else Segment(descriptor)

    def lend(self, segment: Segment, shape: Sequence[int]) -> NDArray[np.uint8]:
        """A read-only view of the segment, which comes back when the last view of it dies."""
        array = segment.view(shape)
        assert array.base is not None
        weakref.finalize(array.base, _keep, self._free, segment).atexit = False
        return array

    def close(self) -> None:
        """Nothing is used again: what is free goes now, what is lent with its last view."""
        self._free.clear()
        self._free = deque()


def _keep(free: deque[Segment], segment: Segment) -> None:
    # Called wherever the last view dies, in any thread: nothing here may wait for a lock.
    kept = tuple(free)
    if len(kept) < KEPT_SEGMENTS and sum(other.size for other in kept) + segment.size <= _KEPT_BYTES:
        free.append(segment)


@contextlib.contextmanager
def closing(descriptor: int | None) -> Iterator[int | None]:
    """Closes the descriptor, if there is one, at the end."""
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
