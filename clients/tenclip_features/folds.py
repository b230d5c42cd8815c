"""Folds for cross-validation: groups are never on both sides, and every class is spread as evenly as it can be."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def group_folds(strata: NDArray[np.int64], groups: NDArray[np.int64], folds: int, *, seed: int) -> list[Fold]:
    """(rows to fit on, rows held out) of each fold. strata, groups: [N]. Every row is held out once.

    Raises ValueError where there are too few groups for so many folds.
    """
    count = len(np.unique(groups))
    if count < folds:
        raise ValueError(f"{count} groups are too few for {folds} folds")
    with warnings.catch_warnings():
        # It warns of classes with fewer rows than folds; they are still spread as evenly as they can be.
        warnings.simplefilter("ignore", UserWarning)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        try:
            found = list(splitter.split(np.zeros(len(strata)), strata, groups))
        except ValueError:  # no class has a row for each fold: nothing to stratify by
            found = list(splitter.split(np.zeros(len(strata)), np.zeros(len(strata), np.int64), groups))
    if any(not len(side) for fold in found for side in fold):
        raise ValueError(f"{count} groups are too few or too uneven for {folds} folds")
    return found


def strata_of(targets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rarest of each row's classes, [N,K] -> [N]: what folds of rows with several labels are balanced by."""
    frequency = targets.sum(axis=0).astype(np.float64)
    strata: NDArray[np.int64] = np.where(targets, frequency, np.inf).argmin(axis=1).astype(np.int64)
    return strata


def group_numbers(names: tuple[str, ...]) -> NDArray[np.int64]:
    """A number for each different name: [N]."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], np.int64)
