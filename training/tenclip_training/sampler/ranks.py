"""Do two scores put the windows of a video in the same order?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def rank_correlation(scores: NDArray[np.float32], teacher: NDArray[np.float32]) -> float | None:
    """Spearman's correlation of two scores [M], ties by their mean rank.

    None where the teacher's are all equal, or fewer than two: there is no order to find. Constant scores find none of
    it: 0.

    >>> rank_correlation(np.float32([1, 2, 3]), np.float32([0.1, 0.9, 0.5]))
    0.5
    """
    from scipy.stats import rankdata  # slow to import

    if len(teacher) < 2 or np.ptp(teacher) == 0:
        return None
    if np.ptp(scores) == 0:
        return 0.0
    first, second = rankdata(scores), rankdata(teacher)
    first, second = first - first.mean(), second - second.mean()
    return float(round((first @ second) / np.sqrt((first @ first) * (second @ second)), 12))


def agreement(scores: NDArray[np.float32], teacher: NDArray[np.float32]) -> float | None:
    """The share of pairs of windows that two scores [M] put in the same order, each pair with the gap of the teacher's
    scores as its weight, so that windows which the teacher hardly tells apart hardly count. Ties of `scores` are half.

    None where the teacher's are all equal, or fewer than two.

    >>> agreement(np.float32([1, 2, 3]), np.float32([0.0, 1.0, 0.75]))
    0.875
    """
    if len(teacher) < 2 or np.ptp(teacher) == 0:
        return None
    teacher = teacher.astype(np.float64)
    gaps = teacher[:, None] - teacher[None, :]
    same = (1 + np.sign(scores[:, None] - scores[None, :]) * np.sign(gaps)) / 2
    return float((np.abs(gaps) * same).sum() / np.abs(gaps).sum())


def mean_rank_correlation(
    scores: Sequence[NDArray[np.float32]], teacher: Sequence[NDArray[np.float32]]
) -> float | None:
    """The mean over videos; None where no video has an order."""
    return _mean(rank_correlation, scores, teacher)


def mean_agreement(scores: Sequence[NDArray[np.float32]], teacher: Sequence[NDArray[np.float32]]) -> float | None:
    """The mean over videos; None where no video has an order."""
    return _mean(agreement, scores, teacher)


def _mean(
    measure: Callable[[NDArray[np.float32], NDArray[np.float32]], float | None],
    scores: Sequence[NDArray[np.float32]],
    teacher: Sequence[NDArray[np.float32]],
) -> float | None:
    found = [measure(s, t) for s, t in zip(scores, teacher, strict=True)]
    known = [c for c in found if c is not None]
    return float(np.mean(known)) if known else None
