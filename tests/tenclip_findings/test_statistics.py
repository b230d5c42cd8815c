from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_findings.statistics import Spread, check_bound, compare


def arms(num_videos: int, before: float, after: float, *, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(after, before): which videos are right, with the given accuracies."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(num_videos)  # the same videos are hard in both
    return difficulty < after, difficulty < before


def test_a_clear_gain_is_shown_and_swapped_arms_flip_the_verdict() -> None:
    pairs = [arms(200, 0.5, 0.75, seed=s) for s in range(3)]
    found = compare(pairs)
    assert found.verdict == "shown"
    assert found.excludes_a_loss
    assert 0 < found.mean.low < found.mean.mean < found.mean.high
    assert found.mean.num_videos == 600
    swapped = compare([(before, after) for after, before in pairs])
    assert swapped.verdict == "the opposite is shown"
    assert not swapped.excludes_a_loss
    assert not swapped.shows_no_loss
    assert swapped.mean.mean == pytest.approx(-found.mean.mean)


def test_identical_arms_show_nothing() -> None:
    same = [(a, a) for a, _ in (arms(100, 0.5, 0.5, seed=s) for s in range(3))]
    found = compare(same)
    assert (found.verdict, found.mean.low, found.mean.high) == ("not shown", 0.0, 0.0)
    assert found.excludes_a_loss, "no video differs, so neither is worse"


def test_a_seed_that_disagrees_shows_nothing_whatever_the_mean() -> None:
    pairs = [arms(400, 0.60, 0.55, seed=4), *(arms(400, 0.3, 0.8, seed=s) for s in range(4))]
    found = compare(pairs)
    assert found.mean.low > 0
    assert found.seeds[0].mean < 0
    assert found.verdict == "not shown"
    assert not found.excludes_a_loss


def test_a_difference_within_noise_is_not_shown() -> None:
    right = np.array([1] * 10 + [0] * 10)
    one_more = right.copy()
    one_more[-1] = 1
    found = compare([(one_more, right)])
    assert found.mean.mean == pytest.approx(0.05)
    assert found.verdict == "not shown"
    assert found.shows_no_loss


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.integers(0, 99))
def test_the_interval_holds_the_mean_and_mirrors_with_the_arms(videos: list[tuple[bool, bool]], seed: int) -> None:
    after, before = (np.array(column) for column in zip(*videos, strict=True))
    found, swapped = (compare([pair], seed=seed, draws=200) for pair in ((after, before), (before, after)))
    assert found.mean == found.seeds[0]
    assert -1 <= found.mean.low <= found.mean.high <= 1
    assert (found.mean.low, found.mean.high) == pytest.approx((-swapped.mean.high, -swapped.mean.low), abs=1e-9)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    after, before = arms(400, 0.4, 0.6, seed=5)
    difference = after.astype(float) - before
    expected = 1.96 * difference.std() / 20
    found = compare([(after, before)]).mean
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)


def test_the_interval_covers_the_spread_of_the_seeds() -> None:
    alike = compare([arms(2000, 0.4, 0.5, seed=s) for s in range(5)]).mean
    apart = compare([arms(2000, 0.4, 0.4 + gain, seed=s) for s, gain in enumerate((0.0, 0.05, 0.1, 0.15, 0.2))]).mean
    assert apart.mean == pytest.approx(alike.mean, abs=0.02)
    assert apart.high - apart.low > 2 * (alike.high - alike.low)


def test_students_interval_holds_the_mean_of_five_seeds_as_often_as_it_says() -> None:
    """Where a bootstrap of five seeds holds it too rarely."""
    rng = np.random.default_rng(1)
    held = {"bootstrap": 0, "student": 0}
    for run in range(300):
        seeds = [
            (0.05 + 0.05 * rng.standard_normal() + 0.1 * rng.standard_normal(200), np.zeros(200)) for _ in range(5)
        ]
        for over_seeds in ("bootstrap", "student"):
            mean = compare(seeds, seed=run, draws=200, over_seeds=over_seeds).mean
            held[over_seeds] += mean.low <= 0.05 <= mean.high
    assert held["student"] / 300 == pytest.approx(0.95, abs=0.03)
    assert held["bootstrap"] / 300 < 0.9


def test_students_interval_is_that_of_the_textbook_and_never_less_than_that_of_the_videos() -> None:
    means = [0.1, 0.2, 0.3, 0.4, 0.5]
    found = compare([(np.full(50, m), np.zeros(50)) for m in means], over_seeds="student").mean
    half = 2.7764451 * np.std(means, ddof=1) / np.sqrt(5)
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half))
    pair = arms(400, 0.4, 0.6, seed=5)
    alike = compare([pair] * 5, over_seeds="student").mean
    video = (pair[0].astype(float) - pair[1]).std() / 20
    assert (alike.high - alike.low) / 2 == pytest.approx(2.7764451 * video / np.sqrt(5), rel=0.1)
    alone = compare([pair], over_seeds="student")
    assert alone.mean == alone.seeds[0]


def test_arms_of_other_videos_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(3,\) and \(2,\)"):
        compare([([1, 0, 1], [1, 0])])
    with pytest.raises(ValueError, match="no seeds"):
        compare([])
    with pytest.raises(ValueError, match="same videos"):
        compare([([], [])])


def test_a_spread_over_seeds() -> None:
    spread = Spread.of([0.5, 0.6, 0.7])
    assert (spread.mean, spread.low, spread.high) == pytest.approx((0.6, 0.5, 0.7))
    assert spread.deviation == pytest.approx(0.1)
    assert Spread.of([0.5]).deviation == 0.0
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


@pytest.mark.parametrize(
    ("different", "verdict"),
    [(0, "holds"), (5, "holds"), (7, "within chance"), (30, "does not hold")],
)
def test_a_bound_against_what_was_observed(different: int, verdict: str) -> None:
    check = check_bound(0.05, different, 100)
    assert check.verdict == verdict
    assert check.low <= check.observed <= check.high


def test_a_bound_needs_videos() -> None:
    with pytest.raises(ValueError, match="2 of 1"):
        check_bound(0.05, 2, 1)
    with pytest.raises(ValueError, match="0 of 0"):
        check_bound(0.05, 0, 0)
