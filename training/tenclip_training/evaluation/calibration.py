"""Calibration: do scores mean what they say? Of videos scored 0.8, 80% should be right.

Expected calibration error over 15 bins of equal width (Guo et al., "On Calibration of Modern Neural Networks", 2017),
negative log likelihood, Brier score. N videos, K classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_video.protocols import Activation

BINS = 15
_SMALLEST = 1e-12  # probabilities below count as this in logarithms


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Items whose confidence lies in (low, high], the first bin with 0 as well.

    confidence, accuracy: means of its `count` items; None where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far scores are from probabilities.

    of: "top-1": an item is a video, its confidence that of its best class, and it is right when that is its label.
    "pairs": an item is a video with a class (independent classes), its confidence their score, and it is right when the
    video has the class.
    ece: mean over items of |accuracy - confidence| of their bin. nll: mean negative log likelihood (natural log) of the
    label, of every pair for "pairs". brier: mean over videos of sum_k (p_k - y_k)^2, 0 to 2; for "pairs" the mean of
    (p - y)^2, 0 to 1.
    """

    of: Literal["top-1", "pairs"]
    items: int
    ece: float
    nll: float
    brier: float
    bins: tuple[ReliabilityBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "bins": [asdict(b) for b in self.bins]}


def calibrate(
    scores: NDArray[np.float32], truth: NDArray[np.bool_], activation: Activation, *, bins: int = BINS
) -> Calibration | None:
    """The calibration of video scores [N,K] against labels [N,K].

    None where scores cannot be probabilities of the labels: softmax scores of videos with other than one label, or
    scores that do not sum to 1 (vmz_joint) or are no numbers, or nothing to count.
    """
    if not truth.size or not np.isfinite(scores).all():
        return None
    values = scores.astype(np.float64)
    if activation == "sigmoid":
        return _of_pairs(values, truth, bins)
    if not (truth.sum(axis=1) == 1).all() or not np.allclose(values.sum(axis=1), 1, atol=1e-3):
        return None
    best = values.argmax(axis=1)
    rows = np.arange(len(values))
    table = reliability(values[rows, best], truth[rows, best], bins=bins)
    return Calibration(
        of="top-1",
        items=len(values),
        ece=_expected_error(table, len(values)),
        nll=float(-np.log(values[truth].clip(_SMALLEST)).mean()),
        brier=float(((values - truth) ** 2).sum(axis=1).mean()),
        bins=table,
    )


def reliability(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], *, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """The reliability table of items with a confidence from 0 to 1 each. confidence, correct: [N]."""
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges, confidence.clip(0, 1), side="left").clip(1) - 1  # (low, high]
    table = []
    for b in range(bins):
        inside = places == b
        count = int(inside.sum())
        table.append(
            ReliabilityBin(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                count=count,
                confidence=float(confidence[inside].mean()) if count else None,
                accuracy=float(correct[inside].mean()) if count else None,
            )
        )
    return tuple(table)


def _of_pairs(values: NDArray[np.float64], truth: NDArray[np.bool_], bins: int) -> Calibration:
    table = reliability(values.ravel(), truth.ravel(), bins=bins)
    right = np.where(truth, values, 1 - values)
    return Calibration(
        of="pairs",
        items=values.size,
        ece=_expected_error(table, values.size),
        nll=float(-np.log(right.clip(_SMALLEST)).mean()),
        brier=float(((values - truth) ** 2).mean()),
        bins=table,
    )


def _expected_error(table: tuple[ReliabilityBin, ...], items: int) -> float:
    used = [(b.count, b.accuracy, b.confidence) for b in table if b.accuracy is not None and b.confidence is not None]
    return sum(count * abs(accuracy - confidence) for count, accuracy, confidence in used) / items
