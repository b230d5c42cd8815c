from __future__ import annotations

import numpy as np
import pytest

from tenclip_api.errors import DatasetError
from tenclip_training.inspection.embedding import embed
from tenclip_training.inspection.features import VideoFeatures


def videos(classes: int, each: int, *, spread: float, seed: int = 0) -> VideoFeatures:
    """Clusters of features around one point for each class."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, 16)) * 5
    rows = np.concatenate([center + spread * rng.normal(size=(each, 16)) for center in centers])
    labels = tuple(f"class{c}" for c in range(classes) for _ in range(each))
    names = tuple(f"{label}/{i}.mp4" for i, label in enumerate(labels))
    return VideoFeatures(features=rows.astype(np.float32), names=names, labels=labels, source="made")


def test_clusters_are_seen_as_such() -> None:
    found = embed(videos(3, 8, spread=0.1))
    assert found.neighbour_accuracy == 1
    assert found.chance == pytest.approx(7 / 23)
    assert found.silhouette is not None
    assert found.silhouette > 0.9
    means = {c: found.points[[label == c for label in found.labels]].mean(0) for c in found.classes}
    for point, label in zip(found.points, found.labels, strict=True):
        assert min(means, key=lambda c: float(np.linalg.norm(point - means[c]))) == label
    for query in found.queries:
        assert [label for _, label, _ in query.closest] == [query.label] * 5
        cosines = [cosine for _, _, cosine in query.closest]
        assert cosines == sorted(cosines, reverse=True)
        assert query.name not in [name for name, _, _ in query.closest]


def test_noise_is_at_chance() -> None:
    noise = VideoFeatures(
        features=np.random.default_rng(1).normal(size=(200, 32)).astype(np.float32),
        names=tuple(map(str, range(200))),
        labels=("a", "b") * 100,
        source="made",
    )
    found = embed(noise)
    assert abs(found.neighbour_accuracy - 0.5) < 0.12
    assert found.silhouette == pytest.approx(0, abs=0.05)


def test_ten_classes_are_drawn_by_the_seed() -> None:
    many = videos(14, 3, spread=1)
    one, same, other = embed(many), embed(many), embed(many, seed=3)
    assert len(one.classes) == 10
    assert one.classes == same.classes != other.classes
    assert np.array_equal(one.points, same.points)
    assert len(one.names) == 30


def test_a_class_of_one_video_has_no_silhouette() -> None:
    few = videos(2, 4, spread=0.1)
    labels = ("alone", *few.labels[1:])
    found = embed(VideoFeatures(features=few.features, names=few.names, labels=labels, source="made"))
    assert found.silhouette is None


def test_features_that_are_all_alike_are_no_error() -> None:
    flat = VideoFeatures(
        features=np.ones((6, 4), np.float32), names=tuple("abcdef"), labels=("x", "y") * 3, source="made"
    )
    assert embed(flat).points.shape == (6, 2)


@pytest.mark.parametrize(("classes", "each"), [(1, 8), (3, 1)])
def test_too_little_to_show(classes: int, each: int) -> None:
    with pytest.raises(DatasetError, match="a map needs 4 videos of 2 classes or more"):
        embed(videos(classes, each, spread=1))
