from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tenclip_training.sampler.ranks import agreement, mean_agreement, mean_rank_correlation, rank_correlation

Values = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=20)


@given(Values)
def test_spearmans_correlation(pairs: list[tuple[int, int]]) -> None:
    scores, teacher = np.array(pairs, np.float32).T
    found = rank_correlation(scores, teacher)
    if np.ptp(teacher) == 0:
        assert found is None
    elif np.ptp(scores) == 0:
        assert found == 0
    else:
        assert found == pytest.approx(spearmanr(scores, teacher).statistic)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=20, unique=True))
def test_only_the_order_counts(values: list[int]) -> None:
    scores = np.array(values, np.float32)
    assert rank_correlation(scores, np.exp(scores / 10)) == 1
    assert rank_correlation(scores, -(scores**3)) == -1


def test_the_mean_is_over_videos_that_have_an_order() -> None:
    up, down = np.array([1, 2, 3], np.float32), np.array([3, 2, 1], np.float32)
    one, flat = np.array([1], np.float32), np.array([1, 1, 1], np.float32)
    assert mean_rank_correlation([up, up, one, up], [up, down, one, flat]) == 0
    assert mean_rank_correlation([one], [one]) is None
    assert mean_rank_correlation([], []) is None


def test_agreement_weighs_pairs_by_how_far_apart_they_are() -> None:
    teacher = np.array([0.0, 0.01, 0.9], np.float32)
    found = agreement(np.array([2, 1, 3], np.float32), teacher)
    assert found == pytest.approx((0.9 + 0.89) / (0.01 + 0.9 + 0.89))
    assert agreement(np.array([1, 2, 0], np.float32), teacher) == pytest.approx(0.01 / 1.8)
    assert agreement(teacher, teacher) == 1
    assert agreement(-teacher, teacher) == 0
    assert agreement(np.zeros(3, np.float32), teacher) == 0.5
    one, flat = np.ones(1, np.float32), np.ones(3, np.float32)
    assert agreement(one, one) is None
    assert mean_agreement([teacher, -teacher, flat], [teacher, teacher, flat]) == 0.5
    assert mean_agreement([], []) is None
