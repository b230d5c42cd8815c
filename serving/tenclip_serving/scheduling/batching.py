"""Batch sizes: how many clips go into one call of a runtime, learnt from measured calls.

On a CPU a batch of eight takes eight times as long as one clip, so batches only delay answers; on a GPU it may take
hardly longer. A runtime says which size may pay off (`Runtime.batch_size`); what really pays off is measured here.
"""

from __future__ import annotations

# Calls of a size before it is judged: the first ones allocate and compile.
SAMPLES = 3
# The smallest batch is taken whose seconds a clip are within this of the best: larger ones make everyone wait.
_GOOD_ENOUGH = 1.05
# Share of the newest call in the running mean.
_NEWEST_WEIGHT = 0.2
# The runtime's own size is tried again once in this number of calls, in case things have changed.
RETRY_EVERY = 100
# Never hold clips back for longer than this, in seconds.
MAX_DELAY_SECONDS = 0.005


class BatchSizer:
    """The batch size for one runtime and one shape of clips. largest: `Runtime.batch_size`."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._seconds: dict[int, float] = {}  # a clip's, by bucket of batch sizes
        self._samples: dict[int, int] = {}
        self._calls = 0

    def record(self, size: int, seconds: float) -> None:
        """Learn from a call with `size` clips that took `seconds`."""
        bucket, each = _bucket(size), seconds / size
        known = self._seconds.get(bucket)
        self._calls += 1
        self._samples[bucket] = self._samples.get(bucket, 0) + 1
        if known is None or self._samples[bucket] == SAMPLES:  # the last one that may have been a first
            self._seconds[bucket] = each if known is None else min(known, each)
        else:
            self._seconds[bucket] = known + _NEWEST_WEIGHT * (each - known)

    @property
    def best(self) -> int:
        """The size to aim at."""
        largest = _bucket(self._largest)
        judged = {b: s for b, s in self._seconds.items() if self._samples[b] >= SAMPLES and b <= largest}
        if largest not in judged or self._calls % RETRY_EVERY == RETRY_EVERY - 1:
            return self._largest
        enough = _GOOD_ENOUGH * min(judged.values())
        smallest = min(b for b, s in judged.items() if s <= enough)
        return self._largest if smallest == largest else smallest

    def seconds(self, size: int) -> float:
        """Expected seconds of a call with `size` clips; 0 as long as nothing was measured."""
        if not self._seconds:
            return 0.0
        bucket = _bucket(size)
        nearest = min(self._seconds, key=lambda known: (abs(known.bit_length() - bucket.bit_length()), known))
        return size * self._seconds[nearest]

    def delay(self, size: int) -> float:
        """Batching delay in seconds while `size` clips wait: never longer than a full batch saves."""
        best = self.best
        few, full = self._seconds.get(_bucket(size)), self._seconds.get(_bucket(best))
        if size >= best or few is None or full is None:
            return 0.0
        return min(MAX_DELAY_SECONDS, max(0.0, (few - full) * size))


def _bucket(size: int) -> int:
    """The power of two at or below it.

    >>> [_bucket(n) for n in (1, 2, 3, 4, 7, 8)]
    [1, 2, 2, 4, 4, 8]
    """
    return 1 << (size.bit_length() - 1)
