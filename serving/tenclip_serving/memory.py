"""Memory that is handed from process to process and has no name, so that none can be left over.

A memfd lives as long as a descriptor or a mapping of it does: when the processes that hold those have ended, however
they ended, it is gone. Its size is sealed before another process sees it; a process that could shrink it could end
this one with SIGBUS.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
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

# linux/fcntl.h, since 5.1: no new way of writing, while a mapping that is there stays writable. Python's fcntl has no
# name for it before 3.13.
_F_SEAL_FUTURE_WRITE = 0x10


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
    """As `create`, holding `data`, which no one can change either."""
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


def forbid_writing(descriptor: int) -> None:
    """From now on nobody gets a new way of writing to it, where the kernel knows how (Linux 5.1)."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE)


def map_array(descriptor: int, shape: Sequence[int], *, writable: bool = False) -> NDArray[np.uint8]:
    """uint8 array over all of the memory; unmapped when its last view has died. Raises OSError, or ValueError.

    The mapping stands by itself: the descriptor may be closed.
    """
    size = math.prod(shape)
    if os.fstat(descriptor).st_size != size:
        raise ValueError(f"{os.fstat(descriptor).st_size} bytes of memory for an array of {size}")
    if writable:
        mapped = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    else:
        mapped = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    return np.frombuffer(mapped, np.uint8).reshape(shape)


@contextlib.contextmanager
def closing(descriptor: int | None) -> Iterator[int | None]:
    """Closes the descriptor, if there is one, at the end."""
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
