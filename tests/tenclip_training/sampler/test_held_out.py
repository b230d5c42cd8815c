from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.sampler.held_out import HeldOutVideo, action_recall, clips_by_salience, held_out_metrics

RIGHT, WRONG = [0.9, 0.1], [0.2, 0.8]


def video(teacher: list[list[float]], salience: list[float], **values: Any) -> HeldOutVideo:
    """Windows of one second, one after the other, of a video of class 0."""
    seconds = np.array([(i, i + 1) for i in range(len(teacher))], np.float64)
    return HeldOutVideo(
        name="v",
        label=0,
        seconds=seconds,
        teacher=np.array(teacher, np.float32),
        salience=np.array(salience, np.float32),
        **values,
    )


FOUND = video([WRONG, WRONG, RIGHT, WRONG, WRONG], [0, 1, 5, 2, 0], action=((2.0, 3.0),))
MISSED = video([WRONG, RIGHT, WRONG, WRONG], [1, 0, 3, 2], action=((1.0, 2.0),))


def test_figures_of_two_videos() -> None:
    found = held_out_metrics([FOUND, MISSED], [1, 10])
    assert found["videos"] == 2
    assert found["windows_per_video"] == 4.5
    assert found["top1_all"] == 0
    assert found["top1_salient_1"] == 0.5
    assert found["top1_uniform_1"] == 0
    assert found["top1_oracle_1"] == 1
    assert found["action_recall_salient_1"] == 0.5
    assert found["action_recall_uniform_1"] == 0
    assert found["longer_than_1"] == 2
    assert found["longer_than_10"] == 0
    assert found["top1_salient_10"] == found["top1_uniform_10"] == found["top1_oracle_10"] == found["top1_all"]
    assert found["action_recall_salient_10"] == 1
    # Of the one video the correlation is that of (0,1,5,2,0) with (0,0,1,0,0), of the other one it is negative.
    assert -0.8 < found["rank_correlation"] < 0.5


def test_motion_energy_is_compared_where_it_is_known_of_all() -> None:
    """It takes the right window of the one video, and a wrong one of the other."""
    moving = [
        dataclasses.replace(FOUND, motion_energy=np.array([0, 9, 1, 0, 0], np.float32)),
        dataclasses.replace(MISSED, motion_energy=np.array([0, 9, 1, 0], np.float32)),
    ]
    found = held_out_metrics(moving, [1])
    assert (found["top1_motion_1"], found["action_recall_motion_1"]) == (0.5, 0.5)
    assert found["top1_salient_1"] == held_out_metrics([FOUND, MISSED], [1])["top1_salient_1"]
    assert not [name for name in held_out_metrics([moving[0], MISSED], [1]) if "motion" in name]


def test_without_annotation_and_without_an_order() -> None:
    found = held_out_metrics([video([RIGHT, RIGHT], [0, 1])], [1])
    assert not [name for name in found if name.startswith("action")]
    assert "rank_correlation" not in found
    assert found["top1_salient_1"] == 1
    assert held_out_metrics([], [1]) == {"videos": 0.0}


def test_clips_come_in_order_of_salience() -> None:
    (clips,) = clips_by_salience([FOUND], 2)
    np.testing.assert_array_equal(clips, np.array([RIGHT, WRONG], np.float32))
    (flat,) = clips_by_salience([video([RIGHT, WRONG, WRONG], [1, 1, 1])], 2)
    np.testing.assert_array_equal(flat, np.array([RIGHT, WRONG], np.float32))


def test_an_action_without_an_end_lasts_as_long_as_windows_show_it() -> None:
    assert action_recall(np.array([[0.0, 1.0], [2.0, 3.0]]), [(0.5, np.inf)]) == pytest.approx(1.5 / 2.5)
    assert action_recall(np.zeros((0, 2)), [(0.5, 1.0)]) == 0


Spans = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8)), min_size=1, max_size=5)


@settings(deadline=None)
@given(Spans, Spans)
def test_recall_is_the_share_of_moments_of_the_action_that_are_shown(
    windows: list[tuple[int, int]], actions: list[tuple[int, int]]
) -> None:
    seconds = np.array([(a, a + n) for a, n in windows], np.float64)
    action = [(float(a), float(a + n)) for a, n in actions]
    moments = np.arange(0, 40) + 0.5
    acting = np.array([any(a <= t < b for a, b in action) for t in moments])
    shown = np.array([any(a <= t < b for a, b in seconds) for t in moments])
    assert action_recall(seconds, action) == pytest.approx((acting & shown).sum() / acting.sum())
