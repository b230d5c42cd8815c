"""From the settings of a run to its sampler, and what that sampler will do, said before the run.

K classes, N videos, D draws an epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tenclip_training.data.class_sampler import ClassIndex, ClassSampler, class_probabilities
from tenclip_training.data.samplers import DrawSampler, EpochSampler
from tenclip_training.data.tags import Tags, TargetKind, fixed_tags

# A video that is seen more often than this in an epoch is learned by heart.
MANY_REPEATS = 30.0
_ROWS = 5  # classes shown of the most, and of the least frequent ones


class Sampling(Protocol):
    """The settings of sampling.

    class_power: exponent of p(c) ~ N_c^a; class_cap: most that a class counts, N_cap. With neither, videos are drawn
    and not classes. draws: D; None: every video `clips_per_video` times. tags: what a softmax makes of several tags.
    """

    @property
    def tags(self) -> Tags: ...
    @property
    def class_power(self) -> float | None: ...
    @property
    def class_cap(self) -> int | None: ...
    @property
    def draws(self) -> int | None: ...
    @property
    def clips_per_video(self) -> int: ...


def build_sampler(
    labels: Sequence[tuple[int, ...]],
    num_classes: int,
    sampling: Sampling,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    micro_batches: int = 1,
    rank: int = 0,
    world_size: int = 1,
    first_epoch: int = 0,
    first_step: int = 0,
) -> EpochSampler:
    """The sampler of one process. labels: of each video, as numbers of classes.

    Raises ValueError for settings that contradict each other, and for a video without a label.
    """
    place: dict[str, Any] = {
        "batch_size": batch_size,
        "micro_batches": micro_batches,
        "epochs": epochs,
        "seed": seed,
        "rank": rank,
        "world_size": world_size,
        "first_epoch": first_epoch,
        "first_step": first_step,
    }
    draws = _draws(sampling, len(labels))
    if not _by_class(sampling):
        if sampling.draws is None:
            return DrawSampler(num_samples=len(labels), clips_per_video=sampling.clips_per_video, **place)
        # One class of all videos: an epoch is the next `draws` of an endless walk through them.
        everything = ClassIndex.of([(0,)] * len(labels), 1, seed=seed)
        return ClassSampler(index=everything, probabilities=np.ones(1), draws=draws, labelled=False, **place)
    index = ClassIndex.of(_tags_to_sample(labels, sampling, seed), num_classes, seed=seed)
    probabilities = _probabilities(index.counts, sampling)
    return ClassSampler(index=index, probabilities=probabilities, draws=draws, **place)


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class: N_c, its part of the draws, and its draws in an epoch.

    repeats: how often a video that is in this class alone is seen in an epoch.
    """

    name: str
    videos: float
    probability: float
    draws: float
    repeats: float


@dataclass(frozen=True, kw_only=True)
class SamplingSummary:
    """What a sampler does in an epoch, in expectation.

    scheme: in words; targets: see `tags.py`. classes: those with videos; without_videos: names of the others.
    largest_repeats: how often the video that is seen most is seen in an epoch, by all its tags; `repeated_class` is the
    class that does most of it, where classes are drawn. rows: the most frequent classes, then the least frequent ones.
    """

    scheme: str
    targets: TargetKind
    videos: int
    draws: int
    classes: int
    without_videos: tuple[str, ...]
    largest_repeats: float
    repeated_class: str | None
    rows: tuple[ClassRow, ...]

    @property
    def warning(self) -> str | None:
        """What a person should know before starting: a video that is repeated more than 30 times an epoch."""
        if self.largest_repeats <= MANY_REPEATS:
            return None
        of = f" of class {self.repeated_class!r}" if self.repeated_class is not None else ""
        return (
            f"a video{of} is seen {self.largest_repeats:.0f} times in an epoch of {self.draws} clips, more than "
            f"{MANY_REPEATS:.0f}: draw fewer clips an epoch, or raise class_power towards 1"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "warning": self.warning}

    def lines(self) -> list[str]:
        """The same as text."""
        found = [
            f"sampling: {self.scheme}; {self.draws} clips an epoch of {self.videos} videos; targets: {self.targets}",
            f"classes: {self.classes} with videos, {len(self.without_videos)} without",
            f"largest expected repeats of a video in an epoch: {self.largest_repeats:.3g}"
            + (f" ({self.repeated_class})" if self.repeated_class is not None else ""),
        ]
        for row in self.rows:
            found.append(
                f"  {row.name}: {row.videos:g} videos, p {row.probability:.4f}, {row.draws:.1f} draws, "
                f"{row.repeats:.3g} a video"
            )
        return found if self.warning is None else [*found, f"warning: {self.warning}"]


