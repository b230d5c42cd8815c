"""Half of the cores for the server, the others for whoever loads it, before the rush and in it.

Else the load, which is light before and heavy in the rush, would take from the server what it is measured by.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cores_of_its_own() -> Iterator[None]:
    """What is started meanwhile has the first half of the cores. Afterwards all are there for everyone."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: max(1, len(cores) // 2)])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def take_other_cores(server: int) -> None:
    """Move this thread, and those that it starts, to cores that the process `server` may not use, if there are any."""
    if hasattr(os, "sched_setaffinity"):
        others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(server)
        os.sched_setaffinity(0, others or os.sched_getaffinity(0))
