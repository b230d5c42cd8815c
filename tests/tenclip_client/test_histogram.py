"""Buckets and percentiles against sorted lists of the same values."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_client._histogram import Histogram, bucket_of, highest_of


@given(st.integers(0, 10**15))
def test_a_value_is_in_its_bucket(value: int) -> None:
    bucket = bucket_of(value)
    highest = highest_of(bucket)
    lowest = highest_of(bucket - 1) + 1 if bucket else 0
    assert lowest <= value <= highest
    assert highest - lowest <= value / 64


def test_buckets_follow_each_other() -> None:
    assert [bucket_of(v) for v in range(1000)] == sorted(bucket_of(v) for v in range(1000))
    assert {bucket_of(v) for v in range(10_000)} == set(range(bucket_of(9_999) + 1))
    assert [highest_of(b) for b in range(130)] == [*range(128), 129, 131]


@given(st.lists(st.floats(0, 1e5), min_size=1), st.sampled_from([0, 1, 50, 90, 99, 99.9, 100]))
def test_percentiles(values: list[float], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(0, math.ceil(len(values) * percent / 100 - 1e-9) - 1)]
    found = histogram.percentile(percent)
    assert exact - 1e-6 <= found <= exact * (1 + 1 / 64) + 2e-6
    assert histogram.min <= found <= histogram.max
    assert (histogram.count, histogram.min, histogram.max) == (len(values), min(values), max(values))
    assert histogram.mean == pytest.approx(sum(values) / len(values))


def test_many_values_take_little() -> None:
    histogram, rng = Histogram(), random.Random(0)
    for _ in range(100_000):
        histogram.add(rng.lognormvariate(-3, 1))
    buckets = list(histogram.buckets())
    assert len(buckets) < 1500
    assert sum(count for _, count in buckets) == 100_000
    assert buckets == sorted(buckets)


def test_none_at_all() -> None:
    histogram = Histogram()
    assert math.isnan(histogram.mean)
    assert math.isnan(histogram.percentile(50))
    assert histogram.to_dict() == {"count": 0}


def test_a_clock_that_went_back_counts_as_nothing() -> None:
    histogram = Histogram()
    histogram.add(-1.0)
    assert histogram.to_dict() == {
        "count": 1, "mean": 0, "min": 0, "p50": 0, "p90": 0, "p95": 0, "p99": 0, "p99.9": 0, "max": 0,
    }  # fmt: skip


@pytest.mark.parametrize("percent", [-1, 100.1, math.nan])
def test_what_is_no_percentile(percent: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 100"):
        Histogram().percentile(percent)
