"""The sandbox of a decode worker: limits that the operating system puts on the process, for good.

A decoder that a hostile file has taken over can then neither fill the disk nor use up the machine's memory, nor gain
rights from a set-user-id program. What is missing on a system is left out: these are second walls.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path

# A video, its container, memory handed over, and what a library opens when it is first used.
_MAX_OPEN_FILES = 64
# Where the machine or the container runs out of memory, the kernel takes a worker before the server (0 to 1000).
_OOM_SCORE = 800
# linux/prctl.h
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """Resources that a decode worker may use.

    memory_bytes: address space, of which libraries take about 250 MiB; 0 for no limit.
    nice: added to the niceness of the process.
    """

    memory_bytes: int = 4096 << 20
    nice: int = 5

    def to_arguments(self) -> list[str]:
        return [str(self.memory_bytes), str(self.nice)]

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> SandboxLimits:
        memory_bytes, nice = arguments
        return cls(memory_bytes=int(memory_bytes), nice=int(nice))


def enter_sandbox(limits: SandboxLimits) -> None:
    """Put these limits on this process. None of them can be undone."""
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(max(_OOM_SCORE, int(score.read_text()))))
    if limits.memory_bytes:
        _lower(resource.RLIMIT_AS, limits.memory_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    # No byte can be written to any file; pipes, sockets and shared memory are none.
    _lower(resource.RLIMIT_FSIZE, 0)
    with contextlib.suppress(OSError):
        os.nice(limits.nice)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Other processes of the same user, other workers among them, cannot read its memory or trace it.
    _prctl(_PR_SET_DUMPABLE, 0)


def _lower(kind: int, limit: int) -> None:
    """Both limits of the process, never raising one."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (limit, limit))


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # Linux only
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
