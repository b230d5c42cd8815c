"""Joint training: batches from a target and from auxiliary sources at a fixed ratio (OmniSource, sections 3.2 and 3.6).

OmniSource takes 2:1:1:1 of Kinetics, web images, web videos and untrimmed videos, with one classifier for all. Its
eq. 1 is the sum of the cross entropy over all clips of a step; the mean over the union of the batches is that sum with
the rate in proportion. The code released with the paper does otherwise: it makes a step with each batch by itself, two
of the target and then one of each source (`turns`).

Every source is an endless sequence of draws with a seed of its own: its epochs one after the other, which end when they
end. Step n takes the n-th piece of each, so a run goes on anywhere from the number of the step alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tenclip_training.data.dataset import Batch, ClipDataset, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.data.random_streams import Stream, stream
from tenclip_training.data.ratios import show_ratio
from tenclip_training.data.samplers import Draw, EpochDraws, EpochSampler

Item = TrainingClip | Failure


class SourceDraw(NamedTuple):
    """A draw from one of several sources; 0 is the target."""

    source: int
    draw: Draw


def source_seed(seed: int, source: int) -> int:
    """The seed of a source: the target keeps that of the run, so that its draws are those of a run without others."""
    return seed if source == 0 else int(stream(Stream.SOURCE_ORDER, seed, source).integers(1 << 62))


@dataclass(frozen=True, kw_only=True)
class JointSampler(Sampler[list[SourceDraw]]):
    """Batches of draws from several sources, the target first, from one place in the run to its end.

    sources: of a world of one process each; how often they repeat is their own. batch_sizes: clips of each in a batch
    of one process. turns: None puts all sources into every batch; (2, 1, 1, 1) makes batches of one source each, two of
    the target and one of each other in turn.
    An epoch is as long as the target: enough steps for every draw of one of its epochs. Where several processes train,
    each takes every `world_size`-th draw of each source.
    Raises ValueError for sources that are shared out already, and for numbers that do not go together.
    """

    sources: tuple[EpochSampler, ...]
    batch_sizes: tuple[int, ...]
    epochs: int
    turns: tuple[int, ...] | None = None
    rank: int = 0
    world_size: int = 1
    first_epoch: int = 0
    first_step: int = 0

    def __post_init__(self) -> None:
        for name, values in (("batch_sizes", self.batch_sizes), ("turns", self.turns)):
            if values is not None and (len(values) != len(self.sources) or min(values, default=0) < 1):
                raise ValueError(
                    f"{name} has a number above 0 for each of the {len(self.sources)} sources, got {show_ratio(values)}"
                )
        if any(source.world_size != 1 for source in self.sources):
            raise ValueError("the sources of a joint sampler are shared out by it, and not by themselves")

    @property
    def steps_per_epoch(self) -> int:
        """Batches that one process takes in an epoch."""
        step = self.batch_sizes[0] * self.world_size
        if self.turns is None:
            return -(-self.sources[0].draws_per_epoch // step)
        return sum(self.turns) * -(-self.sources[0].draws_per_epoch // (step * self.turns[0]))

    def __len__(self) -> int:
        return (self.epochs - self.first_epoch) * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[SourceDraw]]:
        first = self.first_epoch * self.steps_per_epoch + self.first_step
        pieces = [self._pieces(source, self.batches_before(first, source)) for source in range(len(self.sources))]
        for step in range(first, self.epochs * self.steps_per_epoch):
            yield [draw for source in self._sources_of(step) for draw in next(pieces[source])]

    def batches_before(self, step: int, source: int) -> int:
        """How many batches of a source the steps before this one have taken: its cursor, in batches."""
        if self.turns is None:
            return step
        rounds, within = divmod(step, sum(self.turns))
        start = sum(self.turns[:source])
        return rounds * self.turns[source] + min(max(within - start, 0), self.turns[source])

    def _sources_of(self, step: int) -> Sequence[int]:
        if self.turns is None:
            return range(len(self.sources))
        return (int(np.repeat(np.arange(len(self.turns)), self.turns)[step % sum(self.turns)]),)

    def _pieces(self, source: int, batches: int) -> Iterator[list[SourceDraw]]:
        """This process's batches of a source, after so many of them."""
        size = self.batch_sizes[source] * self.world_size
        for piece in _cut(self.sources[source], batches * size, size):
            yield [SourceDraw(source, draw) for draw in piece.draws()[self.rank :: self.world_size]]


def _cut(sampler: EpochSampler, start: int, size: int) -> Iterator[EpochDraws]:
    """The sampler's draws from number `start` on, through all its epochs, in pieces of `size`."""
    epoch, skip = divmod(start, sampler.draws_per_epoch)
    parts: list[EpochDraws] = []
    available = 0
    for draws in sampler.epochs_from(epoch):
        parts.append(draws.part(slice(skip, None)))
        available += len(parts[-1].visits)
        skip = 0
        if available < size:
            continue
        joined = EpochDraws.join(parts)
        whole = available - available % size
        for place in range(0, whole, size):
            yield joined.part(slice(place, place + size))
        parts, available = [joined.part(slice(whole, None))], available - whole


class JointDataset(Dataset[tuple[int, Item]]):
    """The clips of several sources, each with the number of its source, from 0, the target."""

    def __init__(self, sources: Sequence[ClipDataset]) -> None:
        self.sources = tuple(sources)

    def __getitem__(self, draw: SourceDraw) -> tuple[int, Item]:
        return draw.source, self.sources[draw.source][draw.draw]

    def fill_cache(
        self, max_bytes: int, *, threads: int, progress: Callable[[int, int], None] | None = None
    ) -> list[Failure]:
        """See `ClipDataset.fill_cache`; the target comes first, and the sources after it share what is left."""
        failures, total, before = [], sum(map(len, self.sources)), 0
        for source in self.sources:
            failures += source.fill_cache(max_bytes, threads=threads, progress=_onwards(progress, before, total))
            max_bytes -= source.cached_bytes
            before += len(source)
        return failures


def _onwards(progress: Callable[[int, int], None] | None, before: int, total: int) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


@dataclass(frozen=True, eq=False)
class JointBatch(Batch):
    """sources: int64 [B], the source of each clip, in ascending order: the target's clips come first."""

    sources: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def split(self, parts: int) -> list[Batch]:
        """Micro-batches of all sources, in their ratio as far as it comes out even.

        With several processes and several micro-batches each, a clip is in another micro-batch than in one process with
        as many: what is random in a micro-batch (mixup, dropout) differs then.
        """
        parts = max(1, min(parts, len(self.clips)))
        return [
            JointBatch(self.clips[i::parts], self.targets[i::parts], sources=self.sources[i::parts])
            for i in range(parts)
        ]

    def pin_memory(self) -> JointBatch:
        """Called by DataLoader."""
        return dataclasses.replace(
            self,
            clips=self.clips.pin_memory(),
            targets=self.targets.pin_memory(),
            sources=self.sources.pin_memory(),
        )


@dataclass(frozen=True)
class JointCollate:
    """Clips of one batch -> JointBatch; `collate` is that of a single source."""

    collate: Callable[[Sequence[Item]], Batch]

    def __call__(self, items: Sequence[tuple[int, Item]]) -> JointBatch:
        batch = self.collate([item for _, item in items])
        sources = [source for source, item in items if not isinstance(item, Failure)]
        values = {f.name: getattr(batch, f.name) for f in dataclasses.fields(Batch)}
        return JointBatch(**values, sources=torch.tensor(sources, dtype=torch.int64))
