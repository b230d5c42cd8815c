"""Whitened cosine similarity: the worked pair, ranks, thresholds, chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_training.omni.cosine_duplicates import (
    Threshold,
    expected_by_chance,
    find_duplicates,
    find_threshold,
    fit_to,
)
from tenclip_training.omni.frame_features import NUM_CROPS, FeatureTable, five_crops
from tenclip_training.omni.whitening import crop_similarity, fit_whitening

FITTED = np.array([(2, 0), (-2, 0), (0, 1), (0, -1)], np.float32)
SIXES = (slice(12, 18), slice(0, 6), slice(6, 12))  # each a file
A, B = np.array([2, 1], np.float32), np.array([1, 2], np.float32)


def table(features: np.ndarray, items: list[int] | None = None) -> FeatureTable:
    """A file for each row, or as `items` says; a frame a second."""
    places = np.arange(len(features)) if items is None else np.array(items)
    names = tuple(f"{i}.jpg" for i in range(int(places.max(initial=-1)) + 1))
    return FeatureTable(names, features.astype(np.float32), places, np.arange(len(places), dtype=np.float64))


def test_the_worked_pair() -> None:
    """Covariance diag(2, .5): (2,1) and (1,2) have a cosine of .8000 raw and of .8575 whitened."""
    assert A @ B / np.linalg.norm(A) / np.linalg.norm(B) == pytest.approx(0.8)
    exact = fit_whitening(FITTED, shrinkage=0.0)
    np.testing.assert_allclose(exact.matrix @ exact.matrix.T, np.diag([1 / 2, 1 / 0.5]), atol=1e-12)
    a, b = exact.apply(np.stack([A, B]))
    assert float(a @ b) == pytest.approx(0.8575, abs=5e-5)
    a, b = fit_whitening(FITTED).apply(np.stack([A, B]))
    assert float(a @ b) == pytest.approx(0.8575, abs=5e-4)  # 1e-3 of the mean eigenvalue of 1.25 on top of both


def test_what_is_whitened_is_white() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)
    whitening = fit_whitening(features, shrinkage=0.0)
    white = (features - whitening.mean) @ whitening.matrix
    np.testing.assert_allclose(white.T @ white / 500, np.eye(6), atol=1e-4)


@pytest.mark.parametrize("count", [3, 10, 40])
def test_fewer_frames_than_dimensions(count: int) -> None:
    """Copies of frames that were fitted to are found, whatever lies outside of what the frames span."""
    rng = np.random.default_rng(count)
    frames = rng.normal(size=(count, 64)).astype(np.float32)
    whitening = fit_whitening(frames)
    assert whitening.directions == count - 1
    assert np.isfinite(whitening.matrix).all()
    copies = frames + rng.normal(0, 0.1, frames.shape)
    similar = np.einsum("nd,nd->n", whitening.apply(copies.astype(np.float32)), whitening.apply(frames))
    assert similar.min() > 0.9
    np.testing.assert_allclose(np.linalg.norm(whitening.apply(frames), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("features", [np.ones((5, 8)), np.zeros((3, 8)), np.full((1, 8), 2.0)])
def test_frames_that_do_not_differ(features: np.ndarray) -> None:
    with pytest.raises(DatasetError, match="all have the same features"):
        fit_whitening(features.astype(np.float32))


def test_a_target_without_frames() -> None:
    empty = table(np.zeros((0, 0)))
    with pytest.raises(DatasetError, match="no frame of the target could be read"):
        fit_to(empty)
    with pytest.raises(DatasetError, match="no crops to take the threshold from"):
        find_threshold(empty, fit_whitening(FITTED))


def test_the_threshold_moves_with_the_crops() -> None:
    rng = np.random.default_rng(1)
    frames = rng.normal(size=(200, 16)).astype(np.float32)
    whitening = fit_whitening(frames)
    found = []
    for noise in (0.0, 0.3, 1.0):
        views = np.repeat(frames[:20], NUM_CROPS, axis=0) + rng.normal(0, noise, (20 * NUM_CROPS, 16))
        crops = FeatureTable(tuple("abcdefghijklmnopqrst"), views.astype(np.float32), np.arange(20), np.zeros(20))
        threshold = find_threshold(crops, whitening)
        assert threshold.crop_pairs == 20 * 10  # of five crops ten pairs
        found.append(threshold.value)
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert found[0] > found[1] > found[2] > 0
    one = np.array([[[1.0, 0], [0, 1], [1, 0]]], np.float32)
    mean, pairs = crop_similarity(one)
    assert (mean, pairs) == (pytest.approx(1 / 3), 3)  # type: ignore[comparison-overlap]


def test_five_crops() -> None:
    frame = np.arange(64 * 3, dtype=np.uint8).reshape(8, 8, 3)
    crops = five_crops(frame, 7)
    assert crops.shape == (5, 7, 7, 3)
    np.testing.assert_array_equal(crops[3], frame[1:, 1:])
    np.testing.assert_array_equal(crops[4], frame[:7, :7])


def test_pairs_of_files() -> None:
    """Two source frames match one target; the most alike stands for the pair, the share is of the source's frames."""
    rng = np.random.default_rng(2)
    target = rng.normal(size=(50, 8)).astype(np.float32)
    source = rng.normal(size=(8, 8)).astype(np.float32)
    source[1] = target[7] + 0.05 * rng.normal(size=8)
    source[2] = target[7]
    source[6] = target[40]
    sources = table(source, [0, 0, 0, 0, 1, 1, 2, 3])
    targets = table(target, [0] * 10 + [1] * 40)
    whitening = fit_to(targets)
    report = find_duplicates(
        [sources], targets, whitening, Threshold(value=0.97, is_given=True), reviewed=[("2.jpg", "1.jpg"), ("x", "y")]
    )
    found = {(p.source, p.target): p for p in report.pairs}
    assert set(found) == {("0.jpg", "0.jpg"), ("2.jpg", "1.jpg")}
    pair = found["0.jpg", "0.jpg"]
    assert pair.similarity == pytest.approx(1, abs=1e-5)
    assert (pair.source_share, pair.source_seconds, pair.target_seconds) == (0.5, 2.0, 7.0)
    assert report.duplicates == ("0.jpg",)
    assert report.unused_reviews == (("x", "y"),)
    assert report.frames == (8, 50)


