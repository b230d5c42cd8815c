from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
import torch

from tenclip_training.runs.distributed import World
from tenclip_training.runs.monitor import Monitor, StepNumbers


def numbers(loss: float, clips: int, *, correct: float = 1.0, norm: float | None = 2.0) -> StepNumbers:
    """A step whose clips have `loss` each."""
    return StepNumbers(
        loss=torch.tensor(loss * clips, dtype=torch.float64),
        correct=torch.tensor(correct),
        gradient_norm=None if norm is None else torch.tensor(norm),
        clips=clips,
    )


@pytest.fixture
def monitor() -> Monitor:
    return Monitor(World(), torch.device("cpu"))


def test_time_spent_on_waiting_for_clips_is_told_from_that_of_steps(monitor: Monitor) -> None:
    def slow_loader() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.03)
            yield i

    records = []
    for i in monitor.timed(slow_loader()):
        time.sleep(0.01)
        monitor.add(1, i + 1, 0.1, numbers(1.5, 4))
        monitor.end_step()
        assert monitor.is_full, "on a CPU each step is read"
        records += [r.record for r in monitor.read()]
        time.sleep(0.05)  # validation, a save: not the step's time
        assert 0.03 <= monitor.wait_seconds < monitor.step_seconds
    assert [r.step for r in records] == [1, 2, 3]
    assert all(r.loss == 1.5 and r.clips == 4 and r.gradient_norm == 2.0 for r in records)
    # 40 ms of which 30 are waiting; another process may take time from either.
    shares = sorted(r.data_wait_share for r in records)
    assert shares[-1] > 0.5
    assert all(r.clips_per_second <= 4 / 0.04 for r in records)
    pace = monitor.seconds_per_step
    assert pace is not None
    assert pace >= 0.04


def test_steps_are_read_in_blocks_and_each_has_its_own_numbers(monitor: Monitor) -> None:
    monitor.block = 3
    for i, _ in enumerate(monitor.timed(range(3)), start=1):
        monitor.add(1, i, 0.1 * i, numbers(float(i), i))
        monitor.end_step()
        assert monitor.is_full == (i == 3)
    steps = monitor.read()
    assert [(s.record.step, s.record.loss, s.record.clips, s.loss, s.own_loss) for s in steps] == [
        (1, 1.0, 1, 1.0, 1.0),
        (2, 2.0, 2, 4.0, 2.0),
        (3, 3.0, 3, 9.0, 3.0),
    ]
    assert len({s.record.clips_per_second for s in steps}) == 1
    assert all(s.finite for s in steps)
    assert monitor.read() == []


@pytest.mark.parametrize(
    ("step", "loss", "norm"),
    [
        (numbers(math.nan, 2), None, 2.0),
        (numbers(math.inf, 2), None, 2.0),
        (numbers(1.0, 2, norm=math.nan), 1.0, None),
        (numbers(1.0, 2, norm=math.inf), 1.0, None),
    ],
)
def test_what_is_not_finite_is_noticed(
    monitor: Monitor, step: StepNumbers, loss: float | None, norm: float | None
) -> None:
    monitor.add(2, 7, 0.1, step)
    (read,) = monitor.read()
    assert not read.finite
    assert (read.record.loss, read.record.gradient_norm) == (loss, norm), "JSON has no NaN"


def test_steps_that_were_not_taken(monitor: Monitor) -> None:
    monitor.add(1, 1, 0.1, None)  # no video of the batch could be read
    monitor.add(1, 2, 0.1, numbers(1.0, 2, norm=None))  # float16's loss scaling left it out
    passed, left_out = monitor.read()
    assert passed.finite
    assert left_out.finite
    assert (passed.record.loss, passed.record.clips, passed.record.gradient_norm) == (None, 0, None)
    assert (left_out.record.loss, left_out.record.clips, left_out.record.gradient_norm) == (1.0, 2, None)
