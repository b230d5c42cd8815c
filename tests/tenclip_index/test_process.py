"""An index in a process of its own: the same answers, and a process that dies, hangs or finds another index."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, DeadlineExceeded, IndexMismatch, IndexNotFound, InvalidRequest
from tenclip_index import open_index
from tenclip_index.build import build_index
from tenclip_index.process import IndexProcess
from tenclip_index.results import Filters

from .made_up import clustered, write


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    return clustered(100, 12)


@pytest.fixture
def folder(tmp_path: Path, features: NDArray[np.float32]) -> Path:
    build_index([write(tmp_path / "f.parquet", features)], tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def process(folder: Path) -> Iterator[IndexProcess]:
    running = IndexProcess(folder, threads=1, name="clips")
    yield running
    running.close()
    assert not psutil.pid_exists(running.pid)


def test_the_same_neighbours(process: IndexProcess, folder: Path, features: NDArray[np.float32]) -> None:
    index, asked = open_index(folder), features[[3, 60]]
    assert process.info == index.info
    filters = Filters(without_videos=("v/v000.mp4",))
    for by_video in (False, True):
        here = index.neighbours(asked, k=7, by_video=by_video, filters=filters)
        assert process.neighbours(asked.tobytes(), k=7, by_video=by_video, filters=filters) == here
    with pytest.raises(InvalidRequest, match="no row of the index has the label 'x'"):
        process.neighbours(asked.tobytes(), k=7, filters=Filters(labels=("x",)))


def test_a_process_that_died_is_replaced(process: IndexProcess, features: NDArray[np.float32]) -> None:
    first, pid = process.neighbours(features[:1].tobytes(), k=3), process.pid
    os.kill(pid, signal.SIGKILL)
    assert process.neighbours(features[:1].tobytes(), k=3) == first
    assert process.pid != pid


def test_a_process_that_hangs_is_ended(process: IndexProcess, features: NDArray[np.float32]) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded, match="index clips: the search was not done in time"):
        process.neighbours(features[:1].tobytes(), k=3, seconds=0.2)
    assert len(process.neighbours(features[:1].tobytes(), k=3)) == 3


def test_who_comes_too_late_leaves_the_process_alone(process: IndexProcess, features: NDArray[np.float32]) -> None:
    """Whoever waits longer than there is time for a new process, or for searches of others, still leaves one behind."""
    os.kill(process.pid, signal.SIGKILL)
    process._process.wait(10)
    with pytest.raises(DeadlineExceeded, match="index clips: the search was not begun in time"):
        process.neighbours(features[:1].tobytes(), k=3, seconds=0.05)  # less than a process takes to start
    started = process.pid
    with pytest.raises(DeadlineExceeded, match="not begun in time"):
        process.neighbours(features[:1].tobytes(), k=3, seconds=0)
    assert len(process.neighbours(features[:1].tobytes(), k=3)) == 3
    assert process.pid == started


def test_nobody_waits_longer_than_they_said(process: IndexProcess, features: NDArray[np.float32]) -> None:
    os.kill(process.pid, signal.SIGSTOP)  # the first search holds the only process
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(process.neighbours, features[:1].tobytes(), k=3, seconds=60)
        while not process._lock.locked():
            time.sleep(0.01)
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="not begun in time"):
            process.neighbours(features[:1].tobytes(), k=3, seconds=0.2)
        assert time.monotonic() - begun < 30
        os.kill(process.pid, signal.SIGCONT)
        assert len(first.result()) == 3


def test_another_index_in_its_place(
    process: IndexProcess, folder: Path, tmp_path: Path, features: NDArray[np.float32]
) -> None:
    """Whoever asks has checked that the features are of the model that the index was of."""
    other = write(tmp_path / "other.parquet", features, weights="f" * 16)
    build_index([other], folder, overwrite=True)
    assert len(process.neighbours(features[:1].tobytes(), k=3)) == 3, "it is searched as it was"
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(IndexMismatch, match=r"index clips: was an index of .*0123456789abcdef.* and is one of .*ffff"):
        process.neighbours(features[:1].tobytes(), k=3)


def test_no_index_to_start_with(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexNotFound):
        IndexProcess(tmp_path)
    path = folder / "vectors.faiss"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"vectors.faiss: is damaged"):
        IndexProcess(folder)


def test_its_owner_loads_nothing_of_it_and_it_ends_with_it(folder: Path) -> None:
    program = (
        "import sys; from array import array; from tenclip_index.process import IndexProcess;"
        "p = IndexProcess(sys.argv[1]); p.neighbours(array('f', range(12)).tobytes(), k=1);"
        "print(p.pid, [m for m in ('faiss', 'numpy', 'pyarrow') if m in sys.modules], flush=True);"
        "import os; os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True)
    pid, _, loaded = done.stdout.partition(" ")
    assert loaded.strip() == "[]", done.stderr
    until = time.monotonic() + 60
    while psutil.pid_exists(int(pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid))
