from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tenclip_video.aggregate import Aggregate, ClipAssembler, Outputs, aggregate, top_classes
from tenclip_video.protocols import Averaging, softmax


def outputs(num: int, *, classes: int = 5, positions: int = 4, features: int = 3, seed: int = 0) -> Outputs:
    rng = np.random.default_rng(seed)
    return Outputs(
        rng.normal(size=(num, classes, positions)).astype(np.float32),
        rng.normal(size=(num, features)).astype(np.float32),
    )


def split(whole: Outputs, *sizes: int) -> list[Outputs]:
    cuts = np.cumsum(sizes)[:-1]
    parts = zip(np.split(whole.logits, cuts), np.split(whole.features, cuts), strict=True)
    return [Outputs(logits, features) for logits, features in parts]


@pytest.mark.parametrize("averaging", ["probabilities", "logits", "vmz_joint"])
def test_batches_do_not_matter(averaging: Averaging) -> None:
    whole = outputs(6)
    one, many = aggregate([whole], averaging, views=3), aggregate(split(whole, 1, 4, 1), averaging, views=3)
    for a, b in zip(one, many, strict=True):
        assert_allclose(a, b, rtol=1e-6)


def test_softmax_at_each_position_then_the_mean() -> None:
    whole = outputs(4)
    result = aggregate([whole], "probabilities", views=1)
    expected = softmax(whole.logits, axis=1).mean(axis=2)
    assert_allclose(result.clip_probabilities, expected, rtol=1e-6)
    assert_allclose(result.probabilities, expected.mean(0), rtol=1e-6)
    assert_allclose(result.probabilities.sum(), 1, rtol=1e-6)
    assert_allclose(result.features, whole.features.mean(0), rtol=1e-6)


def test_views_of_a_clip_are_averaged() -> None:
    whole = outputs(6)
    result = aggregate([whole], "probabilities", views=3)
    per_view = softmax(whole.logits, axis=1).mean(axis=2)
    assert result.clip_probabilities.shape == (2, 5)
    assert_allclose(result.clip_probabilities[1], per_view[3:].mean(0), rtol=1e-6)
    assert_allclose(result.clip_features[0], whole.features[:3].mean(0), rtol=1e-6)


def test_logits_are_averaged_before_the_softmax() -> None:
    whole = outputs(4)
    result = aggregate([whole], "logits", views=2)
    assert_allclose(result.clip_probabilities[0], softmax(whole.logits[:2].mean((0, 2))), rtol=1e-6)
    assert_allclose(result.probabilities, softmax(whole.logits.mean((0, 2))), rtol=1e-6)


def test_top_classes_in_order_with_ties_by_index() -> None:
    scores = np.array([0.1, 0.4, 0.1, 0.4], np.float32)
    top = top_classes(scores, ["a", "b", "c", "d"], 3)
    assert [(t.index, t.label) for t in top] == [(1, "b"), (3, "d"), (0, "a")]
    assert top[0].score == pytest.approx(0.4)
    assert len(top_classes(scores, ["a", "b", "c", "d"], 99)) == 4


@pytest.mark.parametrize("averaging", ["probabilities", "logits", "vmz_joint"])
def test_clips_are_complete_when_all_their_views_are_there(averaging: Averaging) -> None:
    whole = outputs(12)  # four clips of three views
    parts = dict(zip((0, 2, 5, 6, 11), split(whole, 2, 3, 1, 5, 1), strict=True))
    told: dict[int, Aggregate] = {}
    assembler = ClipAssembler(averaging, views=3, on_clip=told.__setitem__)
    complete = []
    for first in (11, 5, 2, 0, 6):  # batches of two instances end in any order
        assembler.add(first, parts[first])
        complete.append(sorted(told))
    assert complete == [[], [], [1], [0, 1], [0, 1, 2, 3]]
    expected = aggregate([whole], averaging, views=3)
    for index, answer in told.items():
        assert_allclose(answer.clip_probabilities[0], expected.clip_probabilities[index], rtol=1e-6)
        assert_allclose(answer.clip_features[0], expected.clip_features[index], rtol=1e-6)


@pytest.mark.parametrize("averaging", get_args(Averaging))
def test_without_a_classifier_only_features_are_averaged(averaging: Averaging) -> None:
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    result = aggregate([Outputs(np.empty((6, 0, 1), np.float32), features)], averaging, views=3)
    assert (result.probabilities.shape, result.clip_probabilities.shape) == ((0,), (2, 0))
    assert result.features.tolist() == features.mean(axis=0).tolist()


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
def test_sigmoids_of_clips_views_and_positions(averaging: Averaging) -> None:
    whole = outputs(6)
    result = aggregate([whole], averaging, views=3, activation="sigmoid")
    clips = whole.logits.astype(np.float64).reshape(2, 3, 5, 4)
    if averaging == "probabilities":
        expected = (1 / (1 + np.exp(-clips))).mean(axis=(1, 3))
        video = expected.mean(axis=0)
    else:
        expected = 1 / (1 + np.exp(-clips.mean(axis=(1, 3))))
        video = 1 / (1 + np.exp(-clips.mean(axis=(0, 1, 3))))
    assert_allclose(result.clip_probabilities, expected, rtol=1e-5)
    assert_allclose(result.probabilities, video, rtol=1e-5)
