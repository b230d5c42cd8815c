"""A disk that is full, and kill -9 at the worst moment: an exact resume or a clear error, never half a file."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenclip_api.errors import CheckpointError
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import EpochResult, Progress, train

# Trains, and kills itself as soon as there is a file of that pattern after so many steps: in the midst of a save.
DIES = """
import json, os, signal, sys, threading, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train

config, pattern, steps = TrainConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], int(sys.argv[3])
out = Path(config.out)

def die():
    while not (out / "steps.jsonl").exists() or (out / "steps.jsonl").read_bytes().count(b"\\n") < steps:
        time.sleep(0.001)
    while not any(out.glob(pattern)):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=die, daemon=True).start()
train(config, resume=True)
"""


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A file that would become larger cannot be written: the same path in the code as a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_full_disk_leaves_the_old_checkpoint_and_the_run_goes_on_when_there_is_room(
    train_config: TrainConfig, tmp_path: Path, name: str
) -> None:
    config = train_config.changed(val_every=1)
    whole = train(config.changed(out=str(tmp_path / "whole")))
    out = Path(config.out)
    train(config, stop_after_steps=2)
    before = (out / "last.pt").read_bytes()
    limits = contextlib.ExitStack()

    def fill_the_disk_after(p: Progress) -> None:
        if p.stage == "evaluate" and p.done == p.total and name == "best.pt":
            limits.enter_context(largest_file(2000))

    def fill_the_disk_for_last(result: EpochResult) -> None:
        if name == "last.pt":
            limits.enter_context(largest_file((out / "best.pt").stat().st_size))

    with limits, pytest.raises(CheckpointError, match=rf"run/{name}: cannot be written: "):
        train(config, resume=True, progress=fill_the_disk_after, on_epoch=fill_the_disk_for_last)
    assert not list(out.glob(".*.part")), "what was begun is removed"
    assert (out / "last.pt").read_bytes() == before
    assert (out / "best.pt").exists() == (name == "last.pt")
    resumed = train(config, resume=True)
    assert load_checkpoint(resumed.last).weights_sha256 == load_checkpoint(whole.last).weights_sha256
    assert [h.loss for h in resumed.history] == [h.loss for h in whole.history]


def test_a_full_disk_of_another_file_is_named_too(train_config: TrainConfig) -> None:
    with (
        largest_file(0),
        pytest.raises(CheckpointError, match=r"run/config\.json: cannot be written: .*File too large"),
    ):
        train(train_config)


@pytest.mark.slow
def test_kill_9_in_the_midst_of_a_save_and_of_an_epoch(train_config: TrainConfig, tmp_path: Path) -> None:
    config = train_config.changed(save_every_minutes=0.0, ema=0.9)
    whole = train(config.changed(out=str(tmp_path / "whole")))
    out = Path(config.out)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for pattern, steps in ((".last.pt.*.part", 2), ("last.pt", 5)):
        command = [sys.executable, "-c", DIES, json.dumps(config.to_dict()), pattern, str(steps)]
        died = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
        assert died.returncode == -signal.SIGKILL, died.stderr
        if pattern.startswith("."):
            assert list(out.glob(pattern)), "killed while it wrote"
        state = load_checkpoint(out / "last.pt").training_state
        assert state is not None
        # A step may have been logged and not saved, never more than one.
        assert 0 <= len((out / "steps.jsonl").read_bytes().split(b"\n")) - 1 - (state["epoch"] * 3 + state["step"]) <= 1
    resumed = train(config, resume=True)
    assert not list(out.glob(".*.part"))
    assert load_checkpoint(resumed.last).weights_sha256 == load_checkpoint(whole.last).weights_sha256
    assert [h.loss for h in resumed.history] == [h.loss for h in whole.history]
    assert [json.loads(line)["step"] for line in (out / "steps.jsonl").read_text().splitlines()] == list(range(1, 10))
