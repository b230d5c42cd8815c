"""Does a runtime compute what the reference framework computed? The one comparison, for export and for the server.

Distances are relative L2 norms over all values of all golden clips: ||actual - expected|| / ||expected||.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenclip_video.bundle import Tolerance

Floats = NDArray[np.float32] | NDArray[np.float64]


class Distance(NamedTuple):
    """Relative L2 distance of logits and of features from the expected ones."""

    logits: float
    features: float

    def within(self, tolerance: Tolerance) -> bool:
        """Whether both lie within the tolerance; never so for NaN or infinity, whatever the tolerance."""
        pairs = ((self.logits, tolerance.logits), (self.features, tolerance.features))
        return all(math.isfinite(drift) and drift <= allowed for drift, allowed in pairs)


def distance(actual: tuple[Floats, Floats], expected: tuple[Floats, Floats]) -> Distance:
    """Distance of (logits [B,K,P], features [B,D]) from the expected ones, for instance of two `Outputs`."""
    return Distance(relative_l2(actual[0], expected[0]), relative_l2(actual[1], expected[1]))


def relative_l2(actual: Floats, expected: Floats) -> float:
    """||actual - expected|| / ||expected||, computed in float64.

    Infinite for other shapes (broadcasting would hide a wrong one) and for values that are not finite. Against a
    reference of zeros only zeros agree: 0 for those, infinite for anything else.

    >>> relative_l2(np.array([3.0, 4.5]), np.array([3.0, 4.0]))
    0.1
    """
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return math.inf
    reference = np.asarray(expected, np.float64)
    difference = float(np.linalg.norm(np.asarray(actual, np.float64) - reference))
    scale = float(np.linalg.norm(reference))
    if scale == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / scale


def top1_agreement(actual: Floats, expected: Floats) -> float:
    """Share of clips whose highest class is the same. Logits [B,K,P] each; positions are averaged first.

    Without classes (K = 0, a model without a classifier) there is nothing to differ in: 1.
    """
    if actual.shape != expected.shape:
        return 0.0
    if actual.shape[1] == 0:
        return 1.0
    return float(np.mean(actual.mean(axis=2).argmax(axis=1) == expected.mean(axis=2).argmax(axis=1)))
