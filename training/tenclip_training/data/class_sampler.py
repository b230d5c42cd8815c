"""Sampling by class: a class first, then one of its videos.

One exponent covers the papers: p(c) ~ N_c^a with a = 1 plain, 0.5 square root (IG-65M, section 3.1.1), 0.2 power law
(OmniSource, section 3.6), 0 balanced; OmniSource's clipped sampling is p(c) ~ min(N_c, N_cap).

Neither paper says what N_c is where videos have several tags. Here a video with k tags counts 1/k in each of its
classes, and is drawn there with p ~ 1/k; with a = 1 that is a uniform video with a uniform tag.

Within a class the videos come in rounds, as cards from a shuffled pack: a video with one tag is in every round, one
with k tags in every k-th. So two videos with equally many tags have never been drawn more than once apart. The n-th
draw from a class follows from (seed, class, n), and how many draws came before an epoch from (seed, epoch) of those
before: a run goes on anywhere without a state, at the price of one vector of counts for each epoch that is over.

K classes, N videos, P pairs of a video and one of its tags, D draws an epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tenclip_training.data.random_streams import Stream, stream
from tenclip_training.data.samplers import EpochDraws, EpochSampler

# Rounds of a small class are shuffled many at a time: a generator costs as much as some hundred of its numbers.
_NUMBERS_PER_BLOCK = 256


def class_probabilities(
    counts: NDArray[np.float64], *, power: float = 1.0, cap: float | None = None
) -> NDArray[np.float64]:
    """p(c) ~ min(N_c, cap)^power, [K]; 0 for a class without videos, whatever the power.

    Raises ValueError when all are without.

    >>> class_probabilities(np.array([900.0, 100.0, 4.0]), power=0.5).round(4).tolist()
    [0.7143, 0.2381, 0.0476]
    """
    if not counts.any():
        raise ValueError("no class has a video to draw")
    kept = counts if cap is None else np.minimum(counts, cap)
    weights: NDArray[np.float64] = np.where(counts > 0, np.power(np.where(counts > 0, kept, 1.0), power), 0.0)
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassIndex:
    """Which videos each class has: those of class c are at offsets[c]:offsets[c + 1] of the int64 [P] arrays.

    videos: index of the sample; tags: how many tags it has, k; slots: which of them this class is, from 0; phases: the
    first of the rounds, 0 to k - 1, that the video is in.
    """

    num_videos: int
    offsets: NDArray[np.int64]  # [K+1]
    videos: NDArray[np.int64]
    tags: NDArray[np.int64]
    slots: NDArray[np.int64]
    phases: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]], num_classes: int, *, seed: int) -> Self:
        """labels: of each video. Raises ValueError for a video without any, and for one that is no class."""
        per_video = np.fromiter(map(len, labels), np.int64, len(labels))
        if not per_video.all():
            raise ValueError(f"video {int(per_video.argmin())} has no label, so no class can draw it")
        classes = np.fromiter(chain.from_iterable(labels), np.int64, int(per_video.sum()))
        if len(classes) and not 0 <= classes.min() <= classes.max() < num_classes:
            raise ValueError(f"labels are {classes.min()} to {classes.max()}, where there are {num_classes} classes")
        starts = np.repeat(np.cumsum(per_video) - per_video, per_video)
        order = np.argsort(classes, kind="stable")
        tags = np.repeat(per_video, per_video)[order]
        return cls(
            num_videos=len(labels),
            offsets=np.searchsorted(classes[order], np.arange(num_classes + 1)),
            videos=np.repeat(np.arange(len(labels)), per_video)[order],
            tags=tags,
            slots=(np.arange(len(classes)) - starts)[order],
            phases=_phases(classes[order], tags, seed),
        )

    @property
    def counts(self) -> NDArray[np.float64]:
        """N_c of each class, [K]: the sum of 1/k over its videos."""
        classes = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        counts: NDArray[np.float64] = np.bincount(classes, 1 / self.tags, len(self.offsets) - 1).astype(np.float64)
        return counts.round(9)  # thirds do not add up to 1 exactly

    def walk(self, c: int, start: int, num_draws: int, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(visits, videos) of draws start ... start + num_draws - 1 from class c, int64 [num_draws] each."""
        members = slice(self.offsets[c], self.offsets[c + 1])
        videos, tags, slots, phases = (a[members] for a in (self.videos, self.tags, self.slots, self.phases))
        first = _round_of(start, tags, phases)
        skip = start - _draws_before(first, tags, phases)
        rounds_per_block = max(1, _NUMBERS_PER_BLOCK // len(videos))
        visits, drawn, missing = [], [], skip + num_draws
        for block in count(first // rounds_per_block):
            rounds = np.arange(block * rounds_per_block, (block + 1) * rounds_per_block)[:, None]
            keys = stream(Stream.WALK, seed, c, block).random((rounds_per_block, len(videos)))
            order = keys.argsort(axis=1, kind="stable")  # a shuffled pack in each row
            k = tags[order]
            taken = (rounds % k == phases[order]) & (rounds >= first)
            # Of a video's visits by all its tags no two have the same number, or they would be the same clip.
            visits.append((rounds // k * k + slots[order])[taken])
            drawn.append(videos[order[taken]])
            missing -= len(drawn[-1])
            if missing <= 0:
                break
        wanted = slice(skip, skip + num_draws)
        return np.concatenate(visits)[wanted], np.concatenate(drawn)[wanted]


def _phases(classes: NDArray[np.int64], tags: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Of each class the videos with k tags are dealt out to k rounds, as evenly as they go. classes: ascending."""
    random = stream(Stream.PHASE, seed).integers(1 << 62, size=len(classes))
    order = np.lexsort((random, tags, classes))
    starts_group = np.ones(len(order), bool)
    starts_group[1:] = (np.diff(classes[order]) != 0) | (np.diff(tags[order]) != 0)
    starts = np.maximum.accumulate(np.where(starts_group, np.arange(len(order)), 0))
    phases = np.empty(len(order), np.int64)
    # Dealt from a round of their own choice: the few videos with many tags would all be in the first otherwise.
    phases[order] = (np.arange(len(order)) - starts + random[order][starts]) % tags[order]
    return phases


def _draws_before(round_: int, tags: NDArray[np.int64], phases: NDArray[np.int64]) -> int:
    """How many draws the rounds 0 ... round_ - 1 of a class make."""
    return int(((round_ - phases + tags - 1) // tags).sum())


def _round_of(draw: int, tags: NDArray[np.int64], phases: NDArray[np.int64]) -> int:
    """The round of a class in which its draw of that number is, from 0."""
    # Each video is within one of its share, so all of them are within len(tags) of theirs.
    per_round = float((1 / tags).sum())
    lowest = max(0, int((draw - len(tags)) / per_round) - 1)
    highest = int((draw + len(tags)) / per_round) + 2
    rounds = range(lowest, highest + 1)
    return rounds[bisect_right(rounds, draw, key=lambda r: _draws_before(r, tags, phases)) - 1]


@dataclass(frozen=True, kw_only=True)
class ClassSampler(EpochSampler):
    """`draws` draws an epoch: a class by its probability, then the next video in the walk through that class.

    probabilities: [K], 0 for classes without videos. labelled: whether the draws name their class.
    """

    index: ClassIndex
    probabilities: NDArray[np.float64]
    draws: int
    labelled: bool = True

    @property
    def draws_per_epoch(self) -> int:
        """As many as are asked for, whatever the number of videos."""
        return self.draws

    def epochs_from(self, first: int) -> Iterator[EpochDraws]:
        """See `EpochSampler`."""
        done = np.zeros(len(self.probabilities), np.int64)  # draws from each class so far
        for epoch in range(first):
            done += self._class_counts(epoch)
        for epoch in count(first):
            counts = self._class_counts(epoch)
            yield self._epoch(epoch, done, counts)
            done = done + counts

    def _class_counts(self, epoch: int) -> NDArray[np.int64]:
        """Draws from each class in an epoch, [K]: those of D independent draws of a class."""
        return stream(Stream.CLASS_COUNTS, self.seed, epoch).multinomial(self.draws, self.probabilities)

    def _epoch(self, epoch: int, done: NDArray[np.int64], counts: NDArray[np.int64]) -> EpochDraws:
        classes = np.repeat(np.arange(len(counts)), counts)
        order = stream(Stream.CLASS_ORDER, self.seed, epoch).permutation(self.draws)
        visits, videos = np.empty(self.draws, np.int64), np.empty(self.draws, np.int64)
        for c, end in zip(np.flatnonzero(counts), np.cumsum(counts)[counts > 0], strict=True):
            # In time, so that the rounds of a class stay rounds in the epoch's order.
            places = np.sort(order[end - counts[c] : end])
            visits[places], videos[places] = self.index.walk(int(c), int(done[c]), int(counts[c]), seed=self.seed)
        labels = np.empty(self.draws, np.int64)
        labels[order] = classes
        return EpochDraws(visits=visits, indices=videos, labels=labels if self.labelled else None)
