"""Verdicts follow from the arms: swapped arms flip them, identical arms show nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_findings.finding import DETECTABLE_POINTS, Contrast, Expected, contrast_of, difference, slope

Arms = dict[str, NDArray[np.bool_]]


def seeds(better: float, worse: float, *, count: int = 5, videos: int = 800) -> list[Arms]:
    """Two arms of these accuracies on the same videos."""
    found = []
    for seed in range(count):
        luck = np.random.default_rng(seed).random(videos)
        found.append({"better": luck < better, "worse": luck < worse})
    return found


def test_swapped_arms_flip_the_verdict() -> None:
    arms = seeds(0.6, 0.5)
    forward = contrast_of(Contrast(name="f", weights=difference("better", "worse")), arms)
    backward = contrast_of(Contrast(name="b", weights=difference("worse", "better")), arms)
    assert forward.verdict == "shown"
    assert backward.verdict == "the opposite is shown"
    assert forward.comparison.mean.mean == pytest.approx(10, abs=1.5)
    expected_down = Contrast(name="d", weights=difference("worse", "better"), expected="negative")
    assert contrast_of(expected_down, arms).verdict == "shown"


def test_identical_arms_show_nothing() -> None:
    arms = seeds(0.5, 0.5)
    result = contrast_of(Contrast(name="same", weights=difference("better", "worse")), arms)
    assert result.verdict == "not shown"
    assert result.comparison.mean.mean == 0


def test_one_seed_that_disagrees_is_enough_for_not_shown() -> None:
    arms = seeds(0.7, 0.5)
    arms[2] = {"better": arms[2]["worse"], "worse": arms[2]["better"]}
    assert contrast_of(Contrast(name="x", weights=difference("better", "worse")), arms).verdict == "not shown"


def test_no_effect_is_shown_where_the_interval_is_within_what_can_be_detected() -> None:
    equal = Contrast(name="equal", weights=difference("better", "worse"), expected="none")
    assert contrast_of(equal, seeds(0.5, 0.5)).verdict == "shown"
    assert contrast_of(equal, seeds(0.5 + DETECTABLE_POINTS / 100, 0.5)).verdict == "not shown"


@pytest.mark.parametrize(
    ("expected", "gain", "same", "loss"),
    [
        ("none", "the opposite is shown", "shown", "the opposite is shown"),
        ("no gain", "the opposite is shown", "shown", "shown"),
        ("no loss", "shown", "shown", "the opposite is shown"),
    ],
)
def test_no_effect_no_gain_and_no_loss_have_opposites(expected: Expected, gain: str, same: str, loss: str) -> None:
    found = Contrast(name="x", weights=difference("better", "worse"), expected=expected)
    back = Contrast(name="y", weights=difference("worse", "better"), expected=expected)
    apart = seeds(0.5 + 5 * DETECTABLE_POINTS / 100, 0.5)
    assert contrast_of(found, apart).verdict == gain
    assert contrast_of(found, seeds(0.5, 0.5)).verdict == same
    assert contrast_of(back, apart).verdict == loss


def test_a_slope_is_points_a_unit() -> None:
    truth = {"100": 0.40, "1000": 0.45, "10000": 0.50}
    luck = np.random.default_rng(0).random(20_000)
    arms = {name: luck < accuracy for name, accuracy in truth.items()}
    weights = slope({"100": 2.0, "1000": 3.0, "10000": 4.0})
    assert contrast_of(Contrast(name="s", weights=weights), [arms]).comparison.mean.mean == pytest.approx(5, abs=0.7)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6, unique=True))
def test_the_slope_of_a_straight_line_is_its_own(xs: list[float]) -> None:
    points = {str(i): x for i, x in enumerate(xs)}
    if np.ptp(xs) < 1e-3:
        return
    weights = slope(points)
    assert sum(weights[n] * (3 * x + 7) for n, x in points.items()) == pytest.approx(3)


def test_an_arm_that_is_not_there_and_arms_of_other_videos_are_errors() -> None:
    arms = seeds(0.6, 0.5, count=1)
    with pytest.raises(KeyError):
        contrast_of(Contrast(name="x", weights=difference("better", "best")), arms)
    arms[0]["worse"] = arms[0]["worse"][:-1]
    with pytest.raises(ValueError, match=r"could not be broadcast|inhomogeneous"):
        contrast_of(Contrast(name="x", weights=difference("better", "worse")), arms)
