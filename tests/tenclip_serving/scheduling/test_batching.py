from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_serving.scheduling.batching import MAX_DELAY_SECONDS, RETRY_EVERY, SAMPLES, BatchSizer


def measured(largest: int, seconds: Callable[[int], float], sizes: tuple[int, ...] = (1, 2, 4, 8)) -> BatchSizer:
    sizer = BatchSizer(largest)
    for size in sizes:
        for _ in range(SAMPLES):
            sizer.record(size, seconds(size))
    return sizer


def like_a_cpu(size: int) -> float:
    return 0.5 * size


def like_a_gpu(size: int) -> float:
    return 0.010 + 0.001 * size


def test_until_it_is_measured_the_runtime_is_believed() -> None:
    sizer = BatchSizer(8)
    assert (sizer.best, sizer.delay(1), sizer.seconds(3)) == (8, 0.0, 0.0)
    sizer.record(1, 0.1)
    assert sizer.best == 8


def test_where_batches_bring_nothing_they_are_given_up() -> None:
    sizer = measured(8, like_a_cpu)
    assert sizer.best == 1
    assert sizer.delay(1) == 0.0


def test_where_they_bring_much_they_are_full_and_worth_a_moment() -> None:
    sizer = measured(8, like_a_gpu)
    assert sizer.best == 8
    assert sizer.delay(8) == sizer.delay(20) == 0.0
    assert sizer.delay(1) == MAX_DELAY_SECONDS  # a full batch saves 8.6 ms of a clip's 11
    assert 0 < measured(8, lambda size: 0.001 + 0.001 * size).delay(1) < MAX_DELAY_SECONDS


def test_the_smallest_of_those_that_are_as_good() -> None:
    assert measured(8, lambda size: 0.1 * size if size >= 4 else 0.2 * size).best == 4


def test_a_first_call_that_compiles_does_not_count() -> None:
    sizer = BatchSizer(4)
    sizer.record(4, 60.0)
    for _ in range(SAMPLES):
        sizer.record(4, 0.1)
        sizer.record(1, 0.1)
    assert sizer.best == 4


def test_the_runtimes_own_size_is_tried_again_now_and_then() -> None:
    sizer = measured(8, like_a_cpu)
    sizes = []
    for _ in range(2 * RETRY_EVERY):
        sizes.append(sizer.best)
        sizer.record(sizes[-1], like_a_cpu(sizes[-1]))
    assert sizes.count(8) == 2
    assert set(sizes) == {1, 8}


def test_a_size_that_was_never_run_takes_as_long_as_its_neighbour() -> None:
    sizer = measured(8, like_a_cpu, sizes=(2,))
    assert sizer.seconds(8) == pytest.approx(4.0)


@given(
    st.integers(1, 64), st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 100)), max_size=60), st.integers(1, 100)
)
def test_any_history_gives_sane_advice(largest: int, calls: list[tuple[int, float]], size: int) -> None:
    sizer = BatchSizer(largest)
    for clips, seconds in calls:
        sizer.record(clips, seconds)
    assert 1 <= sizer.best <= largest
    assert 0 <= sizer.delay(size) <= MAX_DELAY_SECONDS
    assert sizer.seconds(size) >= 0