def test_blocks_are_one_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    target = table(rng.normal(size=(30, 6)))
    source = table(np.concatenate([target.features[:9], target.features[:9]]), [i // 6 for i in range(18)])
    whitening = fit_to(target)
    whole = find_duplicates([source], target, whitening, Threshold(value=0.9))
    monkeypatch.setattr("tenclip_training.omni.cosine_duplicates._BLOCK", 4)
    assert find_duplicates([source], target, whitening, Threshold(value=0.9)).pairs == whole.pairs
    assert len(whole.pairs) >= 18
    parts = [FeatureTable(source.names, source.features[p], source.item[p], source.seconds[p]) for p in SIXES]
    parted = find_duplicates(parts, target, whitening, Threshold(value=0.9))
    assert (parted.pairs, parted.frames, parted.source_files) == (whole.pairs, whole.frames, whole.source_files)


def test_a_source_without_frames() -> None:
    target = table(FITTED)
    report = find_duplicates([], target, fit_to(target), Threshold(value=0.5))
    assert (report.pairs, report.by_chance) == ((), 0.0)


def test_what_chance_would_give() -> None:
    """Cosines of random directions in 64 dimensions have a deviation of 1/8; copies do not move the estimate."""
    rng = np.random.default_rng(4)
    units = rng.normal(size=(2000, 64))
    units = (units / np.linalg.norm(units, axis=1, keepdims=True)).astype(np.float32)
    source, target = units[:1000], units[1000:]
    expected = expected_by_chance(source, target, 0.25)
    assert expected == pytest.approx(float((source @ target.T > 0.25).sum()), rel=0.15)
    with_copies = np.concatenate([source, target[:50]])
    assert expected_by_chance(with_copies, target, 0.25) == pytest.approx(expected * 1.05, rel=0.1)
    assert expected_by_chance(source[:1], source[:1], 0.5) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 99))
def test_a_frame_is_its_own_duplicate(count: int, dimensions: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    frames = table(features)
    report = find_duplicates([frames], frames, fit_to(frames), Threshold(value=0.999))
    assert {(p.source, p.target) for p in report.pairs} >= {(n, n) for n in frames.names}
