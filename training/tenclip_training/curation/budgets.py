"""Which videos fit a budget: a seeded order that makes subsets nested, and caps that keep tail classes whole.

Pure functions on names and numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tenclip_data.splits import seeded_rank


def ranked(names: Iterable[str], seed: int) -> list[str]:
    """Names in a random order: a larger subset of the same seed, taken from its beginning, holds the smaller one."""
    return sorted(names, key=lambda name: (seeded_rank(seed, name), name))


def capped_counts(counts: Mapping[str, int], budget: int, *, seed: int = 0) -> dict[str, int]:
    """How many of each class to keep so that `budget` remain, and classes below the cap stay whole.

    The cap is the largest c with sum(min(n, c)) <= budget. What is left of the budget goes, one each, to classes above
    the cap, in a seeded order that does not depend on the budget. The paper gives no formula (IG-65M, 4.1.1).

    >>> capped_counts({"a": 10, "b": 50, "c": 1000, "d": 5000}, 400)
    {'a': 10, 'b': 50, 'c': 170, 'd': 170}
    """
    total = sum(counts.values())
    if budget >= total:
        return dict(counts)
    cap = int(level(sorted(counts.values()), budget))
    kept = {name: min(count, cap) for name, count in counts.items()}
    left = budget - sum(kept.values())
    for name in ranked((name for name, count in counts.items() if count > cap), seed)[:left]:
        kept[name] += 1
    return kept


def level(sizes: Sequence[float], budget: float) -> float:
    """The cap c with sum(min(size, c)) == budget, for ascending sizes whose sum is larger than the budget.

    >>> level([5, 30, 90, 400, 1000], 600)
    237.5
    """
    left = budget
    for position, size in enumerate(sizes):
        share = left / (len(sizes) - position)
        if size >= share:
            return share
        left -= size
    return max(sizes, default=0.0)


def prefix_within(sizes: Iterable[float], budget: float) -> int:
    """How many of the first sizes fit the budget together.

    >>> prefix_within([2.0, 3.0, 4.0, 0.5], 6.0)
    2
    """
    count, total = 0, 0.0
    for size in sizes:
        total += size
        if total > budget * (1 + 1e-12):
            break
        count += 1
    return count
