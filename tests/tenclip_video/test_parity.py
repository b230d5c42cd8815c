from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.aggregate import Outputs
from tenclip_video.bundle import Tolerance
from tenclip_video.parity import Distance, distance, relative_l2, top1_agreement


def test_relative_l2_by_hand() -> None:
    assert relative_l2(np.array([3.0, 4.0]), np.array([3.0, 0.0])) == pytest.approx(4 / 3)
    assert relative_l2(np.zeros(2), np.zeros(2)) == 0
    assert relative_l2(np.ones(2), np.zeros(2)) == math.inf
    assert relative_l2(np.array([np.nan, 1.0]), np.ones(2)) == math.inf
    assert relative_l2(np.ones((2, 1)), np.ones(2)) == math.inf, "broadcasting would hide a wrong shape"


@given(st.floats(1e-6, 1e6), st.integers(0, 100))
def test_relative_l2_has_no_unit(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = rng.normal(size=20)
    actual = expected + 0.01 * rng.normal(size=20)
    assert relative_l2(scale * actual, scale * expected) == pytest.approx(relative_l2(actual, expected), rel=1e-9)


def test_top1_averages_positions_first() -> None:
    expected = np.array([[[9.0, 0.0], [0.0, 4.0]]])  # class 0 wins on average
    actual = np.array([[[0.0, 8.0], [5.0, 0.0]]])  # class 0 again, from the other position
    assert top1_agreement(actual, expected) == 1
    assert top1_agreement(actual[:, ::-1], expected) == 0
    assert top1_agreement(actual[:, :, :1], expected) == 0


def test_a_distance_is_of_logits_and_features() -> None:
    expected = Outputs(np.full((2, 3, 1), 2, np.float32), np.full((2, 4), 4, np.float32))
    actual = Outputs(expected.logits * np.float32(1.5), expected.features * np.float32(1.25))
    drift = distance(actual, expected)
    assert drift == pytest.approx((0.5, 0.25))
    assert drift.within(Tolerance(logits=0.6, features=0.3))
    assert not drift.within(Tolerance(logits=0.4, features=0.3))
    assert not drift.within(Tolerance(logits=0.6, features=0.2))


def test_a_distance_that_is_no_number_is_within_nothing() -> None:
    golden = Outputs(np.full((1, 2, 1), np.nan, np.float32), np.ones((1, 2), np.float32))
    drift = distance(Outputs(np.ones((1, 2, 1), np.float32), golden.features), golden)
    assert math.isnan(drift.logits)
    assert not drift.within(Tolerance(logits=1e9, features=1e9))
    assert not Distance(math.inf, 0.0).within(Tolerance(logits=math.inf, features=math.inf))


def test_models_without_classes_agree_in_all_of_them() -> None:
    none = np.empty((3, 0, 1), np.float32)
    assert relative_l2(none, none) == 0
    assert top1_agreement(none, none) == 1
    assert top1_agreement(none, np.empty((2, 0, 1), np.float32)) == 0
