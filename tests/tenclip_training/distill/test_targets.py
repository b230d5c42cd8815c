"""Worked numbers of DistInit's equation 1 and of its gate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.distill.targets import (
    average_logits,
    entropies,
    entropy,
    is_kept,
    percentile_threshold,
    soft_targets,
)

FRAMES = np.array([[2, 1, 0], [4, 0, 1]], np.float32)


def test_logits_are_averaged_and_not_probabilities() -> None:
    mean = average_logits(FRAMES)
    assert mean.tolist() == [3, 0.5, 0.5]
    assert soft_targets(mean) == pytest.approx([0.85898, 0.07051, 0.07051], abs=1e-5)
    of_probabilities = soft_targets(FRAMES).mean(0)
    assert of_probabilities == pytest.approx([0.80074, 0.13094, 0.06832], abs=1e-5)


def test_temperature_divides_the_logits() -> None:
    assert soft_targets(average_logits(FRAMES), 2.0) == pytest.approx([0.63572, 0.18214, 0.18214], abs=1e-5)


def test_entropy_is_in_nats() -> None:
    assert entropy(np.array([0.97, 0.01, 0.01, 0.01])) == pytest.approx(0.16770, abs=1e-5)
    assert entropy(np.full(4, 0.25)) == pytest.approx(1.38629, abs=1e-5)
    assert entropy(np.full(1000, 1e-3)) == pytest.approx(6.908, abs=1e-3)
    assert entropies(average_logits(FRAMES)) == pytest.approx(0.50456, abs=1e-5)


def test_a_certain_teacher_has_no_entropy() -> None:
    assert entropy(np.array([1.0, 0.0, 0.0])) == 0.0


def test_the_gate_of_the_paper() -> None:
    found = np.array([1.0, 2.6, 2.8, 5.0])
    assert is_kept(found, 2.7).tolist() == [True, True, False, False]
    assert is_kept(found, None).all()
    assert is_kept(np.array([2.7]), 2.7).tolist() == [False]  # "entropy < 2.7"


def test_a_percentile_keeps_its_share() -> None:
    found = np.arange(100.0)
    for percent in (10, 50, 90):
        assert is_kept(found, percentile_threshold(found, percent)).mean() == pytest.approx(percent / 100)


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12), st.floats(0.1, 20))
def test_targets_are_a_distribution_of_bounded_entropy(logits: list[float], temperature: float) -> None:
    found = soft_targets(np.array(logits, np.float32), temperature)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    assert 0 <= float(entropy(found)) <= math.log(len(logits)) + 1e-9
