"""A finding: a question of a paper, the arms that answer it, and what would count as an answer.

A finding is one module with a `FINDING`. Its arms are jobs whose `scores.npz` says for each test video whether it was
right; a contrast is a weighted sum of arms, video by video. What is expected stands in the finding, before it is run;
whether it is shown is computed, by `verdict_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.statistics import Comparison, compare

# Of an effect: its sign; or that there is none, no gain or no loss of more than `DETECTABLE_POINTS`.
Expected = Literal["positive", "negative", "none", "no gain", "no loss"]
Shown = Literal["shown", "not shown", "the opposite is shown"]

# In the name of a finding on own videos, between that on generated ones and that of the data.
OWN = "@"
# What 5 seeds of 1,600 test videos can tell: smaller effects of a paper will read "not shown", and say so beforehand.
DETECTABLE_POINTS = 2.0


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """weights: by arm; their weighted sum of accuracies is the effect. expected: see `verdict_of`. paper: its
    own figure, in words. unit: of the effect.
    """

    name: str
    weights: Mapping[str, float]
    expected: Expected = "positive"
    paper: str = ""
    unit: str = "points"
    below_detection: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """number: its place in lists. paper: which paper, section and table. arms: from a seed's laboratory to arms by
    name, each a job with scores. headline: contrasts of few arms, which are also made with another network. baseline:
    the arm that difficulty was set by; tuning: the command that shows it, where `--tuning` cannot. chance: accuracy of
    guessing, in per cent. precision: from a scale to what its networks are trained in, None where that hangs on the
    machine; for findings in which that of the run does not decide.
    """

    number: int
    name: str
    question: str
    paper: str
    data: str
    arms: Callable[[Lab], Mapping[str, Job]]
    contrasts: Sequence[Contrast]
    headline: Sequence[Contrast] = ()
    baseline: str
    chance: float
    seeds: int = 5
    quick: bool = False
    notes: str = ""
    tuning: str = ""
    precision: Callable[[float], str | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A contrast over the seeds that were run, in points (of 100)."""

    contrast: Contrast
    comparison: Comparison

    @property
    def verdict(self) -> Shown:
        return verdict_of(self.contrast.expected, self.comparison)


def contrast_of(contrast: Contrast, seeds: Sequence[Mapping[str, NDArray[np.bool_]]]) -> Result:
    """seeds: for each seed the arms' correct [N], by name. Raises KeyError for an arm that is not there, ValueError for
    arms of different videos.
    """
    pairs = []
    for arms in seeds:
        values = [weight * arms[name].astype(np.float64) for name, weight in contrast.weights.items()]
        total = 100 * np.sum(values, axis=0)
        pairs.append((total, np.zeros_like(total)))
    return Result(contrast=contrast, comparison=compare(pairs, over_seeds="student"))


def verdict_of(expected: Expected, comparison: Comparison) -> Shown:
    """Shown: all seeds agree in sign and the interval of the mean excludes zero. Where no effect is expected: the
    interval lies within `DETECTABLE_POINTS` of zero, on the side that is asked about; and the opposite, where all of it
    lies beyond.
    """
    if expected in _ABSENT:
        low, high = _ABSENT[expected]
        if low <= comparison.mean.low and comparison.mean.high <= high:
            return "shown"
        beyond = comparison.mean.low > high or comparison.mean.high < low
        return "the opposite is shown" if beyond else "not shown"
    if expected == "positive" or comparison.verdict == "not shown":
        return comparison.verdict
    return "shown" if comparison.verdict == "the opposite is shown" else "the opposite is shown"


_ABSENT: dict[str, tuple[float, float]] = {
    "none": (-DETECTABLE_POINTS, DETECTABLE_POINTS),
    "no gain": (-math.inf, DETECTABLE_POINTS),
    "no loss": (-DETECTABLE_POINTS, math.inf),
}


def slope(points: Mapping[str, float]) -> dict[str, float]:
    """Weights of arms whose sum is the least-squares slope of accuracy over x. points: x by arm.

    >>> slope({"a": 0.0, "b": 1.0})
    {'a': -1.0, 'b': 1.0}
    """
    x = np.array(list(points.values()), np.float64)
    centred = x - x.mean()
    return {name: float(w) for name, w in zip(points, centred / (centred**2).sum(), strict=True)}


def difference(after: str, before: str) -> dict[str, float]:
    """Weights of one arm less another."""
    return {after: 1.0, before: -1.0}
