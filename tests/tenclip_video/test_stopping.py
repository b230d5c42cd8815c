"""The rule by which adaptive prediction stops, and the promise that its calibration makes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_video.aggregate import RunningAverage
from tenclip_video.salience.stopping import (
    THRESHOLDS,
    StoppingRule,
    calibrate_stopping,
    clopper_pearson_upper,
    videos_needed,
)

SURE = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1]], np.float32)
TURNS = np.array([[0.6, 0.4], [0.1, 0.9], [0.1, 0.9]], np.float32)


def rule(threshold: float = 0.5, *, min_clips: int = 1, max_clips: int = 10) -> StoppingRule:
    return StoppingRule(
        threshold=threshold,
        min_clips=min_clips,
        max_clips=max_clips,
        error_bound=0.05,
        confidence=0.95,
        num_videos=100,
        num_different=0,
        mean_clips=2.0,
    )


def noisy_videos(
    rng: np.random.Generator, count: int, *, clips: int = 10, classes: int = 3
) -> list[NDArray[np.float32]]:
    """Videos of unequal difficulty, whose clips agree more or less."""
    strength = rng.uniform(0, 3, (count, 1, 1))
    logits = rng.normal(0, 1.5, (count, clips, 3))
    logits[..., :1] += strength
    scores = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return list(scores.astype(np.float32))


def stops_after(found: StoppingRule, video: NDArray[np.float32]) -> tuple[int, int, int]:
    """(clips that were run, class then, class after all of them), one clip after another as a server runs them."""
    average = RunningAverage("probabilities")
    stopped: tuple[int, int] | None = None
    running = video[0]
    for n, clip in enumerate(video[: found.max_clips], start=1):
        running = average.add(clip)
        if stopped is None and (found.settled(running, n) or n == len(video)):
            stopped = n, int(running.argmax())
    assert stopped is not None
    return (*stopped, int(running.argmax()))


def test_settled() -> None:
    scores = np.array([0.2, 0.7, 0.1], np.float32)
    assert rule(0.5).settled(scores, 1)
    assert not rule(0.51).settled(scores, 1)
    assert not rule(0.5, min_clips=2).settled(scores, 1)
    assert rule(1.0).settled(scores, 10), "all clips are done"
    assert rule(1.0).settled(scores[:1], 1), "there is one class"


def test_the_loosest_threshold_is_taken_where_nothing_ever_differs() -> None:
    found = calibrate_stopping([SURE] * 60)
    assert found == StoppingRule(
        threshold=0.0,
        max_clips=10,
        error_bound=0.05,
        confidence=0.95,
        num_videos=60,
        num_different=0,
        mean_clips=1.0,
        is_curtailed=True,
    )


def test_videos_whose_class_turns_late_keep_the_threshold_above_their_margin() -> None:
    """A tenth of 200 videos lead by 0.2 after the first clip and turn: no threshold up to 0.2 can hold 5%."""
    found = calibrate_stopping([SURE] * 180 + [TURNS] * 20)
    assert found.threshold == pytest.approx(0.21)
    assert found.num_different == 0
    assert found.mean_clips == pytest.approx((180 * 1 + 20 * 2) / 200)
    allowed = calibrate_stopping([SURE] * 180 + [TURNS] * 20, error_bound=0.2)
    assert allowed.threshold == 0.0
    assert allowed.num_different == 20


def test_clips_beyond_the_last_that_counts_are_not_looked_at() -> None:
    turns_at_the_end = np.concatenate([SURE, np.tile(np.array([[0, 1]], np.float32), (30, 1))])
    assert calibrate_stopping([turns_at_the_end] * 60, max_clips=3).num_different == 0
    with pytest.raises(ValueError, match=r"\[N,K\], got \(0, 2\)"):
        calibrate_stopping([SURE[:0]] * 60)


def test_min_clips() -> None:
    found = calibrate_stopping([SURE] * 60, min_clips=2)
    assert found.mean_clips == 2
    assert found.min_clips == 2
    short = calibrate_stopping([SURE[:1]] * 60, min_clips=2)
    assert short.mean_clips == 1, "a video of one clip has no more"


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.2, 6))
def test_a_lead_that_cannot_be_lost_ends_it_and_changes_no_class(seed: int, max_clips: int, sharpness: float) -> None:
    """At the strictest threshold, at which a rule without this runs all clips."""
    videos = [
        v**sharpness / (v**sharpness).sum(axis=1, keepdims=True) for v in noisy_videos(np.random.default_rng(seed), 20)
    ]
    strictest = rule(THRESHOLDS[0], max_clips=max_clips)
    for video in videos:
        ran, then, last = stops_after(replace(strictest, is_curtailed=True), video)
        assert then == last
        assert ran <= stops_after(strictest, video)[0] == min(10, max_clips)


def test_a_sure_video_needs_half_of_its_clips_at_most_by_any_rule() -> None:
    sure = np.tile(np.array([[0.99, 0.01]], np.float32), (10, 1))
    assert stops_after(replace(rule(1.01), is_curtailed=True), sure)[0] == 6
    assert stops_after(rule(1.01), sure)[0] == 10
    by_logits = calibrate_stopping([sure] * 60, averaging="logits")
    assert not by_logits.is_curtailed, "one clip may outweigh all others in the mean of logits"


def test_averaging_of_logits_is_that_of_the_protocol() -> None:
    """One certain clip outweighs three doubtful ones in the mean of logits, and not in that of probabilities."""
    video = np.array([[0.3, 0.7], [0.3, 0.7], [0.3, 0.7], [0.999, 0.001]], np.float32)
    by_probability = calibrate_stopping([video] * 60, averaging="probabilities")
    by_logit = calibrate_stopping([video] * 60, averaging="logits")
    assert by_probability.num_different == 0
    assert by_probability.threshold == 0.0
    assert by_logit.threshold > 0.4


def test_too_few_videos_are_told_how_many_it_takes() -> None:
    with pytest.raises(InvalidRequest, match=r"58 held-out videos are too few .* 5\.0% .* at least 59 are needed"):
        calibrate_stopping([SURE] * 58)
    calibrate_stopping([SURE] * 59)
    with pytest.raises(InvalidRequest, match="0 held-out videos"):
        calibrate_stopping([])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"error_bound": 0.0}, "between 0 and 1"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"min_clips": 0}, "min_clips 0"),
        ({"min_clips": 5, "max_clips": 4}, r"min_clips 5 must lie within 1\.\.4"),
    ],
)
def test_bounds_that_are_none(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate_stopping([SURE] * 60, **values)  # type: ignore[arg-type]


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.99))
def test_so_many_videos_are_needed_and_no_fewer(bound: float, confidence: float) -> None:
    needed = videos_needed(bound, confidence)
    assert clopper_pearson_upper(0, needed, confidence) <= bound
    assert needed == 1 or clopper_pearson_upper(0, needed - 1, confidence) > bound * (1 - 1e-9)


@given(st.integers(1, 300), st.integers(0, 300), st.floats(0.5, 0.999))
def test_the_bound_is_the_share_at_which_so_few_are_unlikely(n: int, k: int, confidence: float) -> None:
    upper = clopper_pearson_upper(k, n, confidence)
    if k >= n:
        assert upper == 1
        return
    seen = math.fsum(math.comb(n, i) * upper**i * (1 - upper) ** (n - i) for i in range(k + 1))
    assert seen == pytest.approx(1 - confidence, rel=1e-6)
    assert upper > k / n


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.3]), st.integers(1, 12))
def test_the_figures_of_a_rule_are_those_of_running_it(seed: int, bound: float, max_clips: int) -> None:
    videos = noisy_videos(np.random.default_rng(seed), 60, clips=8)
    found = calibrate_stopping(videos, error_bound=bound, max_clips=max_clips)
    runs = [stops_after(found, v) for v in videos]
    assert found.num_different == sum(then != last for _, then, last in runs)
    assert found.mean_clips == pytest.approx(np.mean([n for n, _, _ in runs]))
    assert clopper_pearson_upper(found.num_different, 60, 0.95) <= bound
    assert found.threshold in THRESHOLDS


def differences(videos: list[NDArray[np.float32]]) -> dict[float, NDArray[np.bool_]]:
    """For each threshold, which of these videos (of equally many clips) end in another class."""
    running = np.cumsum(np.stack(videos), axis=1) / np.arange(1, len(videos[0]) + 1)[:, None]
    classes = running.argmax(axis=-1)
    ordered = np.sort(running, axis=-1)
    margins = ordered[..., -1] - ordered[..., -2]
    margins[:, -1] = np.inf
    rows = np.arange(len(videos))
    return {t: classes[rows, (margins >= t).argmax(axis=1)] != classes[:, -1] for t in THRESHOLDS}


def test_the_bound_holds_in_the_stated_share_of_draws() -> None:
    """At most a fifth of calibrations on 80 videos may choose a rule that breaks its bound on all videos.

    The loosest threshold whose share on the drawn videos is within the bound, which is what one would take without
    statistics, breaks it more often: the draws can tell the difference.
    """
    rng = np.random.default_rng(5)
    population = noisy_videos(rng, 3000)
    differs = differences(population)
    bound, confidence, draws = 0.1, 0.8, 100
    broken = naive_broken = 0
    for _ in range(draws):
        drawn = rng.integers(0, len(population), 80)
        found = calibrate_stopping([population[i] for i in drawn], error_bound=bound, confidence=confidence)
        broken += differs[found.threshold].mean() > bound
        naive = next(t for t in reversed(THRESHOLDS) if differs[t][drawn].mean() <= bound)
        naive_broken += differs[naive].mean() > bound
    assert broken <= (1 - confidence) * draws
    assert naive_broken > 1.5 * (1 - confidence) * draws
