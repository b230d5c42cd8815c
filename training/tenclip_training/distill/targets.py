"""From a teacher's logits to what the student learns: DistInit's equation 1, and the gate of section 4.3.

B clips, M frames of each, K classes of a teacher. Entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def average_logits(logits: Floats) -> Floats:
    """[M,K] of the frames of one clip -> [K], their mean: eq. 1 averages logits, and not probabilities."""
    mean: Floats = logits.astype(np.float64).mean(0).astype(np.float32)
    return mean


def soft_targets(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """[...,K] -> [...,K]: the softmax of logits / tau (eq. 1).

    >>> soft_targets(np.array([3.0, 0.5, 0.5], np.float32)).round(5).tolist()
    [0.85898, 0.07051, 0.07051]
    """
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponents / exponents.sum(-1, keepdims=True)
    return probabilities


def entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """[...,K] -> [...]: -sum p ln p, from 0 to ln K.

    >>> float(entropy(np.array([0.97, 0.01, 0.01, 0.01])).round(4))
    0.1677
    """
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    found: NDArray[np.float64] = -(probabilities * logs).sum(-1) + 0.0
    return found


def entropies(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """[...,K] -> [...]: the entropy of the soft targets of mean logits."""
    return entropy(soft_targets(logits, temperature))


def is_kept(found: NDArray[np.float64], threshold: float | None) -> NDArray[np.bool_]:
    """Whether a teacher is sure enough of each clip: entropy below the threshold (the paper: < 2.7). None: of all."""
    return np.ones(found.shape, bool) if threshold is None else found < threshold


def percentile_threshold(found: Sequence[float] | NDArray[np.float64], percentile: float) -> float:
    """The entropy below which `percentile` per cent of these lie, so that about as many are kept.

    >>> percentile_threshold([1.0, 2.0, 3.0, 4.0], 50)
    2.5
    """
    return float(np.percentile(np.asarray(found, np.float64), percentile))
