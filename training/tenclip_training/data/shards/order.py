"""The order in which the samples of shards are drawn: few shards at a time, so that each is fetched and read once.

In each epoch the shards are put into an order of its own, and every process gets a run of them. It goes through them in
windows of `shuffle_shards` shards, within which the draws stay in the order of the sampler they come from, which is
random. Nothing is remembered: the order follows from (seed, epoch), so a resumed run goes on with the next draw.

D draws of an epoch, N samples, W processes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, TenclipError
from tenclip_data.samples import Manifest
from tenclip_training.data.random_streams import Stream, stream
from tenclip_training.data.samplers import Draw, EpochDraws, EpochSampler
from tenclip_training.data.shards.index import Shard
from tenclip_training.data.shards.samples import ShardSample
from tenclip_training.data.shards.storage import RemoteShards, ShardStorage

FETCHING_THREADS = 4


def shard_order(
    shards: NDArray[np.int64],
    order: NDArray[np.int64],
    *,
    window: int,
    world_size: int = 1,
    micro_batches: int = 1,
) -> NDArray[np.int64]:
    """Indices [D] that arrange the draws of an epoch, as an `EpochSampler` deals them out to processes.

    shards: [D] of each draw; order: [number of shards], the place of each shard in this epoch.

    >>> shard_order(np.array([0, 1, 2, 0, 1, 2]), np.array([2, 0, 1]), window=1).tolist()  # shards 1, 2, 0
    [1, 4, 2, 5, 0, 3]
    >>> shard_order(np.array([0, 1, 2, 0, 1, 2]), np.array([2, 0, 1]), window=2).tolist()
    [1, 2, 4, 5, 0, 3]
    """
    by_shard = np.argsort(order[shards], kind="stable")
    arranged = np.empty_like(by_shard)
    owners = np.arange(len(by_shard)) // micro_batches % world_size  # the process of each place
    start = 0
    for rank in range(world_size):
        places = np.flatnonzero(owners == rank)
        part = by_shard[start : start + len(places)]
        start += len(places)
        _, numbers = np.unique(order[shards[part]], return_inverse=True)
        mine = np.lexsort((part, numbers // window))
        arranged[places] = part[mine]
    return arranged


@dataclass(frozen=True, kw_only=True)
class ShardSampler(EpochSampler):
    """The draws of another sampler, a few shards at a time. `around` makes one.

    shards: [N] the shard of each sample. fetch: is told which shards the next draws need, those that come first first.
    """

    inner: EpochSampler
    shards: NDArray[np.int64]
    window: int
    fetch: Callable[[Sequence[int]], None] | None = None

    @classmethod
    def around(cls, inner: EpochSampler, shards: NDArray[np.int64], *, window: int, **more: Any) -> ShardSampler:
        """The draws of `inner`, with its place in the run."""
        names = ("batch_size", "micro_batches", "epochs", "seed", "rank", "world_size", "first_epoch", "first_step")
        place = {name: getattr(inner, name) for name in names}
        return cls(inner=inner, shards=shards, window=window, **place, **more)

    @property
    def draws_per_epoch(self) -> int:
        """As many as of the other sampler."""
        return self.inner.draws_per_epoch

    def epochs_from(self, first: int) -> Iterator[EpochDraws]:
        """See `EpochSampler`."""
        num_shards = int(self.shards.max()) + 1
        for epoch, draws in zip(count(first), self.inner.epochs_from(first), strict=False):
            places = stream(Stream.SHARD_ORDER, self.seed, epoch).permutation(num_shards)
            order = shard_order(
                self.shards[draws.indices],
                places,
                window=self.window,
                world_size=self.world_size,
                micro_batches=self.micro_batches,
            )
            yield draws.part(order)

    def __iter__(self) -> Iterator[list[Draw]]:
        batches = super().__iter__()
        return batches if self.fetch is None else self._fetching(batches, self.fetch)

    def _fetching(self, batches: Iterator[list[Draw]], fetch: Callable[[Sequence[int]], None]) -> Iterator[list[Draw]]:
        """The batches, each after the shards of this window and of the next one were asked for."""
        ahead: deque[list[Draw]] = deque()
        draws_of: dict[int, int] = {}  # shard -> draws ahead, in the order in which they come

        def hand_out() -> list[Draw]:
            fetch(list(draws_of))
            batch = ahead.popleft()
            for draw in batch:
                shard = int(self.shards[draw.sample])
                draws_of[shard] -= 1
                if not draws_of[shard]:
                    del draws_of[shard]
            return batch

        for batch in batches:
            ahead.append(batch)
            for draw in batch:
                shard = int(self.shards[draw.sample])
                draws_of[shard] = draws_of.get(shard, 0) + 1
            while len(draws_of) >= 2 * self.window:
                yield hand_out()
        while ahead:
            yield hand_out()


def by_shards(sampler: EpochSampler, manifest: Manifest, *, window: int) -> EpochSampler:
    """The sampler for a manifest: draws of shards are taken a few shards at a time, and fetched ahead from URLs.

    window: 0 draws from all shards at once. Raises DatasetError where the cache is too small for that.
    """
    samples = [s for s in manifest.samples if isinstance(s, ShardSample)]
    if len(samples) != len(manifest.samples) or not samples:
        return sampler
    storage = samples[0].storage
    numbers = np.array([s.number for s in samples])
    shards = {s.number: s.shard for s in samples}
    if isinstance(storage, RemoteShards):
        _require_room(storage, list(shards.values()), window)
    if not window:
        return sampler
    fetch = ShardFetcher(storage, shards) if isinstance(storage, RemoteShards) else None
    return ShardSampler.around(sampler, numbers, window=window, fetch=fetch)


def _require_room(storage: RemoteShards, shards: Sequence[Shard], window: int) -> None:
    """The cache must hold the shards of two windows of every process on this machine."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    at_once = len(shards) if not window else min(len(shards), 2 * window * processes)
    needed = sum(sorted((s.num_bytes for s in shards), reverse=True)[:at_once])
    if needed > storage.max_bytes:
        raise DatasetError(
            f"{storage.url}: {at_once} shards are needed at once, {needed / 2**30:.3g} GiB, and the cache for shards "
            f"holds {storage.max_bytes / 2**30:.3g} GiB; raise shard_cache_gib, or lower shuffle_shards ({window})"
        )


class ShardFetcher:
    """Fetches shards in threads of its own, ahead of those who read them. A failure is theirs to report."""

    def __init__(self, storage: ShardStorage, shards: Mapping[int, Shard]) -> None:
        self._storage, self._shards = storage, shards
        self._ahead: frozenset[int] = frozenset()
        self._free = threading.BoundedSemaphore(FETCHING_THREADS)

    def __call__(self, numbers: Sequence[int]) -> None:
        """Fetch these, of which the first are needed first; those that were asked for already are on their way."""
        before, self._ahead = self._ahead, frozenset(numbers)
        for number in numbers:
            if number not in before:
                # A daemon: a run that ends does not wait for what it will not read.
                threading.Thread(target=self._fetch, args=(number,), daemon=True).start()

    def _fetch(self, number: int) -> None:
        with self._free, suppress(TenclipError, OSError):
            if number in self._ahead:
                self._storage.file_of(self._shards[number])
