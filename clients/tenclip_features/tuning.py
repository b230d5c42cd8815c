"""The choice of C, the inverse strength of the regularisation: on folds of the training rows, or on a part held out.

N rows, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_features.folds import Fold, group_folds, strata_of
from tenclip_features.linear import fit_linear
from tenclip_features.scores import mean_average_precision


def tuning_folds(
    targets: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    folds: int,
    tune_on: float | None,
    seed: int,
    source: Path,
) -> list[Fold]:
    """(rows to fit on, rows held out) for the choice of C: `folds` of them, or one that holds out the part `tune_on`.

    targets: [N,K]; groups: [N]. A group is never on both sides, and classes are spread as evenly as they can be; a part
    is 1/n of the groups, for the n that comes nearest. Raises DatasetError, which names `source`, for too few groups.
    """
    groups_of_class = [len(np.unique(groups[of_class])) for of_class in targets.T]
    most = max(groups_of_class)
    wanted = min(folds, most) if tune_on is None else min(round(1 / tune_on), len(np.unique(groups)))
    if wanted < 2 or sum(n > 1 for n in groups_of_class) < 2:
        raise DatasetError(
            f"{source}: too few training videos to choose C by cross-validation (at most {most} of a class, counted by "
            "file or group); give one C, or more videos"
        )
    found = group_folds(strata_of(targets), groups, wanted, seed=seed)
    return found if tune_on is None else found[:1]


def grid_scores(
    rows: NDArray[np.float32],
    targets: NDArray[np.bool_],
    folds: Sequence[Fold],
    strengths: Sequence[float],
    *,
    multi_label: bool,
    tick: Callable[[], None],
) -> tuple[tuple[float, float], ...]:
    """(C, mean score of the held-out rows) of each strength: top-1 accuracy, or mean average precision.

    rows: [N,D]; targets: [N,K]. tick: called after each fit.
    """
    total = np.zeros(len(strengths))
    for fit, held in folds:
        enough = np.count_nonzero(targets[fit].any(axis=0)) > 1
        for i, strength in enumerate(strengths):
            if enough:
                fitted = fit_linear(rows[fit], targets[fit], strength, multi_label=multi_label)
                total[i] += score_of(fitted.logits(rows[held]), targets[held], multi_label) * len(held)
            tick()
    held_out = sum(len(held) for _, held in folds)
    return tuple((float(c), float(t / held_out)) for c, t in zip(strengths, total, strict=True))


def score_of(logits: NDArray[np.float32], truth: NDArray[np.bool_], multi_label: bool) -> float:
    """Top-1 accuracy, or mean average precision, of scores [N,K]."""
    if multi_label:
        return mean_average_precision(logits, truth)
    return float(truth[np.arange(len(truth)), logits.argmax(axis=1)].mean())
