"""Processes of a pool, or of a DataLoader, that end with the one that started them, however that ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import threading

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def end_with_parent() -> None:
    """End this process when its parent has gone, which a parent that is killed cannot see to. Call it at the start."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, up to 1 GiB, instead of returning it to the system and asking anew.

    Steps of a network on a processor then wait less for fresh pages; but free memory is in pieces, of which large
    networks take much more, so it is for small ones. Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**30)
