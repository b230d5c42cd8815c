"""A histogram of durations: percentiles of millions of values in a few kilobytes.

As in HDR histograms, buckets are linear within a power of two and double in width from one power to the next, so every
value is known to within 1/64 of itself, from microseconds to hours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

# Bits of a value that are kept. 7 bits: the width of a bucket is at most 1/64 of the values in it.
_BITS = 7
_UNIT = 1e-6  # seconds


class Histogram:
    """Histogram of durations in seconds. Count, min, max and mean are exact.

    Percentiles are within 1.6%, never too low.
    """

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.min = math.inf
        self.max = 0.0

    def add(self, seconds: float) -> None:
        """Add a duration; a negative one (from clocks of two machines) counts as 0."""
        seconds = max(seconds, 0.0)
        self._buckets[bucket_of(round(seconds / _UNIT))] += 1
        self.count += 1
        self.total += seconds
        self.min = min(self.min, seconds)
        self.max = max(self.max, seconds)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan

    def percentile(self, percent: float) -> float:
        """The least value that at least `percent` of 100 of all values do not exceed; NaN when there are none."""
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is from 0 to 100, got {percent}")
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(self.count * percent / 100 - 1e-9))  # 99.9% of 1000 is 999, whatever floats say
        seen = 0
        for highest, count in self.buckets():
            seen += count
            if seen >= rank:
                return min(max(highest, self.min), self.max)
        return self.max

    def buckets(self) -> Iterator[tuple[float, int]]:
        """(highest value in seconds, count) of every bucket that holds any, lowest first."""
        for bucket, count in sorted(self._buckets.items()):
            yield highest_of(bucket) * _UNIT, count

    def to_dict(self) -> dict[str, float | int]:
        """Seconds. Without values there is only the count, for JSON has no NaN."""
        if not self.count:
            return {"count": 0}
        named = {f"p{percent:g}": self.percentile(percent) for percent in (50, 90, 95, 99, 99.9)}
        return {"count": self.count, "mean": self.mean, "min": self.min, **named, "max": self.max}


def bucket_of(value: int) -> int:
    """0, 1, 2, ... for values from 0 on: 0 to 127 have a bucket each, 128 and 129 share one, ..."""
    shift = max(value.bit_length() - _BITS, 0)
    return (shift << (_BITS - 1)) + (value >> shift)


def highest_of(bucket: int) -> int:
    """The highest value of a bucket."""
    half = 1 << (_BITS - 1)
    shift = max((bucket >> (_BITS - 1)) - 1, 0)
    return ((bucket - shift * half + 1) << shift) - 1
