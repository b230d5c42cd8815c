"""Homographies in scaled coordinates, and the Gaussian of their entries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.omni.homographies import (
    IDENTITY,
    RIDGE,
    HomographyGaussian,
    folds,
    free_entries,
    from_entries,
    normalised,
    stays_in_sight,
    to_pixels,
    to_scaled,
    why_implausible,
)
from tenclip_training.omni.pseudo_clips import _after
from tests.tenclip_training.omni.helpers import shift, zoom


def test_a_pixel_of_a_picture_five_wide_is_half_a_unit() -> None:
    scaled = to_scaled(shift(1), 5, 5)
    assert scaled[0, 2] == pytest.approx(0.5)
    assert to_scaled(shift(0, 1), 5, 9)[1, 2] == pytest.approx(0.5)
    np.testing.assert_allclose(to_pixels(scaled, 5, 5), shift(1), atol=1e-12)


def test_maximum_likelihood_divides_by_n() -> None:
    """Entries 0, 2, 4: mean 2, variance 8/3 (and not 4)."""
    gaussian = HomographyGaussian.fit([from_entries(np.full(8, v)) for v in (0.0, 2.0, 4.0)])
    np.testing.assert_allclose(gaussian.mean, 2.0)
    np.testing.assert_allclose(gaussian.covariance, np.full((8, 8), 8 / 3) + RIDGE * np.eye(8), atol=1e-12)
    assert gaussian.count == 3


def test_one_homography_is_enough() -> None:
    gaussian = HomographyGaussian.fit([zoom(1.1)])
    np.testing.assert_allclose(gaussian.mean, free_entries(zoom(1.1)))
    np.testing.assert_allclose(gaussian.covariance, RIDGE * np.eye(8))
    with pytest.raises(ValueError, match="no homographies"):
        HomographyGaussian.fit([])


def test_a_draw_is_mu_plus_l_z() -> None:
    """Sigma [[4,2],[2,2]] has L [[2,0],[1,1]]; z = (1,1) gives h - mu = (2,2)."""
    covariance = np.eye(8)
    covariance[:2, :2] = [[4, 2], [2, 2]]
    gaussian = HomographyGaussian(np.full(8, 5.0), covariance)
    np.testing.assert_allclose(gaussian.factor[:2, :2], [[2, 0], [1, 1]])
    drawn = gaussian.entries(np.array([1.0, 1, 0, 0, 0, 0, 0, 0])) - gaussian.mean
    np.testing.assert_allclose(drawn, [2, 2, 0, 0, 0, 0, 0, 0])


def test_moments_of_many_draws() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(0, 0.02, (8, 8))
    gaussian = HomographyGaussian(free_entries(zoom(1.02)), root @ root.T + 1e-6 * np.eye(8))
    drawn = np.stack([free_entries(gaussian.sample(rng)) for _ in range(10_000)])
    deviations = np.sqrt(np.diag(gaussian.covariance))
    assert (np.abs(drawn.mean(axis=0) - gaussian.mean) < 4 * deviations / 100).all()
    np.testing.assert_allclose(drawn.std(axis=0), deviations, rtol=0.04)
    correlation = gaussian.covariance / np.outer(deviations, deviations)
    np.testing.assert_allclose(np.corrcoef(drawn.T), correlation, atol=0.05)


def test_the_order_of_steps_counts() -> None:
    """Zoom 1.1 then shift .1: x -> 1.1 x + .1; the other way round 1.1 x + .11."""
    for step, before, row in ((shift(0.1), zoom(1.1), [1.1, 0, 0.1]), (zoom(1.1), shift(0.1), [1.1, 0, 0.11])):
        moved = _after(step, before)
        assert moved is not None
        np.testing.assert_allclose(moved[0], row)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (IDENTITY, None),
        (zoom(1.2), None),
        (zoom(1.5), "area"),  # 2.25
        (zoom(0.7), "area"),  # 0.49
        (shift(0.4), None),  # a fifth of the side
        (shift(0.6), "corner-shift"),
        (np.array([[1, 0, 0], [0, 1, 0], [1.2, 0, 1.0]]), "degenerate"),  # a side behind the camera
        (np.diag([-1.0, 1.0, 1.0]), "degenerate"),  # mirrored
        (np.array([[1, 0, 0], [0, 1, 0], [0.4, 0, 1.0]]), "corner-shift"),
    ],
)
def test_what_no_camera_does(matrix: np.ndarray, reason: str | None) -> None:
    assert why_implausible(matrix) == reason


def test_folds_and_flights_are_seen() -> None:
    assert folds(np.diag([1.0, -1.0, 1.0]))
    assert folds(np.array([[1, 0, 0], [0, 1, 0], [0.8, 0.8, 1.0]]))  # a corner behind the camera
    assert folds(np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1.0]]))  # flat
    assert stays_in_sight(zoom(1.49))
    assert not stays_in_sight(zoom(1.51))
    assert stays_in_sight(zoom(0.67))
    assert not stays_in_sight(zoom(0.66))  # the picture would fill less than 1 / 1.5 of the frame
    assert not stays_in_sight(shift(0.51))


def test_what_cannot_be_normalised() -> None:
    with pytest.raises(ValueError, match="H33"):
        normalised(np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0.0]]))
    with pytest.raises(ValueError, match="1x5 has no corners"):
        to_scaled(IDENTITY, 1, 5)


@pytest.mark.parametrize(
    ("mean", "covariance", "says"),
    [
        (np.zeros(7), np.eye(8), r"not \(7,\)"),
        (np.full(8, np.nan), np.eye(8), "not finite"),
        (np.zeros(8), np.triu(np.ones((8, 8))), "not symmetric"),
        (np.zeros(8), -np.eye(8), "not positive definite"),
    ],
)
def test_no_gaussian(mean: np.ndarray, covariance: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        HomographyGaussian(mean, covariance)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-0.05, 0.05), min_size=8, max_size=8),
    st.integers(2, 500),
    st.integers(2, 500),
)
def test_pixels_and_back(changes: list[float], height: int, width: int) -> None:
    matrix = from_entries(free_entries(IDENTITY) + np.array(changes))
    np.testing.assert_allclose(to_scaled(to_pixels(matrix, height, width), height, width), matrix, atol=1e-8)
