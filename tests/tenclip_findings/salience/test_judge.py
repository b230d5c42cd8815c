from __future__ import annotations

import numpy as np
import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_findings.salience.judge import CALIBRATION_SET, Judge
from tenclip_findings.salience.scoring import Salience, ScoredSet

from .made_up import scored_set, scored_video

SETS = (CALIBRATION_SET, "test")
CLIP, WINDOW = 2_000_000_000, 10_000_000
NAME = "compressed, rank"


def made_set(num_videos: int, *, salient_right: float, seed: int) -> ScoredSet:
    """Videos of 20 windows: the last says the true class, 0, in so many of them; the others say class 1, unsurely."""
    rng = np.random.default_rng(seed)
    videos = []
    for _ in range(num_videos):
        other = [0.45, 0.55]
        last = [0.99, 0.01] if rng.random() < salient_right else [0.4, 0.6]
        videos.append(scored_video([*[other] * 19, last], interval=(9.5, 10.5)))
    return scored_set(*videos)


def judge(*, num_videos: int = 100, salient_right: float = 1.0, error_bounds: tuple[float, ...] = (0.05, 0.5)) -> Judge:
    scored = {name: made_set(num_videos, salient_right=salient_right, seed=i) for i, name in enumerate(SETS)}
    last_first = np.arange(20, dtype=np.float32)
    salience = {NAME: {n: Salience(scores=tuple(last_first for _ in s.videos)) for n, s in scored.items()}}
    return Judge(scored=scored, salience=salience, clip_macs=CLIP, macs={NAME: WINDOW}, error_bounds=error_bounds)


def test_arms_have_their_accuracy_and_their_cost() -> None:
    made = judge()
    found = made.judge("test", made.rules())
    assert found.arm("uniform", num_clips=10).top1 == found.arm("dense").top1 == 0.0
    assert found.arm("dense").gflops == pytest.approx(20 * 2.0)
    one = found.arm("salient", NAME, 1)
    assert (one.top1, one.windows_with_action) == (1.0, 1.0)
    assert one.gflops == pytest.approx(2.0 + 20 * 0.01)
    assert one.scoring_gflops == pytest.approx(0.2)
    assert found.arm("oracle: overlap", num_clips=1).top1 == 1.0
    assert found.arm("oracle: overlap", num_clips=1).scoring_gflops == 0.0
    assert (found.windows, found.videos, found.seconds) == (20.0, 100, 10.5)


def test_a_rule_is_calibrated_on_its_set_and_counted_on_all() -> None:
    made = judge()
    rules = made.rules()
    assert {bound: rule.error_bound for bound, rule in rules[NAME].items()} == {0.05: 0.05, 0.5: 0.5}
    assert rules[NAME][0.05].num_videos == 100
    found = made.stopping(NAME, rules[NAME][0.05])
    early = made.judge("test", rules).arm("adaptive", NAME, error_bound=0.05)
    # All ten clips say class 1 or 0 as the sure one is outvoted or not; stopping at once says 0.
    whole = made.judge("test", rules).arm("salient", NAME, 10)
    expected = int((early.right != whole.right).sum())
    assert found.different["test"] == (expected, 100)
    assert found.different[CALIBRATION_SET][0] / 100 <= found.error_bound == 0.05


def test_too_few_videos_make_no_rule() -> None:
    with pytest.raises(InvalidRequest, match="20 held-out videos are too few"):
        judge(num_videos=20).rules()


def test_a_temperature_is_fitted_or_refused() -> None:
    made = judge()
    # Ten uniform clips say class 1 with 0.55 and are always wrong: a higher temperature says 0.5 and is less wrong.
    found = made.temperature()
    before, after = found.ece["test"]
    assert found.temperature > 1
    assert after < before
    assert (found.refused, found.videos) == ("", 50)
    few = judge(num_videos=10).temperature()
    assert "10 held-out videos are too few" in few.refused
    assert few.temperature == 1.0
    assert few.ece["test"][0] == pytest.approx(few.ece["test"][1])
