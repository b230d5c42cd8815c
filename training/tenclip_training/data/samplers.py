"""The order in which videos are drawn: batches of (epoch, index) that follow from the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch.utils.data import Sampler

# (epoch, index of the sample in the manifest)
Draw = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class DrawSampler(Sampler[list[Draw]]):
    """Batches of (epoch, index) from one place in the schedule to its end, each epoch in an order of its own.

    One sampler runs through all epochs, so that workers live on between them. A batch holds `micro_batches` times
    `batch_size` clips, one micro-batch after the other. The micro-batches of all processes are numbered through, M in
    all, and each takes every M-th sample, whichever process it is in; the first few are repeated so that all have
    equally many.
    """

    num_samples: int
    batch_size: int
    epochs: int
    seed: int
    clips_per_video: int = 1
    micro_batches: int = 1
    rank: int = 0
    world_size: int = 1
    first_epoch: int = 0
    first_step: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches that one process takes in an epoch."""
        return -(-self._rows // self.batch_size)

    @property
    def _rows(self) -> int:
        """Samples of each micro-batch in an epoch."""
        return -(-self.num_samples * self.clips_per_video // (self.micro_batches * self.world_size))

    def __len__(self) -> int:
        return (self.epochs - self.first_epoch) * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        for epoch in range(self.first_epoch, self.epochs):
            skip = self.first_step if epoch == self.first_epoch else 0
            yield from self._epoch(epoch)[skip:]

    def _epoch(self, epoch: int) -> list[list[Draw]]:
        # Several clips of a video in one epoch are drawn as of `clips_per_video` epochs that follow each other.
        count = self.num_samples * self.clips_per_video
        order = np.random.default_rng((self.seed, epoch)).permutation(count)
        draws = [(epoch * self.clips_per_video + int(i) // self.num_samples, int(i) % self.num_samples) for i in order]
        places = np.resize(np.arange(count), (self._rows, self.micro_batches * self.world_size))
        mine = places[:, self.rank * self.micro_batches : (self.rank + 1) * self.micro_batches]
        # Batches as equal as they can be: batch norms learn nothing good from a last batch of one clip.
        cuts = np.linspace(0, self._rows, self.steps_per_epoch + 1).round().astype(int)
        return [[draws[i] for i in mine[start:end].T.ravel()] for start, end in pairwise(cuts)]
