"""The number of cores that this process may use: a container often has fewer than the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(*, proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that the process is bound to, or the CPU limit of its cgroups, rounded up, where that is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (quota for folder in _cgroup_folders(proc, root) if (quota := _quota(folder)) is not None)
    return min([bound, *(max(1, math.ceil(quota)) for quota in quotas)])


def _cgroup_folders(proc: Path, root: Path) -> Iterator[Path]:
    """Folders with limits: those of the process's cgroups and of all above them, versions 1 and 2.

    A container often sees its own cgroup as the root, while `proc` names it from outside; so the root is looked at in
    any case.
    """
    try:
        lines = proc.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        names = [name for name in path.split("/") if name not in ("", "..")]
        yield from (base.joinpath(*names[:depth]) for depth in range(len(names) + 1))


def _quota(folder: Path) -> float | None:
    """Cores, None for no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
