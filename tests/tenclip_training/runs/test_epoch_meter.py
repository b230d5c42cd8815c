from __future__ import annotations

import json
import math

import pytest

from tenclip_training.runs.epoch_meter import EpochMeter


@pytest.fixture
def meter() -> EpochMeter:
    """Two steps: 4 clips of loss 1.0 with 3 right, 2 of loss 4.0 with none; 3 s, of which 1 s went on waiting."""
    meter = EpochMeter()
    meter.start_clock()
    meter.add(loss=4.0, correct=3.0, clips=4)
    meter.add(loss=8.0, correct=0.0, clips=2)
    meter.add_time(step_seconds=2.0, wait_seconds=0.75)
    meter.add_time(step_seconds=1.0, wait_seconds=0.25)
    return meter


def test_clips_weigh_equally_whatever_their_batch(meter: EpochMeter) -> None:
    assert meter.mean_loss == 2.0
    assert (meter.loss, meter.correct, meter.clips) == (12.0, 3.0, 6)
    assert meter.clips_per_second == 2.0
    assert meter.data_wait_share == pytest.approx(1 / 3)


def test_without_clips_the_loss_is_not_a_number() -> None:
    assert math.isnan(EpochMeter().mean_loss)
    assert (EpochMeter().clips_per_second, EpochMeter().data_wait_share) == (0.0, 0.0)


def test_a_resumed_epoch_goes_on_where_it_was(meter: EpochMeter) -> None:
    state = json.loads(json.dumps(meter.state_dict()))
    again = EpochMeter()
    again.start_clock()
    again.load_state_dict(state)
    assert (again.loss, again.correct, again.clips, again.clips_per_second) == (12.0, 3.0, 6, 2.0)
    seconds = again.seconds()
    assert 60 > seconds >= state["meter"]["_seconds"] > 0, "the time between the two parts does not count"


def test_the_next_epoch_begins_at_nothing(meter: EpochMeter) -> None:
    first = meter.seconds()
    meter.reset()
    assert math.isnan(meter.mean_loss)
    assert (meter.clips, meter.step_seconds, meter.wait_seconds) == (0, 0.0, 0.0)
    assert meter.seconds() < first + 60


def test_a_state_of_something_else_is_refused() -> None:
    with pytest.raises(KeyError):
        EpochMeter().load_state_dict({"seconds": 1.0})
    with pytest.raises(TypeError):
        EpochMeter().load_state_dict({"meter": {"wings": 1.0}})
