from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tenclip_api.errors import CheckpointError, MissingDependency
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.monitor import StepRecord
from tenclip_training.runs.step_log import StepLog, TensorBoard
from tenclip_training.runs.train import train


def record(step: int) -> StepRecord:
    return StepRecord(
        epoch=1,
        step=step,
        loss=None if step == 2 else step / 10,
        learning_rate=0.1,
        gradient_norm=1.5,
        clips=4,
        clips_per_second=8.0,
        data_wait_share=0.25,
    )


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def write(path: Path, steps: range, *, steps_done: int) -> None:
    log = StepLog(path, steps_done=steps_done)
    log.write([record(s) for s in steps])
    log.close()


def test_each_step_has_one_line_also_in_a_run_that_was_resumed(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    write(path, range(1, 6), steps_done=0)
    assert steps_in(path) == [1, 2, 3, 4, 5]
    with path.open("a") as file:
        file.write('{"epoch": 1, "step": 6, "lo')  # killed while it wrote
    write(path, range(4, 7), steps_done=3)
    assert steps_in(path) == [1, 2, 3, 4, 5, 6]
    assert json.loads(path.read_text().splitlines()[1]) == {
        "epoch": 1, "step": 2, "loss": None, "learning_rate": 0.1, "gradient_norm": 1.5, "clips": 4,
        "clips_per_second": 8.0, "data_wait_share": 0.25,
    }  # fmt: skip
    write(path, range(1, 3), steps_done=0)
    assert steps_in(path) == [1, 2], "a run that begins anew has nothing before"


def test_lines_of_something_else_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1}\nnothing\n[]\n{"step": "2"}\n{"step": 2}\n{"step": 9}\n{"step": 3}')
    write(path, range(0), steps_done=3)
    assert steps_in(path) == [1, 2], "the last line has no end"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl", steps_done=0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"steps\.jsonl: cannot be written: .*File too large"):
            log.write([record(1)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.close()


# -- TensorBoard --


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(e.step, e.value) for e in events.Scalars(name)]


def test_tensorboard_has_the_numbers_of_steps_and_epochs(train_config: TrainConfig) -> None:
    config = train_config.changed(tensorboard=True)
    # Two steps more than were saved: the resumed run takes them again.
    train(config, stop_after_steps=4)
    board = TensorBoard(Path(config.out) / "tensorboard", steps_done=4)
    board.write([record(5), record(6)])
    board.close()
    result = train(config, resume=True)
    folder, rows = result.out / "tensorboard", (result.out / "steps.jsonl").read_text().splitlines()
    losses = [(r["step"], r["loss"]) for r in map(json.loads, rows)]
    assert len(losses) == 9
    shown = scalars(folder, "train/loss")
    assert [step for step, _ in shown] == [step for step, _ in losses], "no step twice"
    assert [loss for _, loss in shown] == pytest.approx([loss for _, loss in losses], rel=1e-6)
    assert [step for step, _ in scalars(folder, "epoch/loss")] == [3, 6, 9]
    assert scalars(folder, "epoch/loss")[-1][1] == pytest.approx(result.history[-1].loss, rel=1e-6)
    ((step, accuracy),) = scalars(folder, "val/video_top1")
    assert step == 9
    assert accuracy == pytest.approx(result.history[-1].val_video_top1)
    assert len(scalars(folder, "train/data_wait_share")) == 9


def test_without_the_extra_tensorboard_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependency, match=r"pip install 'tenclip\[tensorboard\]'"):
        TensorBoard(tmp_path, steps_done=0)