def describe(
    labels: Sequence[tuple[int, ...]],
    class_names: Sequence[str],
    sampling: Sampling,
    *,
    seed: int,
    targets: TargetKind | None = None,
) -> SamplingSummary:
    """What `build_sampler` would do with these. targets: where they are not by `sampling.tags`.

    Raises ValueError as it does.
    """
    draws = _draws(sampling, len(labels))
    by_class = _by_class(sampling)
    sampled = _tags_to_sample(labels, sampling, seed) if by_class else labels
    index = ClassIndex.of(sampled, len(class_names), seed=seed)
    counts = index.counts
    p = _probabilities(counts, sampling) if by_class else counts / counts.sum()
    # A video of k tags is 1/k of the N_c of each.
    repeats = np.divide(draws * p, counts, out=np.zeros_like(p), where=counts > 0)  # [K], of a video with one tag
    owners = np.repeat(np.arange(len(counts)), np.diff(index.offsets))
    per_video = np.bincount(index.videos, weights=repeats[owners] / index.tags, minlength=len(labels))
    most = int(per_video.argmax())
    repeated = max(sampled[most], key=lambda c: repeats[c])
    rows = [
        ClassRow(
            name=class_names[c],
            videos=float(counts[c]),
            probability=float(p[c]),
            draws=float(draws * p[c]),
            repeats=float(repeats[c]),
        )
        for c in _ends(counts)
    ]
    return SamplingSummary(
        scheme=_scheme(sampling),
        targets=targets or sampling.tags,
        videos=len(labels),
        draws=draws,
        classes=int((counts > 0).sum()),
        without_videos=tuple(class_names[c] for c in np.flatnonzero(counts == 0).tolist()),
        largest_repeats=float(per_video[most]),
        repeated_class=class_names[repeated] if by_class else None,
        rows=tuple(rows),
    )


def can_repeat(sampling: Sampling) -> bool:
    """Whether a video may be drawn more often than `clips_per_video` times in an epoch."""
    return _by_class(sampling) or sampling.draws is not None


def _by_class(sampling: Sampling) -> bool:
    return sampling.class_power is not None or sampling.class_cap is not None


def _draws(sampling: Sampling, num_videos: int) -> int:
    if sampling.draws is None:
        return num_videos * sampling.clips_per_video
    if sampling.clips_per_video != 1:
        raise ValueError(
            f"draws ({sampling.draws}) is the number of clips in an epoch, and so is clips_per_video "
            f"({sampling.clips_per_video}) times the videos: give one of them"
        )
    return sampling.draws


def _tags_to_sample(labels: Sequence[tuple[int, ...]], sampling: Sampling, seed: int) -> Sequence[tuple[int, ...]]:
    """A video whose tag is fixed has that one alone."""
    return fixed_tags(labels, seed=seed) if sampling.tags == "fixed" else labels


def _probabilities(counts: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    power = 1.0 if sampling.class_power is None else sampling.class_power
    return class_probabilities(counts, power=power, cap=sampling.class_cap)


def _scheme(sampling: Sampling) -> str:
    if not _by_class(sampling):
        return "every video in turn"
    base = "N" if sampling.class_cap is None else f"min(N, {sampling.class_cap})"
    power = 1.0 if sampling.class_power is None else sampling.class_power
    names = {0.0: "balanced", 0.5: "square root"} if sampling.class_cap is None else {}
    scheme = f"classes by {base}^{power:g}" if power != 1 else f"classes by {base}"
    return f"{scheme} ({names[power]})" if power in names else scheme


def _ends(counts: NDArray[np.float64]) -> list[int]:
    order = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c] > 0]
    return order if len(order) <= 2 * _ROWS else order[:_ROWS] + order[-_ROWS:]
