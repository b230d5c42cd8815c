"""Nearest neighbours as a classifier: the labels of the nearest training rows vote, weighted by their cosine.

As in DINO (Caron et al., 2021, section 4.1, after Wu et al., 2018): a neighbour of cosine s has exp(s / temperature)
votes, with the temperature 0.07. Nothing is learned, so that it says of features what no solver can add.

N rows, D features, K classes, M rows to classify.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenclip_features.folds import Fold
from tenclip_features.tuning import score_of

# What is tried for k where it is not given; DINO tries 10, 20, 100 and 200.
NEIGHBOURS = (1, 5, 10, 20, 50, 100, 200)
TEMPERATURE = 0.07
# Numbers of one block of cosines.
_BLOCK = 1 << 24


@dataclass(frozen=True, kw_only=True)
class KnnSettings:
    """neighbours: values of k; of one alone nothing is chosen. temperature: of the votes."""

    neighbours: tuple[int, ...] = NEIGHBOURS
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        """Raises ValueError for what makes no sense."""
        if not self.neighbours or min(self.neighbours) < 1:
            raise ValueError(f"k must be at least 1, got {list(self.neighbours)}")
        if not 0 < self.temperature < np.inf:
            raise ValueError(f"the temperature of votes must be positive, got {self.temperature}")


@dataclass(frozen=True, kw_only=True, eq=False)
class KnnClassifier:
    """The training rows themselves: rows float32 [N,D] of length one, targets bool [N,K].

    model, version, model_weights, multi_label: as in `Probe`.
    """

    labels: tuple[str, ...]
    rows: NDArray[np.float32]
    targets: NDArray[np.bool_]
    k: int
    temperature: float
    model: str
    version: str
    model_weights: str = ""
    multi_label: bool = False

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.rows.shape[1])

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The share of the votes that each class has: [M,D] -> float32 [M,K].

        Where classes do not exclude one another, each has its own share. Raises ValueError for features of another
        length.
        """
        if features.ndim != 2 or features.shape[1] != self.feature_dim:
            raise ValueError(f"the classifier takes [N,{self.feature_dim}], got {list(features.shape)}")
        return vote(self.rows, self.targets, unit_rows(features), (self.k,), self.temperature)[0]


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one; a row of zeros stays what it is, and is as near to everything."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def vote(
    rows: NDArray[np.float32],
    targets: NDArray[np.bool_],
    asked: NDArray[np.float32],
    neighbours: Sequence[int],
    temperature: float,
) -> list[NDArray[np.float32]]:
    """For each k of `neighbours` the shares of the votes: [M,K]. rows [N,D] and asked [M,D] are of length one.

    Of rows that are as near as one another the first count; a k above N is N.
    """
    parts = [
        [_shares(scores[:, :k], targets[near[:, :k]], temperature) for k in neighbours]
        for scores, near in _nearest(rows, asked, max(neighbours))
    ]
    return [np.concatenate(blocks) for blocks in zip(*parts, strict=True)]


def knn_grid_scores(
    rows: NDArray[np.float32],
    targets: NDArray[np.bool_],
    folds: Sequence[Fold],
    settings: KnnSettings,
    *,
    multi_label: bool,
    tick: Callable[[], None],
) -> tuple[tuple[float, float], ...]:
    """(k, mean score of the held-out rows) of each k, as `grid_scores` does for C. rows: [N,D]; targets: [N,K]."""
    unit, total = unit_rows(rows), np.zeros(len(settings.neighbours))
    for fit, held in folds:
        shares = vote(unit[fit], targets[fit], unit[held], settings.neighbours, settings.temperature)
        for i, one in enumerate(shares):
            total[i] += score_of(one, targets[held], multi_label) * len(held)
            tick()
    held_out = sum(len(held) for _, held in folds)
    return tuple((float(k), float(t / held_out)) for k, t in zip(settings.neighbours, total, strict=True))


def _nearest(
    rows: NDArray[np.float32], asked: NDArray[np.float32], k: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """(cosines, numbers) of the k nearest rows of some of `asked` at a time: [m,k], the nearest first."""
    k = min(k, len(rows))
    step = max(1, _BLOCK // len(rows))
    for begin in range(0, len(asked), step):
        cosines = asked[begin : begin + step] @ rows.T
        near = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        yield np.take_along_axis(cosines, near, 1), near


def _shares(cosines: NDArray[np.float32], targets: NDArray[np.bool_], temperature: float) -> NDArray[np.float32]:
    """cosines [m,k], targets [m,k,K] -> [m,K]."""
    weights = np.exp((cosines - cosines[:, :1]).astype(np.float64) / temperature)
    votes = np.einsum("mk,mkc->mc", weights, targets)
    return np.asarray(votes / weights.sum(axis=1, keepdims=True), np.float32)
