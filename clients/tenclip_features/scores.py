"""Scores of a classifier: accuracy, mean average precision, confusion.

N videos, K classes of the classifier, L classes of the videos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class MeanAveragePrecision:
    """The mean over classes of the average precision, with its denominators.

    `classes_counted` have a positive row among the `rows`; `classes_left_out` have none, so that nothing can be said of
    them. value: NaN where no class counts.
    """

    value: float
    classes_counted: int
    classes_left_out: int
    rows: int

    @classmethod
    def of(cls, precisions: NDArray[np.float64], *, rows: int) -> MeanAveragePrecision:
        """precisions: the average precision of each class, NaN for one without a positive row.

        >>> MeanAveragePrecision.of(np.array([5 / 6, 1.0, 0.5, np.nan]), rows=4).value
        0.7777777777777778
        """
        counted = precisions[~np.isnan(precisions)]
        return cls(
            value=float(counted.mean()) if len(counted) else math.nan,
            classes_counted=len(counted),
            classes_left_out=len(precisions) - len(counted),
            rows=rows,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not a number is None."""
        return {
            "value": self.value if math.isfinite(self.value) else None,
            "classes_counted": self.classes_counted,
            "classes_left_out": self.classes_left_out,
            "rows": self.rows,
        }


@dataclass(frozen=True, kw_only=True)
class Score:
    """Top-1 and top-5 hits among `total`. Of several true labels one is enough for a hit.

    average_precision: its mean over classes; None where labels exclude one another.
    """

    top1_correct: int
    top5_correct: int
    total: int
    average_precision: MeanAveragePrecision | None = None

    @property
    def mean_average_precision(self) -> float | None:
        """The value of `average_precision`."""
        return None if self.average_precision is None else self.average_precision.value

    @property
    def top1(self) -> float:
        """Top-1 accuracy, from 0 to 1; NaN of none."""
        return self.top1_correct / self.total if self.total else math.nan

    @property
    def top5(self) -> float:
        """Top-5 accuracy, from 0 to 1; NaN of none."""
        return self.top5_correct / self.total if self.total else math.nan

    @property
    def main(self) -> float:
        """The mean average precision where there is one, else the top-1 accuracy."""
        return self.top1 if self.mean_average_precision is None else self.mean_average_precision

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {
            "top1": self.top1,
            "top5": self.top5,
            "top1_correct": self.top1_correct,
            "top5_correct": self.top5_correct,
            "total": self.total,
        }
        if self.average_precision is not None:
            values["mAP"] = self.average_precision.value
            values["mAP_classes_counted"] = self.average_precision.classes_counted
            values["mAP_classes_left_out"] = self.average_precision.classes_left_out
        return values


def score(probabilities: NDArray[np.float32], truth: NDArray[np.bool_], *, multi_label: bool) -> Score:
    """probabilities [N,K], truth [N,L] with L >= K: classes beyond K are those that the classifier does not know."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    hits = np.take_along_axis(truth, order, axis=1)
    return Score(
        top1_correct=int(hits[:, 0].sum()),
        top5_correct=int(hits.any(axis=1).sum()),
        total=len(truth),
        average_precision=_mean_of_classes(probabilities, truth) if multi_label else None,
    )


def average_precisions(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The average precision of each class [L]; NaN for a class that no row has.

    scores [N,K], truth [N,L]. A class that the classifier does not know has what chance gives: its share of the rows.
    A score that is not a number counts as the lowest.
    """
    # Only here: it brings scipy.stats and pandas, which every training process would wait for.
    from sklearn.metrics import average_precision_score

    broken = np.isnan(scores)
    if broken.any():
        lowest = scores[~broken].min() if not broken.all() else 0.0
        scores = np.where(broken, np.float32(lowest - 1), scores)
    values = np.full(truth.shape[1], np.nan)
    for k in np.flatnonzero(truth.any(axis=0)):
        known = k < scores.shape[1]
        values[k] = average_precision_score(truth[:, k], scores[:, k]) if known else truth[:, k].mean()
    return values


def mean_average_precision(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Mean of `average_precisions` over the classes that some row has; NaN where there is none."""
    return _mean_of_classes(scores, truth).value


def _mean_of_classes(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> MeanAveragePrecision:
    return MeanAveragePrecision.of(average_precisions(scores, truth), rows=len(truth))


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Predictions of a probe. names: N videos; truth: their labels; labels: K classes of the probe, in the
    order of probabilities, float32 [N,K]; fold: where each was held out, or the file that lists it ("" for one split).
    """

    names: tuple[str, ...]
    truth: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    fold: str = ""

    @property
    def predicted(self) -> tuple[str, ...]:
        """The most probable class of each video."""
        return tuple(self.labels[k] for k in self.probabilities.argmax(axis=1))


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often videos of class i (row) were taken for class j (column): int64 [L,L]."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"labels": list(self.labels), "rows_true_columns_predicted": self.counts.tolist()}


def confusion(predictions: Sequence[Predictions], labels: Sequence[str]) -> Confusion:
    """Over all predictions, for videos of one label each. `labels` gives the order; classes without a video or a
    prediction are left out."""
    pairs = [(t[0], p) for one in predictions for t, p in zip(one.truth, one.predicted, strict=True)]
    seen = {label for pair in pairs for label in pair}
    kept = tuple(label for label in labels if label in seen)
    index = {label: i for i, label in enumerate(kept)}
    counts = np.zeros((len(kept), len(kept)), np.int64)
    for true, predicted in pairs:
        counts[index[true], index[predicted]] += 1
    return Confusion(kept, counts)
