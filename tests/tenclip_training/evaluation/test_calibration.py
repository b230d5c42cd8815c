"""Worked examples, and the whole against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from tenclip_training.evaluation.calibration import BINS, calibrate, reliability

SCORES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]], np.float32)
TRUTH = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], bool)


def test_worked_example() -> None:
    """Confidences .9 .8 .7 .55, right, wrong, right, right: bins of 1/15 hold one each."""
    found = calibrate(SCORES, TRUTH, "softmax")
    assert found is not None
    assert (found.of, found.items, len(found.bins)) == ("top-1", 4, BINS)
    assert found.ece == pytest.approx((0.1 + 0.8 + 0.3 + 0.45) / 4, abs=1e-6)
    assert found.nll == pytest.approx(-(math.log(0.9) + math.log(0.2) + math.log(0.7) + math.log(0.55)) / 4, abs=1e-6)
    # Of two classes the sum over both is twice the square of one: .01 .64 .09 .2025.
    assert found.brier == pytest.approx(2 * (0.01 + 0.64 + 0.09 + 0.2025) / 4, abs=1e-6)


def test_a_bin_averages_its_items_before_the_difference_is_taken() -> None:
    """.51 right and .53 wrong share a bin of 15: mean confidence .52, half right."""
    found = calibrate(np.array([[0.51, 0.49], [0.53, 0.47]], np.float32), np.array([[1, 0], [0, 1]], bool), "softmax")
    assert found is not None
    assert found.ece == pytest.approx(0.02, abs=1e-6)
    (used,) = [b for b in found.bins if b.count]
    assert (used.low, used.high, used.count, used.accuracy) == (7 / 15, 8 / 15, 2, 0.5)


def test_edges_belong_to_the_bin_below() -> None:
    table = reliability(np.array([0.0, 0.2, 0.4, 0.41, 1.0]), np.array([1, 1, 0, 0, 1], bool), bins=5)
    assert [b.count for b in table] == [2, 1, 1, 0, 1]
    assert [b.accuracy for b in table] == [1.0, 0.0, 0.0, None, 1.0]


def test_sigmoids_are_judged_by_pairs() -> None:
    """Scores .9 and .2 of classes that a video has and lacks: squares .01 and .04."""
    found = calibrate(np.array([[0.9, 0.2]], np.float32), np.array([[1, 0]], bool), "sigmoid")
    assert found is not None
    assert (found.of, found.items) == ("pairs", 2)
    assert found.brier == pytest.approx(0.025, abs=1e-6)
    assert found.nll == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2, abs=1e-6)
    assert found.ece == pytest.approx((0.1 + 0.2) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        ([[0.7, 0.3]], [[1, 1]]),  # a softmax cannot say 1 twice
        ([[0.2, 0.1]], [[1, 0]]),  # vmz_joint over 3 positions
        (np.zeros((0, 2)), np.zeros((0, 2))),
    ],
)
def test_no_calibration_of_what_are_no_probabilities(scores: list[list[float]], truth: list[list[int]]) -> None:
    assert calibrate(np.array(scores, np.float32), np.array(truth, bool), "softmax") is None


def test_plain_values() -> None:
    found = calibrate(SCORES, TRUTH, "softmax")
    assert found is not None
    values = found.to_dict()
    assert values["of"] == "top-1"
    assert values["bins"][-2]["count"] == 1
    assert values["bins"][0] == {"low": 0.0, "high": 1 / 15, "count": 0, "confidence": None, "accuracy": None}


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 20), st.just(4)), elements=st.floats(0.01, 1)), st.randoms())
def test_against_scikit_learn(raw: np.ndarray, random: object) -> None:
    scores = raw / raw.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    labels = rng.integers(4, size=len(scores))
    truth = labels[:, None] == np.arange(4)
    found = calibrate(scores.astype(np.float32), truth, "softmax")
    assert found is not None
    assert found.nll == pytest.approx(log_loss(labels, scores, labels=range(4)), rel=1e-4, abs=1e-6)
    assert found.brier == pytest.approx(
        brier_score_loss(labels, scores, labels=range(4), scale_by_half=False), abs=1e-5
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_reliability_table_against_scikit_learn(items: list[tuple[float, bool]]) -> None:
    # scikit-learn puts an edge into the bin above it, so confidences that lie on one are moved.
    confidence = np.array([c for c, _ in items])
    confidence = np.where(
        np.isclose(confidence * BINS, np.round(confidence * BINS)), confidence * 0.999 + 0.0003, confidence
    )
    correct = np.array([right for _, right in items])
    table = reliability(confidence, correct)
    used = [b for b in table if b.count]
    right, mean = calibration_curve(correct, confidence, n_bins=BINS)
    np.testing.assert_allclose(np.array([b.accuracy for b in used], float), right, atol=1e-12)
    np.testing.assert_allclose(np.array([b.confidence for b in used], float), mean, atol=1e-12)
    assert sum(b.count for b in table) == len(items)
