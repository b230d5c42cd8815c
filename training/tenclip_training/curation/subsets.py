"""Subsets of a dataset, nested by seed: the smaller one lies inside the larger one of the same seed and kind.

A video of several labels belongs, for the choice, to the rarest of its classes, so that tail classes stay whole.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.samples import Sample
from tenclip_data.splits import seeded_rank
from tenclip_training.curation.budgets import capped_counts, level, prefix_within, ranked

Kind = Literal["random", "tail-preserving", "classes", "instances", "short", "long", "long-center"]
DURATION_KINDS = ("short", "long", "long-center")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much of a dataset to keep: exactly one of the three. fraction: of the videos, or for classes of the classes.

    Raises InvalidRequest.
    """

    videos: int | None = None
    minutes: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        given = [n for n in ("videos", "minutes", "fraction") if getattr(self, n) is not None]
        if len(given) != 1:
            raise InvalidRequest(
                f"a budget is one of videos, minutes and fraction; got {' and '.join(given) or 'none'}"
            )
        value = getattr(self, given[0])
        if not value > 0 or not math.isfinite(value):
            raise InvalidRequest(f"a budget of {given[0]} must be above 0, got {value}")
        if self.fraction is not None and self.fraction > 1:
            raise InvalidRequest(f"a fraction lies above 0 and up to 1, got {self.fraction}")


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Seconds of short and of long videos, both ends included, and of the middle of a long one (IG-65M, 4.3.1)."""

    short: tuple[float, float] = (1.0, 5.0)
    long: tuple[float, float] = (55.0, 60.0)
    center_seconds: float = 4.0


def random_subset(
    samples: Sequence[Sample], budget: Budget, *, seed: int, seconds: Mapping[str, float] | None = None
) -> list[Sample]:
    """Videos at random. seconds: duration by key, for a budget of minutes."""
    order = _in_rank_order(samples, seed)
    if budget.minutes is not None:
        count = prefix_within((_need(seconds)[s.key] for s in order), 60 * budget.minutes)
    else:
        count = _video_count(len(samples), budget)
    return _in_given_order(samples, order[:count])


def tail_preserving_subset(
    samples: Sequence[Sample], budget: Budget, *, seed: int, seconds: Mapping[str, float] | None = None
) -> list[Sample]:
    """All videos of tail classes; of head classes equally many, or equally many minutes (IG-65M, 4.1.1)."""
    classes = by_class(samples, seed)
    if budget.minutes is None:
        counts = capped_counts(
            {c: len(members) for c, members in classes.items()}, _video_count(len(samples), budget), seed=seed
        )
        kept = [s for c, members in classes.items() for s in members[: counts[c]]]
    else:
        lengths = {c: [_need(seconds)[s.key] for s in members] for c, members in classes.items()}
        totals = {c: math.fsum(values) for c, values in lengths.items()}
        cap = (
            math.inf
            if 60 * budget.minutes >= sum(totals.values())
            else level(sorted(totals.values()), 60 * budget.minutes)
        )
        kept = [s for c, members in classes.items() for s in members[: prefix_within(lengths[c], cap)]]
    return _in_given_order(samples, kept)


def class_subset(samples: Sequence[Sample], fraction: float, *, seed: int) -> list[Sample]:
    """All videos of a part of the classes (mega-scale, 4.2): round(fraction K) of them, at least one.

    Labels of classes that are not chosen are taken off videos of several labels.
    """
    classes = ranked({label for s in samples for label in s.labels}, seed)
    chosen = set(classes[: max(round(fraction * len(classes)), 1)])
    kept = [dataclasses.replace(s, labels=tuple(label for label in s.labels if label in chosen)) for s in samples]
    return [s for s in kept if s.labels]


def instance_subset(samples: Sequence[Sample], fraction: float, *, seed: int) -> list[Sample]:
    """A part of the videos of every class (mega-scale, 4.2): ceil(fraction N), so at least one."""
    kept = [
        s for members in by_class(samples, seed).values() for s in members[: math.ceil(fraction * len(members) - 1e-9)]
    ]
    return _in_given_order(samples, kept)


def duration_subset(
    samples: Sequence[Sample],
    kind: Kind,
    *,
    seed: int,
    seconds: Mapping[str, float],
    bands: Bands | None = None,
    budget: Budget | None = None,
) -> list[Sample]:
    """One of the sets short, long and long-center (IG-65M, 4.3.1), with equally many videos of each class in all three.

    Of each class min(short videos, long videos) are kept, the tail-preserving way where a budget asks for fewer; long
    and long-center are the same videos. A budget of minutes cuts this set alone, so that long sets of as many minutes
    as the short set can be made.
    Raises DatasetError for a band without videos, and where no class has both.
    """
    bands = bands or Bands()
    short = by_class(_in_band(samples, seconds, bands.short, "short"), seed)
    long = by_class(_in_band(samples, seconds, bands.long, "long"), seed)
    counts = {c: min(len(short[c]), len(long[c])) for c in short.keys() & long.keys()}
    if not counts:
        raise DatasetError("no class has both short and long videos, so no sets with equal labels can be made")
    if budget is not None and budget.minutes is None:
        counts = capped_counts(counts, _video_count(sum(counts.values()), budget), seed=seed)
    members = short if kind == "short" else long
    kept = [s for c in counts for s in members[c][: counts[c]]]
    if kind == "long-center":
        kept = [_center(s, seconds[s.key], bands.center_seconds) for s in kept]
    if budget is not None and budget.minutes is not None:
        lengths = {s.key: bands.center_seconds if kind == "long-center" else seconds[s.key] for s in kept}
        kept = tail_preserving_subset(kept, budget, seed=seed, seconds=lengths)
    position = {s.path: i for i, s in enumerate(samples)}
    return sorted(kept, key=lambda s: (position[s.path], s.start_seconds or 0.0))


def by_class(samples: Sequence[Sample], seed: int) -> dict[str, list[Sample]]:
    """Videos by class, each once and in the order of their ranks. Of several labels the rarest counts."""
    counts = Counter(label for s in samples for label in s.labels)
    classes: dict[str, list[Sample]] = defaultdict(list)
    for sample in _in_rank_order(samples, seed):
        classes[min(sample.labels, key=lambda label: (counts[label], label))].append(sample)
    return dict(sorted(classes.items()))


def _in_band(
    samples: Sequence[Sample], seconds: Mapping[str, float], band: tuple[float, float], name: str
) -> list[Sample]:
    found = [s for s in samples if s.key in seconds and band[0] <= seconds[s.key] <= band[1]]
    if not found:
        known = [seconds[s.key] for s in samples if s.key in seconds]
        there = f"they last {min(known):.1f} to {max(known):.1f} s" if known else "no duration is known"
        raise DatasetError(f"no video of {band[0]:g} to {band[1]:g} s for the {name} set: {there}")
    return found


def _center(sample: Sample, seconds: float, wanted: float) -> Sample:
    middle = (sample.start_seconds or 0.0) + seconds / 2
    half = min(wanted, seconds) / 2
    return dataclasses.replace(sample, start_seconds=round(middle - half, 6), end_seconds=round(middle + half, 6))


def _video_count(total: int, budget: Budget) -> int:
    if budget.fraction is not None:
        return max(round(budget.fraction * total), 1)
    assert budget.videos is not None
    if budget.videos > total:
        raise DatasetError(f"a budget of {budget.videos} videos, where there are {total}")
    return budget.videos


def _in_rank_order(samples: Sequence[Sample], seed: int) -> list[Sample]:
    key: Callable[[Sample], tuple[bytes, str]] = lambda s: (seeded_rank(seed, s.key), s.key)  # noqa: E731
    return sorted(samples, key=key)


def _in_given_order(samples: Sequence[Sample], kept: Sequence[Sample]) -> list[Sample]:
    chosen = {id(s) for s in kept}
    return [s for s in samples if id(s) in chosen]


def _need(seconds: Mapping[str, float] | None) -> Mapping[str, float]:
    if seconds is None:
        raise ValueError("a budget of minutes needs the durations of the videos")
    return seconds
