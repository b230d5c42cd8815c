"""Locks of a dataset: one run at a time, which waits for the workers of a run before it whose driver was killed.

The operating system releases them however a process ends.
"""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tenclip_api.errors import DatasetError

_LOCK, _WORKERS_LOCK = ".lock", ".workers.lock"
LOCK_FILES = (_LOCK, _WORKERS_LOCK)
# How long the processes of a run whose driver was killed may take to end.
_WORKERS_SECONDS = 60.0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Held by a run. Raises DatasetError where another one holds it, or its workers do not end."""
    with (folder / _LOCK).open("a") as lock, (folder / _WORKERS_LOCK).open("a") as workers:
        if not _try_lock(lock):
            raise DatasetError(f"{folder}: another run is writing into it; wait for its end, or name another --out")
        deadline = time.monotonic() + _WORKERS_SECONDS
        while not _try_lock(workers):
            if time.monotonic() > deadline:
                raise DatasetError(
                    f"{folder}: workers of an earlier run still write into it, {_WORKERS_SECONDS:g} seconds after its "
                    "end; end them, or name another --out"
                )
            time.sleep(0.2)
        fcntl.flock(workers, fcntl.LOCK_UN)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Held by a worker that writes parts while its driver may be killed: the next run waits until it has ended."""
    with (folder / _WORKERS_LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
