"""Linear classifiers on standardised features: L2-regularised logistic regression, fitted by scikit-learn.

N rows, D features, K classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

MAX_ITERATIONS = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A linear classifier on standardised features: logits = weights @ ((features - mean) / scale) + bias.

    labels: K classes; mean, scale: float32 [D]; weights: float32 [K,D]; bias: float32 [K].
    multi_label: classes are independent (a sigmoid each), else they exclude one another (one softmax).
    model, version, model_weights: the model whose features it takes; model_weights is the table's hash, "" if unknown.
    """

    labels: tuple[str, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    model: str
    version: str
    model_weights: str = ""
    multi_label: bool = False

    @property
    def feature_dim(self) -> int:
        """D."""
        return len(self.mean)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """float [N,D] -> float32 [N,K]. Raises ValueError for features of another length."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"the probe takes [N,{len(self.mean)}], got {list(features.shape)}")
        standard = (features.astype(np.float32) - self.mean) / self.scale
        return np.asarray(standard @ self.weights.T + self.bias, np.float32)

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """float [N,D] -> float32 [N,K]. Raises ValueError for features of another length."""
        logits = self.logits(features)
        return np.asarray(expit(logits) if self.multi_label else softmax(logits, axis=-1), np.float32)

    def folded(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(weights [K,D], bias [K]) for features as they are, with the standardisation in the weights."""
        weights = self.weights.astype(np.float64) / self.scale
        return weights, self.bias - weights @ self.mean.astype(np.float64)


class Linear(NamedTuple):
    """The numbers of a `Probe`, and whether the solver converged."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    converged: bool

    def logits(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N,D] -> [N,K]."""
        return np.asarray((rows - self.mean) / self.scale @ self.weights.T + self.bias, np.float32)


def fit_linear(
    rows: NDArray[np.float32], targets: NDArray[np.bool_], strength: float, *, multi_label: bool = False
) -> Linear:
    """Fit on rows [N,D] of targets [N,K]; `strength` is C, the inverse strength of the regularisation.

    One regression for each class against the rest where `multi_label`; else one for all, and each row has one class.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    scale = rows.std(axis=0, dtype=np.float64)
    scale[scale < 1e-8 * np.maximum(1, np.abs(mean))] = 1.0  # a feature that never varies tells nothing apart
    standard = (rows - mean) / scale
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        fit = _one_vs_rest if multi_label else _multinomial
        weights, bias = fit(standard, targets, strength)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return Linear(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        converged=converged,
    )


def _multinomial(
    rows: NDArray[np.float64], targets: NDArray[np.bool_], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Classes without a row get the bias -inf."""
    regression = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS)
    regression.fit(rows, targets.argmax(axis=1))
    weights, bias = np.zeros((targets.shape[1], rows.shape[1])), np.full(targets.shape[1], -np.inf)
    if len(regression.classes_) == 2:
        # scikit-learn gives one sigmoid; a softmax of plus and minus half of it is the same.
        weights[regression.classes_] = np.stack([-regression.coef_[0] / 2, regression.coef_[0] / 2])
        bias[regression.classes_] = [-regression.intercept_[0] / 2, regression.intercept_[0] / 2]
    else:
        weights[regression.classes_], bias[regression.classes_] = regression.coef_, regression.intercept_
    return weights, bias


def _one_vs_rest(
    rows: NDArray[np.float64], targets: NDArray[np.bool_], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A class that all rows have, or none, gets a constant score."""
    weights, bias = np.zeros((targets.shape[1], rows.shape[1])), np.zeros(targets.shape[1])
    for k, of_class in enumerate(targets.T):
        positive = int(of_class.sum())
        if positive in (0, len(of_class)):
            bias[k] = np.log((positive + 1) / (len(of_class) - positive + 1))
            continue
        regression = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS).fit(rows, of_class)
        weights[k], bias[k] = regression.coef_[0], regression.intercept_[0]
    return weights, bias
