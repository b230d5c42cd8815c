"""Worked examples of what is counted over the scores of videos."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, confusion_matrix, top_k_accuracy_score

from tenclip_data.manifest import Manifest
from tenclip_training.evaluation.counting import confused_pairs, rank, ranks_of, summarise
from tenclip_training.evaluation.results import Accuracy, EvaluationResult, VideoScore
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.heads import Heads


def score(index: int, video: list[float] | np.ndarray, targets: tuple[int, ...]) -> VideoScore:
    values = np.asarray(video, np.float32)
    return VideoScore(
        index=index, name=f"v{index}", targets=targets, clips=values[None], video=values, seconds=((0.0, 1.0),)
    )


def summed(scores: list[VideoScore], labels: str | list[str], scoring: Scoring | None = None) -> EvaluationResult:
    manifest = Manifest(source=Path("m.csv"), samples=(), labels=tuple(labels))
    return summarise(scores, manifest, split="test", protocol="ten-clip", scoring=scoring)


# -- mean average precision --

# The example of the methods: labels {a,c}, {b}, {a,b} and a video of class d, which has no column here.
SCORES = [[0.9, 0.2, 0.4, 0.0], [0.8, 0.6, 0.3, 0.0], [0.7, 0.9, 0.1, 0.0], [0.1, 0.4, 0.6, 0.0]]


def test_worked_example_of_mean_average_precision() -> None:
    """AP of a: hits at ranks 1 and 3: (1 + 2/3) / 2; of b 1; of c at rank 2: 1/2. Class d has no video: left out."""
    sets = [(0, 2), (1,), (0, 1), ()]
    result = summed([score(i, s, t) for i, (s, t) in enumerate(zip(SCORES, sets, strict=True))], "abcd", SIGMOID)
    np.testing.assert_allclose(result.average_precisions, [5 / 6, 1.0, 0.5, np.nan])
    mean = result.mean_average_precision
    assert mean.value == pytest.approx(0.7778, abs=5e-5)
    assert (mean.classes_counted, mean.classes_left_out, mean.rows) == (3, 1, 4)
    assert result.to_dict()["video_mAP"] == {
        "value": mean.value,
        "classes_counted": 3,
        "classes_left_out": 1,
        "rows": 4,
    }
    assert result.to_dict()["per_class"]["c"]["average_precision"] == pytest.approx(0.5)
    assert result.to_dict()["per_class"]["d"]["average_precision"] is None
    assert result.multi_label


def test_of_one_label_a_video_each_class_is_held_against_the_rest() -> None:
    """Softmax scores of two classes: of a .9 .6 .4 with truth a b a: hits at 1 and 3: 5/6; of b .6 .4 .1, rank 2."""
    result = summed([score(0, [0.9, 0.1], (0,)), score(1, [0.6, 0.4], (1,)), score(2, [0.4, 0.6], (0,))], "ab")
    np.testing.assert_allclose(result.average_precisions, [5 / 6, 1 / 2])
    assert not result.multi_label


SIGMOID = Scoring(activation="sigmoid")


@settings(deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 25), st.just(4)), elements=st.floats(0, 1, width=32)),
    st.integers(0, 2**32 - 1),
)
def test_against_scikit_learn(scores: np.ndarray, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(4, size=len(scores))
    result = summed([score(i, s, (int(t),)) for i, (s, t) in enumerate(zip(scores, labels, strict=True))], "abcd")
    present = sorted(set(labels.tolist()))
    expected = [average_precision_score(labels == k, scores[:, k]) for k in present]
    assert result.mean_average_precision.value == pytest.approx(np.mean(expected))
    assert result.mean_average_precision.classes_left_out == 4 - len(present)
    assert result.confusion == tuple(
        map(tuple, confusion_matrix(labels, scores.argmax(axis=1), labels=range(4)).tolist())
    )
    # scikit-learn prefers the last of equal scores, so ties are not compared.
    if all(len(set(row.tolist())) == 4 for row in scores):
        for k, found in ((1, result.video_top1), (3, None)):
            expected_hits = top_k_accuracy_score(labels, scores, k=k, labels=range(4), normalize=False)
            hits = sum(rank(row.astype(np.float64), int(t)) < k for row, t in zip(scores, labels, strict=True))
            assert hits == int(expected_hits)
            assert found is None or found == Accuracy(correct=hits, total=len(labels))


def test_the_loss_of_sigmoids_is_binary() -> None:
    """The methods' example: logits 0 and 2 of targets 1 and 0 give (.6931 + 2.1269) / 2."""
    result = summed([score(0, [0.5, 1 / (1 + math.exp(-2))], (0,))], "ab", SIGMOID)
    assert result.loss == pytest.approx(1.4100, abs=1e-4)
    assert result.activation == "sigmoid"
    assert result.calibration is not None
    assert result.calibration.of == "pairs"


