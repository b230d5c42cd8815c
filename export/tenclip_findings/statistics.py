"""What counts as shown: paired bootstraps over videos, and verdicts over several seeds.

The two arms of a comparison see the same videos, so their differences are taken video by video. An effect is shown
where every seed gives a difference of the same sign and the interval of their mean excludes zero: it covers the luck of
the seeds as well as that of the videos. N videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from scipy.stats import t as student

DRAWS = 4000
CONFIDENCE = 0.95

Verdict = Literal["shown", "not shown", "the opposite is shown"]
# Of the mean over seeds: "bootstrap" draws seeds anew, and the videos of each; "student" is Student's t of the seeds'
# means, where there are two or more. Five seeds drawn anew give intervals that hold the mean too rarely.
OverSeeds = Literal["bootstrap", "student"]
BoundVerdict = Literal["holds", "within chance", "does not hold"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference of paired values, with its bootstrap interval [low, high] at `confidence`."""

    mean: float
    low: float
    high: float
    num_videos: int
    confidence: float = CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arm `after` less arm `before`: each seed by itself, and the mean over seeds, whose interval covers the luck of
    seeds and videos. With one seed both are the same.
    """

    seeds: tuple[Difference, ...]
    mean: Difference

    @property
    def verdict(self) -> Verdict:
        """Whether `after` is larger: "shown", "the opposite is shown" where it is smaller, or "not shown"."""
        signs = {np.sign(d.mean) for d in self.seeds}
        if signs == {1.0} and self.mean.low > 0:
            return "shown"
        if signs == {-1.0} and self.mean.high < 0:
            return "the opposite is shown"
        return "not shown"

    @property
    def excludes_a_loss(self) -> bool:
        """Whether `after` reaches `before`: no seed is below it, and the interval of the mean does not go below it."""
        return all(d.mean >= 0 for d in self.seeds) and self.mean.low >= 0

    @property
    def shows_no_loss(self) -> bool:
        """Whether the data do not show that `after` is smaller. This is weaker than `excludes_a_loss`."""
        return self.verdict != "the opposite is shown"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over seeds: its mean, the smallest and the largest, and the sample standard deviation (0 of one)."""

    mean: float
    low: float
    high: float
    deviation: float
    num_seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError where there are no values."""
        if not values:
            raise ValueError("the spread of no values; give one at least")
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(
            mean=float(np.mean(values)),
            low=float(min(values)),
            high=float(max(values)),
            deviation=deviation,
            num_seeds=len(values),
        )


def compare(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    over_seeds: OverSeeds = "bootstrap",
) -> Comparison:
    """Compare two arms over several seeds.

    pairs: for each seed (after, before), values [N] of the same videos in the same order: 1 and 0 for right and wrong,
    say. seed: of the bootstrap's draws.
    Raises ValueError for arms of different videos, for no videos and for no seeds.
    """
    if not pairs:
        raise ValueError("a comparison of no seeds; give one pair of arms at least")
    rng = np.random.default_rng(seed)
    differences = [_paired(after, before) for after, before in pairs]
    means = np.stack([_bootstrap_means(d, rng, draws) for d in differences])  # [seeds, draws]
    seeds = tuple(_interval(d.mean(), m, len(d), confidence) for d, m in zip(differences, means, strict=True))
    overall = float(np.mean([d.mean() for d in differences]))
    total = sum(len(d) for d in differences)
    if over_seeds == "student" and len(differences) > 1:
        return Comparison(seeds=seeds, mean=_student(means, [float(d.mean()) for d in differences], total, confidence))
    drawn = rng.integers(len(means), size=(len(means), draws))
    together = means[drawn, np.arange(draws)].mean(axis=0)
    return Comparison(seeds=seeds, mean=_interval(overall, together, total, confidence))


def _paired(after: ArrayLike, before: ArrayLike) -> NDArray[np.float64]:
    first, second = np.asarray(after, np.float64), np.asarray(before, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"arms must be of the same videos, one value each: got {first.shape} and {second.shape}")
    return first - second


def _bootstrap_means(values: NDArray[np.float64], rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    """[draws] means of as many values drawn with replacement."""
    means: NDArray[np.float64] = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    return means


def _interval(mean: float, means: NDArray[np.float64], count: int, confidence: float) -> Difference:
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(mean=float(mean), low=float(low), high=float(high), num_videos=count, confidence=confidence)


def _student(drawn: NDArray[np.float64], seeds: Sequence[float], count: int, confidence: float) -> Difference:
    """drawn: means of videos drawn anew, [seeds, draws]. The error is that of the seeds, and never less than that of
    the videos alone, which seeds that agree by luck would hide.
    """
    number = len(seeds)
    error = max(np.std(seeds, ddof=1) / np.sqrt(number), np.sqrt(drawn.var(axis=1).sum()) / number)
    half = float(student.ppf((1 + confidence) / 2, number - 1) * error)
    mean = float(np.mean(seeds))
    return Difference(mean=mean, low=mean - half, high=mean + half, num_videos=count, confidence=confidence)


@dataclass(frozen=True, kw_only=True)
class BoundCheck:
    """A stated bound on the share of videos that differ, against `different` of `total` observed.

    low, high: exact (Clopper-Pearson) interval of the share at `confidence`.
    """

    bound: float
    different: int
    total: int
    low: float
    high: float
    confidence: float = CONFIDENCE

    @property
    def observed(self) -> float:
        """The share that differed."""
        return self.different / self.total

    @property
    def verdict(self) -> BoundVerdict:
        """ "holds": the observed share is within the bound. "does not hold": the whole interval lies above it."""
        if self.observed <= self.bound:
            return "holds"
        return "does not hold" if self.low > self.bound else "within chance"


def check_bound(bound: float, different: int, total: int, *, confidence: float = CONFIDENCE) -> BoundCheck:
    """Raises ValueError for no videos, or more that differ than there are."""
    if not 0 <= different <= total or total < 1:
        raise ValueError(f"{different} of {total} videos cannot differ; give at least one video, and no more than all")
    interval = binomtest(different, total).proportion_ci(confidence, method="exact")
    return BoundCheck(
        bound=bound,
        different=different,
        total=total,
        low=float(interval.low),
        high=float(interval.high),
        confidence=confidence,
    )
