from __future__ import annotations

import os
from pathlib import Path

import pytest

from tenclip_video.cpus import usable_cpus


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 5}, raising=False)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cpus(tmp_path: Path) -> int:
    return usable_cpus(proc=tmp_path / "proc", root=tmp_path / "cgroup")


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 2),  # one and a half cores keep two threads busy
        ("10000 100000", 1),
        ("1600000 100000", 4),
        ("nonsense", 4),
    ],
)
def test_limit_of_a_cgroup(tmp_path: Path, limit: str, cores: int) -> None:
    write(tmp_path / "proc", "0::/pod/container\n")
    write(tmp_path / "cgroup/pod/container/cpu.max", limit)
    assert cpus(tmp_path) == cores


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("where", ["", "pod/", "pod/container/"])
def test_the_limit_may_stand_anywhere_above(tmp_path: Path, where: str) -> None:
    write(tmp_path / "proc", "0::/pod/container\n")
    write(tmp_path / "cgroup/pod/container/cpu.max", "max 100000")
    write(tmp_path / f"cgroup/{where}cpu.max", "100000 100000")
    assert cpus(tmp_path) == 1


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("path", ["/job", "/../..", "/"])
def test_version_1_and_cgroups_seen_from_outside(tmp_path: Path, path: str) -> None:
    write(tmp_path / "proc", f"4:memory:/m\n3:cpu,cpuacct:{path}\n")
    write(tmp_path / "cgroup/cpu/cpu.cfs_quota_us", "300000\n")
    write(tmp_path / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "cgroup/cpu/job/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert cpus(tmp_path) == 3


@pytest.mark.usefixtures("four_cores")
def test_without_cgroups(tmp_path: Path) -> None:
    assert cpus(tmp_path) == 4


def test_this_machine() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
