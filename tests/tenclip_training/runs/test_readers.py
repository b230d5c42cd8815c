"""Processes that read clips: what they say when they fail, and that they end with the run, not before it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from tenclip_api.errors import DatasetError
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.readers import begin_reader
from tenclip_training.runs.train import Progress, train


def test_an_error_of_a_reader_is_the_one_that_it_raised(train_config: TrainConfig, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def lose_the_videos(p: Progress) -> None:
        if p.stage == "cache" and p.done == p.total:
            for path in store.glob("*/*.npy"):
                path.unlink()

    config = train_config.changed(cache_dir=str(store), workers=2)
    with pytest.raises(DatasetError, match=r"^/.*\.npy: a decoded video of the cache folder cannot be read: .*$") as e:
        train(config, progress=lose_the_videos)
    assert "Original Traceback" in str(e.value.__cause__), "where it was raised is not lost"


# -- signals --

# Trains with readers, in a process group of its own. It says their numbers, and when it is in the midst of a step.
TRAINS = """
import json, multiprocessing, sys, time
import torch
torch.set_num_threads(1)
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train

def pause(p):
    if p.stage == "train" and p.done == 2:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        time.sleep(float(sys.argv[2]))

result = train(TrainConfig.from_dict(json.loads(sys.argv[1])), progress=pause)
print("completed" if result.completed else "saved", flush=True)
"""


@contextlib.contextmanager
def begun(config: TrainConfig, seconds: float) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run that waits so long in its second step, and its readers. It is killed in the end."""
    command = [sys.executable, "-c", TRAINS, json.dumps(config.to_dict()), str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment) as run:
        try:
            assert run.stdout is not None
            yield run, [int(pid) for pid in run.stdout.readline().split()]
        finally:
            run.kill()


def wait_until(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended; who has not been waited for is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_sigterm_to_all_processes_saves_after_the_step(train_config: TrainConfig) -> None:
    config = train_config.changed(workers=2, epochs=30)
    with begun(config, 1.0) as (run, readers):
        assert len(readers) == 2
        os.killpg(run.pid, signal.SIGTERM)
        said, _ = run.communicate(timeout=60)
        assert (said, run.returncode) == ("saved\n", 0)
    state = load_checkpoint(Path(config.out) / "last.pt").training_state
    assert state is not None
    assert (state["epoch"], state["step"]) == (0, 2)
    assert wait_until(lambda: all(map(gone, readers)))


def test_readers_do_not_outlive_a_run_that_is_killed(train_config: TrainConfig) -> None:
    with begun(train_config.changed(workers=2, epochs=30), 60.0) as (_, readers):
        assert len(readers) == 2
        assert not any(map(gone, readers))
    assert wait_until(lambda: all(map(gone, readers)))


class Stuck(Dataset[int]):
    """Its second item never comes."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 1:
            time.sleep(600)
        return os.getpid()


def test_a_reader_that_hangs_can_be_ended() -> None:
    items = iter(DataLoader(Stuck(), batch_size=None, num_workers=1, worker_init_fn=begin_reader))
    reader = int(next(items))
    os.kill(reader, signal.SIGINT)
    sender = subprocess.run(["kill", "-TERM", str(reader)], check=True)
    assert sender.returncode == 0
    time.sleep(0.3)
    assert not gone(reader), "what another process asks for is not heard"
    del items
    assert wait_until(lambda: gone(reader))
