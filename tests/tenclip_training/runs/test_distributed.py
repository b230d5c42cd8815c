from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World, join_world

TRAIN = """
import json, sys, warnings
import torch
torch.set_num_threads(1)
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train

config = TrainConfig.from_dict(json.loads(sys.argv[1]))
for steps in (2, None):
    result = train(config, resume=True, stop_after_steps=steps)
print(result.completed)
"""


def test_alone_everything_is_a_no_op() -> None:
    world = join_world("cpu")
    assert world == World()
    assert world.is_first
    assert world.sum(torch.tensor([1.0, 2.0])).tolist() == [1, 2]
    assert world.all_true(True, torch.device("cpu"))
    assert not world.all_true(False, torch.device("cpu"))
    assert world.gather([1, 2]) == [1, 2]
    model = torch.nn.Linear(1, 1)
    assert world.wrap(model, torch.device("cpu")) is model
    world.wait()
    world.share_buffers(model)
    assert World().device("cpu") == torch.device("cpu")


@pytest.mark.slow
def test_two_processes_train_one_model_and_resume(train_config: TrainConfig) -> None:
    config = train_config.changed(epochs=2, val_every=2, batch_size=3)
    script = Path(config.out).parent / "script.py"
    script.write_text(TRAIN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(script), json.dumps(config.to_dict())],
        capture_output=True,
        text=True,
        timeout=250,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "UserWarning" not in done.stderr
    assert done.stdout.split() == ["True", "True"]
    history = [json.loads(line) for line in (Path(config.out) / "history.jsonl").read_text().splitlines()]
    # Both halves of the 12 training videos and of the 4 test videos are counted.
    assert [h["train_clips"] for h in history] == [12, 12]
    assert (history[-1]["val_videos_asked"], history[-1]["val_videos_decoded"]) == (4, 4)
    checkpoint = load_checkpoint(Path(config.out) / "last.pt")
    assert checkpoint.training_state is not None
    assert checkpoint.training_state["world_size"] == 2
