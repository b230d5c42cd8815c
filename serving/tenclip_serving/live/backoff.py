"""How long to wait before a stream is connected to again: twice as long each time, within a cap, and never in step."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS = 0.5


class Backoff:
    """Delays of attempts in a row. A random half of each keeps many streams of one camera from coming back at once.

    >>> backoff = Backoff(max_seconds=2.0, draw=lambda: 1.0)
    >>> [backoff.next() for _ in range(4)]
    [0.5, 1.0, 2.0, 2.0]
    """

    def __init__(self, *, max_seconds: float, draw: Callable[[], float] = random.random) -> None:
        self._max, self._draw = max_seconds, draw
        self.attempts = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        whole = min(self._max, FIRST_SECONDS * float(1 << min(self.attempts, 30)))
        self.attempts += 1
        return whole * (0.5 + 0.5 * self._draw())

    def reset(self) -> None:
        """It worked."""
        self.attempts = 0