# -- several heads --

HEADS = Heads.of(["verb:a", "verb:b", "verb:c", "noun:x", "noun:y", "noun:z"])
assert HEADS is not None
BOTH = [0.5, 0.3, 0.2, 0.6, 0.3, 0.1]  # the methods' example


def test_heads_are_right_together() -> None:
    assert HEADS is not None
    result = summed(
        [score(0, BOTH, (0, 3)), score(1, BOTH, (1, 3)), score(2, BOTH, (0, 5))],
        list(HEADS.labels),
        Scoring(heads=HEADS),
    )
    assert result.video_top1 == Accuracy(correct=1, total=3)
    # Products: a.x .30, b.x .18, a.y .15, c.x .12, b.y .09, c.y .06, a.z .05: only a.z is beyond the fifth.
    assert result.video_top5 == Accuracy(correct=2, total=3)
    assert [(a.correct, a.total) for a in result.per_class] == [(2, 2), (0, 1), (0, 0), (2, 2), (0, 0), (0, 1)]
    assert result.loss == pytest.approx(-np.mean([np.log(0.5 * 0.6), np.log(0.3 * 0.6), np.log(0.5 * 0.1)]), rel=1e-5)
    assert (result.confusion, result.calibration, result.mistakes) == (None, None, ())
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["heads"] == ["verb", "noun"]
    assert values["videos"][1]["predicted"] == ["verb:a", "noun:x"]
    assert values["videos"][1]["labels"] == ["verb:b", "noun:x"]
    assert values["videos"][1]["score"] == pytest.approx(0.3)


def test_the_best_combinations_one_by_one() -> None:
    assert HEADS is not None
    order = [(v, n) for k in range(1, 10) for v in range(3) for n in range(3) if _place(v, n) == k - 1]
    assert order[:4] == [(0, 0), (1, 0), (0, 1), (2, 0)]
    assert len(order) == 9


def _place(verb: int, noun: int) -> int:
    assert HEADS is not None
    (place,) = ranks_of([(np.array(BOTH, np.float32), (verb, 3 + noun))], HEADS)
    return place


def test_equal_scores_come_in_the_order_of_classes() -> None:
    assert [rank(np.array([0.5, 0.5, 0.5]), i) for i in range(3)] == [0, 1, 2]


def test_a_score_that_is_no_number_is_never_right() -> None:
    broken = np.array([np.nan, 0.2, 0.1])
    assert [rank(broken, i) for i in range(3)] == [3, 0, 1]
    result = summed([score(0, [math.nan] * 3, (0,))], "abc")
    assert (result.video_top1.correct, result.video_top5.total) == (0, 1)
    both = summed([score(0, [math.nan] * 3, (0,)), score(1, [0.7, 0.2, 0.1], (1,))], "abc")
    assert both.calibration is None
    assert both.average_precisions[0] == 0.5, "behind the video that has a score"
    values = json.loads(json.dumps(both.to_dict(), allow_nan=False))
    assert (values["videos"][0]["score"], values["loss"]) == (None, None)


# -- confusion --


def test_confused_pairs() -> None:
    """OmniSource's score: 8 and 12 mistakes between two classes of 40 right each: 20 of 100."""
    assert confused_pairs(np.array([[40, 8], [12, 40]])) == [(0, 1, 0.2)]
    found = confused_pairs(np.array([[1, 0, 0], [0, 2, 2], [1, 0, 0]]))
    assert found == [(0, 2, 0.5), (1, 2, 0.5)]
    assert confused_pairs(np.eye(3, dtype=np.int64)) == []


def test_mistakes_are_sorted_by_confidence() -> None:
    result = summed(
        [score(0, [0.6, 0.4], (1,)), score(1, [0.9, 0.1], (1,)), score(2, [0.99, 0.01], (0,))],
        "ab",
    )
    assert [s.name for s in result.mistakes] == ["v1", "v0"]
