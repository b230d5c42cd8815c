"""The order in which videos are drawn: batches of draws that follow from the seed and the place in the run alone.

`DrawSampler` takes every video in turn; `class_sampler.py` draws classes first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One clip to be made.

    visit: tells the visits of one video apart, since a clip follows from (seed, visit, sample); it is the epoch where a
    video is drawn once an epoch. sample: its index in the manifest. label: the class that was drawn, where classes are.
    """

    visit: int
    sample: int
    label: int | None = None


class EpochDraws(NamedTuple):
    """All draws of an epoch in their order, of all processes: int64 [D] each. labels: None where no class is drawn."""

    visits: NDArray[np.int64]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None

    @classmethod
    def join(cls, parts: Sequence[EpochDraws]) -> EpochDraws:
        """One after the other; all of them name classes, or none."""
        labels = [part.labels for part in parts if part.labels is not None]
        return cls(
            visits=np.concatenate([part.visits for part in parts]),
            indices=np.concatenate([part.indices for part in parts]),
            labels=np.concatenate(labels) if labels else None,
        )

    def part(self, wanted: slice | NDArray[np.int64]) -> EpochDraws:
        """Some of them, in the order that is asked for."""
        labels = None if self.labels is None else self.labels[wanted]
        return EpochDraws(visits=self.visits[wanted], indices=self.indices[wanted], labels=labels)

    def draws(self) -> list[Draw]:
        """One by one."""
        columns = [column.tolist() for column in self if column is not None]
        return [Draw(*row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True, kw_only=True)
class EpochSampler(Sampler[list[Draw]], ABC):
    """Batches of draws from one place in the run to its end. It has no state: each epoch follows from its number.

    One sampler runs through all epochs, so that workers live on between them. A batch holds `micro_batches` times
    `batch_size` draws, one micro-batch after the other. The micro-batches of all processes are numbered through, M in
    all, and each takes every M-th draw of the one sequence, whichever process it is in; where that does not come out
    even, the first few draws of the epoch are repeated at its end, so that all have equally many.
    """

    batch_size: int
    epochs: int
    seed: int
    micro_batches: int = 1
    rank: int = 0
    world_size: int = 1
    first_epoch: int = 0
    first_step: int = 0

    @property
    @abstractmethod
    def draws_per_epoch(self) -> int:
        """Draws of an epoch by all processes together, D."""

    @abstractmethod
    def epochs_from(self, first: int) -> Iterator[EpochDraws]:
        """The draws of epoch `first`, of the one after it, and so on without an end."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches that one process takes in an epoch."""
        return -(-self._rows // self.batch_size)

    @property
    def _rows(self) -> int:
        """Draws of each micro-batch in an epoch."""
        return -(-self.draws_per_epoch // (self.micro_batches * self.world_size))

    def __len__(self) -> int:
        return (self.epochs - self.first_epoch) * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        skip = self.first_step
        for draws in islice(self.epochs_from(self.first_epoch), self.epochs - self.first_epoch):
            yield from self._batches(draws, skip)
            skip = 0

    def _batches(self, draws: EpochDraws, skip: int) -> Iterator[list[Draw]]:
        places = np.resize(np.arange(self.draws_per_epoch), (self._rows, self.micro_batches * self.world_size))
        mine = places[:, self.rank * self.micro_batches : (self.rank + 1) * self.micro_batches]
        # Batches as equal as they can be: batch norms learn nothing good from a last batch of one clip.
        cuts = np.linspace(0, self._rows, self.steps_per_epoch + 1).round().astype(int)
        for start, end in islice(pairwise(cuts), skip, None):
            yield draws.part(mine[start:end].T.ravel()).draws()


@dataclass(frozen=True, kw_only=True)
class DrawSampler(EpochSampler):
    """Every video in each epoch, `clips_per_video` times, each epoch in an order of its own."""

    num_samples: int
    clips_per_video: int = 1

    @property
    def draws_per_epoch(self) -> int:
        """Videos times clips of each."""
        return self.num_samples * self.clips_per_video

    def epochs_from(self, first: int) -> Iterator[EpochDraws]:
        """See `EpochSampler`. Several clips of a video are drawn as of `clips_per_video` epochs after each other."""
        for epoch in count(first):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.draws_per_epoch)
            turn, indices = np.divmod(order, self.num_samples)
            yield EpochDraws(visits=epoch * self.clips_per_video + turn, indices=indices)
