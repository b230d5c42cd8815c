from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.data.samplers import Draw
from tenclip_training.data.tags import Targets, drawn_tag, fixed_tag, fixed_tags, multi_hot_target, soft_target


def test_soft_targets_share_one_among_the_labels() -> None:
    np.testing.assert_allclose(soft_target([2], 4), [0, 0, 1, 0])
    np.testing.assert_allclose(soft_target([0, 3], 4), [0.5, 0, 0, 0.5])
    assert soft_target([0, 1, 2], 5).sum() == pytest.approx(1)


def test_multi_hot_targets_are_one_at_each_label() -> None:
    assert multi_hot_target([0, 3], 4).tolist() == [1, 0, 0, 1]
    assert multi_hot_target([0, 3], 4).dtype == np.float32


def test_each_of_three_tags_is_drawn_as_often() -> None:
    """30,000 visits: 10,000 each, within 3 sigma, which is 3 sqrt(30,000 x 1/3 x 2/3) = 245."""
    drawn = Counter(drawn_tag([4, 7, 9], seed=0, visit=visit, index=11) for visit in range(30_000))
    assert set(drawn) == {4, 7, 9}
    assert all(abs(count - 10_000) <= 245 for count in drawn.values())


def test_each_of_three_tags_is_fixed_as_often() -> None:
    fixed = Counter(tag for (tag,) in fixed_tags([(4, 7, 9)] * 30_000, seed=0))
    assert set(fixed) == {4, 7, 9}
    assert all(abs(count - 10_000) <= 245 for count in fixed.values())


def test_a_drawn_tag_follows_from_seed_visit_and_index() -> None:
    labels = list(range(50))
    draw: dict[str, int] = {"seed": 1, "visit": 2, "index": 3}
    assert drawn_tag(labels, **draw) == drawn_tag(labels, **draw)
    for name in draw:
        others = {drawn_tag(labels, **{**draw, name: value}) for value in range(10, 40)}
        assert len(others) > 10, f"{name} decides as well"


@settings(deadline=None)
@given(num_videos=st.integers(1, 30), seed=st.integers(0, 2**40))
def test_fixed_tags_at_once_are_those_one_by_one(num_videos: int, seed: int) -> None:
    labels = [tuple(range(i % 4 + 1)) for i in range(num_videos)]
    assert fixed_tags(labels, seed=seed) == [(fixed_tag(tags, seed=seed, index=i),) for i, tags in enumerate(labels)]


def test_in_expectation_a_drawn_tag_is_the_soft_target() -> None:
    labels = [0, 2, 3]
    draw = Targets(kind="draw", num_classes=4, seed=3)
    mean = np.mean([draw(labels, Draw(visit, 5)) for visit in range(4000)], axis=0)
    np.testing.assert_allclose(mean, soft_target(labels, 4), atol=0.025)


@pytest.mark.parametrize("kind", ["draw", "fixed"])
def test_the_class_of_a_draw_is_its_target(kind: Any) -> None:
    targets = Targets(kind=kind, num_classes=3, seed=0)
    assert [targets([0, 1], Draw(0, 0, label)).tolist() for label in (0, 1)] == [[1, 0, 0], [0, 1, 0]]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"targets 'hard' is not one of soft, draw, fixed, multi-hot"):
        Targets(kind="hard", num_classes=3, seed=0)  # type: ignore[arg-type]
