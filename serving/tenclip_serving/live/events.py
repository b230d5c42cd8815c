"""From scores of windows to events: a running mean, two thresholds, a shortest length. Pure arithmetic.

A class begins an event when the mean of its newest windows reaches `on`, and ends it when that falls below `off`:
between the two nothing changes, so that scores that tremble around one threshold make one event, not many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest

# The mean of more takes longer than a hand-over to a thread.
_MANY_SCORES = 200_000


@dataclass(frozen=True, kw_only=True)
class EventRules:
    """When scores become an event.

    smooth_windows: of the running mean. on, off: thresholds of the mean. min_seconds: a shorter event is none.
    max_gap_seconds: an event ends where the stream was gone, or windows were skipped, for longer.
    labels: classes that have events; none: all.
    Raises InvalidRequest for values out of range.
    """

    smooth_windows: int = 3
    on: float = 0.6
    off: float = 0.4
    min_seconds: float = 0.0
    max_gap_seconds: float = 5.0
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.smooth_windows <= 10_000:
            raise InvalidRequest(f"smooth_windows must lie within 1..10000, got {self.smooth_windows}")
        if not 0 <= self.off <= self.on <= 1:
            raise InvalidRequest(f"the thresholds must be 0 <= off <= on <= 1, got off {self.off:g} and on {self.on:g}")
        for name in ("min_seconds", "max_gap_seconds"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InvalidRequest(f"{name} must be finite and not negative, got {value}")

    def classes(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Indices of the classes that have events. Raises InvalidRequest for a label that the model has not."""
        unknown = [label for label in self.labels if label not in labels]
        if unknown:
            known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
            raise InvalidRequest(f"no class {', '.join(map(repr, unknown))}; this model has {known}")
        wanted = set(self.labels)
        return np.array([i for i, label in enumerate(labels) if not wanted or label in wanted], np.int64)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens in a stream: reported once when it has begun, and once when it has ended.

    start_seconds, end_seconds: on the stream's clock, of the first and the last window above the thresholds; the end of
    one that goes on is that of the newest window. peak_score: the highest mean. start_unix, end_unix: when those frames
    arrived, in seconds since 1970.
    """

    id: int
    index: int
    label: str
    start_seconds: float
    end_seconds: float
    peak_score: float
    start_unix: float
    end_unix: float
    ended: bool


@dataclass
class _Open:
    id: int | None  # once it was reported
    start_seconds: float
    end_seconds: float
    start_unix: float
    end_unix: float
    peak: float


class _Recent:
    """The newest `most` rows of K scores, one behind the other in memory, so that their mean needs no copy of them."""

    def __init__(self, most: int, num_classes: int) -> None:
        self._most = most
        self._rows = np.empty((most + most // 4 + 1, num_classes), np.float32)
        self._first = self._end = 0

    def add(self, scores: NDArray[np.float32]) -> None:
        if self._end == len(self._rows):
            kept = self._rows[max(self._first, self._end - self._most + 1) : self._end].copy()
            self._rows[: len(kept)] = kept
            self._first, self._end = 0, len(kept)
        self._rows[self._end] = scores
        self._end += 1
        self._first = max(self._first, self._end - self._most)

    def mean(self) -> NDArray[np.float32]:
        """float32 [K], summed in float64."""
        return np.asarray(np.mean(self._rows[self._first : self._end], axis=0, dtype=np.float64), np.float32)

    def clear(self) -> None:
        self._first = self._end


@dataclass
class EventDetector:
    """The events of one stream. Give it every window in the order of time.

    smoothed: float32 [K], the running mean. is_slow: `add` takes so long that it is for a thread.

    >>> detector = EventDetector(("wave",), EventRules(smooth_windows=1))
    >>> scores = [np.array([s], np.float32) for s in (0.1, 0.7, 0.5, 0.9, 0.2)]
    >>> [(e.start_seconds, e.end_seconds, e.ended) for i, s in enumerate(scores) for e in detector.add(s, i, i + 1, 0)]
    [(1, 2, False), (1, 4, True)]
    """

    labels: Sequence[str]
    rules: EventRules
    is_slow: bool = field(init=False)
    smoothed: NDArray[np.float32] = field(init=False)
    _open: dict[int, _Open] = field(init=False, default_factory=dict)
    _count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._classes = self.rules.classes(self.labels)
        self._recent = _Recent(self.rules.smooth_windows, len(self.labels))
        self.is_slow = self.rules.smooth_windows * len(self.labels) > _MANY_SCORES
        self.smoothed = np.zeros(len(self.labels), np.float32)

    def add(
        self, probabilities: NDArray[np.float32], start: float, end: float, end_unix: float, missed_seconds: float = 0.0
    ) -> list[Event]:
        """Events that began or ended with a window: float32 [K], its seconds, and when its last frame arrived.

        missed_seconds: for so long nothing was watched before it that should have been; what the step leaves out
        between windows does not count.
        """
        events = self.gap() if missed_seconds > self.rules.max_gap_seconds else []
        self._recent.add(probabilities)
        self.smoothed = self._recent.mean()
        mean = self.smoothed
        for k in sorted(self._open):
            if mean[k] < self.rules.off:
                events += self._finish(k)
        for k in self._classes[mean[self._classes] >= self.rules.off].tolist():
            opened = self._open.get(k)
            if opened is None and mean[k] >= self.rules.on:
                start_unix = end_unix - (end - start)
                opened = self._open[k] = _Open(None, start, end, start_unix, end_unix, 0.0)
            if opened is not None:
                opened.end_seconds, opened.end_unix = end, end_unix
                opened.peak = max(opened.peak, float(mean[k]))
                if opened.id is None and end - opened.start_seconds >= self.rules.min_seconds:
                    opened.id, self._count = self._count, self._count + 1
                    events.append(self._event(k, opened, ended=False))
        return events

    def interrupted(self) -> None:
        """The stream was lost: windows before and after are not averaged. What goes on may go on after it."""
        self._recent.clear()

    def gap(self) -> list[Event]:
        """The stream has ended, or was gone for too long: so is everything that went on."""
        self._recent.clear()
        return [event for k in sorted(self._open) for event in self._finish(k)]

    def _finish(self, k: int) -> list[Event]:
        opened = self._open.pop(k)
        return [] if opened.id is None else [self._event(k, opened, ended=True)]

    def _event(self, k: int, opened: _Open, *, ended: bool) -> Event:
        assert opened.id is not None
        return Event(
            id=opened.id,
            index=k,
            label=self.labels[k],
            start_seconds=opened.start_seconds,
            end_seconds=opened.end_seconds,
            peak_score=opened.peak,
            start_unix=opened.start_unix,
            end_unix=opened.end_unix,
            ended=ended,
        )
