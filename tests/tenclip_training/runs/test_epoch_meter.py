from __future__ import annotations

import math

import pytest
import torch

from tenclip_training.runs.distributed import World
from tenclip_training.runs.epoch_meter import EpochMeter


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value)


@pytest.fixture
def meter() -> EpochMeter:
    """Two batches: 4 clips of loss 1.0 with 3 right, 2 of loss 4.0 with none."""
    meter = EpochMeter(torch.device("cpu"))
    meter.add(scalar(1.0), scalar(3.0), 4)
    meter.add(scalar(4.0), scalar(0.0), 2)
    return meter


def test_clips_weigh_equally_whatever_their_batch(meter: EpochMeter) -> None:
    assert meter.mean_loss() == 2.0
    assert meter.sums(World()) == (12.0, 3.0, 6)


def test_without_clips_the_loss_is_not_a_number() -> None:
    assert math.isnan(EpochMeter(torch.device("cpu")).mean_loss())


def test_a_resumed_epoch_goes_on_where_it_was(meter: EpochMeter) -> None:
    state = meter.state_dict()
    again = EpochMeter(torch.device("cpu"))
    again.load_state_dict(state, World())
    assert again.sums(World()) == (12.0, 3.0, 6)
    assert again.seconds() >= state["seconds"] > 0


def test_sums_of_a_checkpoint_count_once_among_several_processes(meter: EpochMeter) -> None:
    other = EpochMeter(torch.device("cpu"))
    other.load_state_dict(meter.state_dict(), World(rank=1, size=2))
    assert math.isnan(other.mean_loss())


def test_the_next_epoch_begins_at_nothing(meter: EpochMeter) -> None:
    meter.seconds()
    meter.reset()
    assert math.isnan(meter.mean_loss())
    assert meter.state_dict()["totals"].tolist() == [0, 0, 0]


def test_a_state_of_something_else_is_refused(meter: EpochMeter) -> None:
    with pytest.raises(KeyError):
        meter.load_state_dict({"seconds": 1.0}, World())
