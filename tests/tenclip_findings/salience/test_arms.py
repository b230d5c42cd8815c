from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tenclip_findings.salience import arms
from tenclip_findings.salience.scoring import Salience, ScoredSet
from tenclip_video.salience import StoppingRule

from .made_up import scored_set, scored_video

SURE, UNSURE, WRONG = [0.9, 0.1], [0.55, 0.45], [0.2, 0.8]


def rule(threshold: float, *, max_clips: int = 3) -> StoppingRule:
    return StoppingRule(
        threshold=threshold,
        max_clips=max_clips,
        error_bound=0.05,
        confidence=0.95,
        num_videos=100,
        num_different=0,
        mean_clips=1.0,
    )


def test_an_arm_predicts_the_class_of_the_highest_mean() -> None:
    scored = scored_set(scored_video([WRONG, WRONG, SURE]), scored_video([SURE, UNSURE, UNSURE]))
    orders = arms.salience_orders(Salience(scores=(np.array([0, 1, 9.0]), np.array([3, 2, 1.0]))), 2)
    assert [o.tolist() for o in orders] == [[2, 1], [0, 1]]
    truth = arms.truth_of(scored)
    assert arms.dense(scored).correct(truth).tolist() == [False, True]
    one = arms.salient(scored, orders, 1)
    assert one.correct(truth).tolist() == [True, True]
    assert one.clips.tolist() == [1, 1]
    assert arms.salient(scored, orders, 2).probabilities[0] == pytest.approx([0.55, 0.45])
    assert arms.uniform(scored, 10).clips.tolist() == [10, 10]


def test_a_video_of_fewer_windows_gives_fewer_clips() -> None:
    scored = scored_set(scored_video([SURE, UNSURE]))
    orders = arms.salience_orders(Salience(scores=(np.array([0.0, 1.0]),)), 10)
    assert arms.salient(scored, orders, 10).clips.tolist() == [2]


def test_adaptive_prediction_stops_when_the_running_scores_are_settled() -> None:
    scored = scored_set(
        scored_video([SURE, WRONG, WRONG]),  # settled at once
        scored_video([UNSURE, SURE, WRONG]),  # 0.1 ahead, then 0.45
        scored_video([UNSURE, UNSURE, UNSURE, SURE]),  # never, but three clips are all
    )
    orders = [np.arange(len(v.windows)) for v in scored.videos]
    found = arms.adaptive(scored, orders, rule(0.4))
    assert found.clips.tolist() == [1, 2, 3]
    assert arms.adaptive(scored, orders, rule(0.0)).clips.tolist() == [1, 1, 1]
    assert arms.adaptive(scored, [o[:2] for o in orders], rule(1.01)).clips.tolist() == [2, 2, 2]
    assert found.predicted.tolist() == [0, 0, 0]


def test_the_oracle_of_the_interval_takes_the_windows_of_the_action_first() -> None:
    video = scored_video([WRONG] * 6, interval=(1.0, 2.0))  # windows begin at 0, 0.5, 1 ...
    scored = scored_set(video)
    (order,) = arms.overlap_orders(scored)
    assert order.tolist() == [2, 1, 3, 0, 4, 5]
    assert arms.windows_with_action(scored, [order], 1) == 1.0
    assert arms.windows_with_action(scored, [order], 3) == 1.0, "half of a window counts"
    assert arms.windows_with_action(scored, [order], 6) == 0.5


def test_a_trimmed_video_is_all_action() -> None:
    scored = scored_set(scored_video([WRONG] * 4))
    assert arms.overlap_orders(scored)[0].tolist() == [0, 1, 2, 3]
    assert arms.windows_with_action(scored, arms.overlap_orders(scored), 4) == 1.0


def test_the_oracle_of_scores_knows_the_class() -> None:
    scored = scored_set(scored_video([WRONG, SURE, UNSURE]), scored_video([WRONG, SURE, UNSURE], label=1))
    assert [o.tolist() for o in arms.true_score_orders(scored)] == [[1, 2, 0], [0, 2, 1]]


def test_scores_come_back_from_their_file(tmp_path: Path) -> None:
    scored = scored_set(scored_video([SURE, WRONG], interval=(0.25, 0.5)), scored_video([UNSURE], label=1))
    scored.save(tmp_path / "scores.npz")
    again = ScoredSet.load(tmp_path / "scores.npz")
    assert [v.interval for v in again.videos] == [(0.25, 0.5), None]
    assert [v.label for v in again.videos] == [0, 1]
    for before, after in zip(scored.videos, again.videos, strict=True):
        assert np.array_equal(before.windows, after.windows)
        assert np.array_equal(before.seconds, after.seconds)
        assert {n: v.tolist() for n, v in before.uniform.items()} == {n: v.tolist() for n, v in after.uniform.items()}
    salience = Salience(scores=(np.array([1, 2], np.float32), np.array([3], np.float32)))
    salience.save(tmp_path / "salience.npz")
    loaded = Salience.load(tmp_path / "salience.npz")
    assert [s.tolist() for s in loaded.scores] == [[1, 2], [3]]
