from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.curation.budgets import capped_counts, level, prefix_within, ranked

COUNTS = st.dictionaries(st.text(max_size=4), st.integers(0, 60), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("counts", "budget", "expected"),
    [
        ((10, 50, 1000, 5000), 400, [10, 50, 170, 170]),
        ((1000, 400, 90, 30, 5), 600, [5, 30, 90, 237, 238]),
        ((1000, 400, 90, 30, 5), 300, [5, 30, 88, 88, 89]),
        ((7, 7, 7), 10, [3, 3, 4]),
        ((3, 4), 100, [3, 4]),
        ((3, 4), 0, [0, 0]),
    ],
)
def test_worked_examples(counts: tuple[int, ...], budget: int, expected: list[int]) -> None:
    kept = capped_counts({f"c{i}": n for i, n in enumerate(counts)}, budget)
    assert sorted(kept.values()) == expected


@given(COUNTS, st.integers(0, 500), st.integers(0, 500), st.integers(0, 3))
def test_sums_are_exact_and_subsets_nested(counts: dict[str, int], one: int, other: int, seed: int) -> None:
    small, large = (capped_counts(counts, budget, seed=seed) for budget in sorted((one, other)))
    assert sum(small.values()) == min(min(one, other), sum(counts.values()))
    assert all(small[c] <= large[c] <= counts[c] for c in counts)
    # No class is larger by more than one than one that was cut.
    cut = [small[c] for c in counts if small[c] < counts[c]]
    assert not cut or max(small.values()) <= min(cut) + 1


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=20), st.floats(0.001, 0.999))
def test_the_level_spends_the_budget(sizes: list[float], part: float) -> None:
    budget = part * math.fsum(sizes)
    cap = level(sorted(sizes), budget)
    assert math.fsum(min(s, cap) for s in sizes) == pytest.approx(budget)


def test_level_of_the_worked_example() -> None:
    assert level([5, 30, 90, 400, 1000], 600) == 237.5


def test_a_prefix_ends_before_what_does_not_fit() -> None:
    assert prefix_within([2.0, 3.0, 4.0, 0.5], 6.0) == 2
    assert prefix_within([], 6.0) == 0
    assert prefix_within([0.1] * 10, 1.0) == 10  # whatever floats make of it


def test_ranks_depend_on_seed_and_name_alone() -> None:
    names = [f"v{i}" for i in range(30)]
    assert ranked(names, 1) == ranked(reversed(names), 1)
    assert ranked(names, 1) != ranked(names, 2)
    few = ranked(names[:10], 1)
    assert [n for n in ranked(names, 1) if n in few] == few
