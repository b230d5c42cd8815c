"""Half of the cores for the server, the others for whoever loads it, before the rush and in it.

Else the load, which is light before and heavy in the rush, would take from the server what it is measured by. Cores of
their own are not enough for that: what one does slows another down where the two are threads of one physical core, or
share its memory, and a server's core that was measured beside an idle one is not the same beside a busy one. So
something spins wherever the load leaves a core idle.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# Ends with the process that started it, however that ends.
_SPIN = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for i in range(1_000_000):
        pass
"""


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


@contextmanager
def beside(server: int) -> Iterator[None]:
    """This thread, and those that it starts, on cores that the process `server` may not use; these are never idle.

    Where there are no others, nothing happens.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    mine = os.sched_getaffinity(0)
    others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(server)
    with ExitStack() as spinning:
        for core in others:
            spinning.enter_context(_spinning(core))
        os.sched_setaffinity(0, others or mine)
        try:
            yield
        finally:
            os.sched_setaffinity(0, mine)


@contextmanager
def _spinning(core: int) -> Iterator[None]:
    """A process that takes what everybody else leaves of a core."""
    with subprocess.Popen([sys.executable, "-c", _SPIN]) as process:
        try:
            os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setaffinity(process.pid, {core})
            yield
        finally:
            process.kill()
