"""What is counted of one stream, over all of its connections."""

from __future__ import annotations

import threading
import time

from tenclip_serving.live.messages import Counters
from tenclip_serving.live.requests import LiveCounters
from tenclip_serving.telemetry.metrics import Metrics

_ADDED = ("frames_read", "frames_dropped", "windows_skipped", "discontinuities")


class Totals:
    """Counts of one stream, and the metrics of its server. `beat` may be called in any thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._guard = threading.Lock()
        # Of this connection, and of all that ended.
        self._now, self._before = Counters(), Counters()
        self._last_frame = time.monotonic()
        self._windows = self._reconnects = 0
        self._latency = self._max_latency = 0.0

    @property
    def counters(self) -> LiveCounters:
        with self._guard:
            added = {name: getattr(self._before, name) + getattr(self._now, name) for name in _ADDED}
        return LiveCounters(
            **added,
            windows_run=self._windows,
            reconnects=self._reconnects,
            latency=self._latency,
            max_latency=self._max_latency,
        )

    @property
    def silent_seconds(self) -> float:
        """Since the last frame, or since the beginning."""
        with self._guard:
            return max(0.0, time.monotonic() - self._last_frame)

    def beat(self, counters: Counters) -> None:
        """What a connection has counted by now."""
        with self._guard:
            before, self._now = self._now, counters
            if counters.frames_read:
                self._last_frame = time.monotonic() - counters.silent_seconds
        for counter, name in (
            (self._metrics.live_frames, "frames_read"),
            (self._metrics.live_frames_dropped, "frames_dropped"),
            (self._metrics.live_windows.labels("skipped"), "windows_skipped"),
        ):
            counter.inc(max(0, getattr(counters, name) - getattr(before, name)))

    def disconnected(self) -> None:
        """The next connection counts from 0."""
        with self._guard:
            self._before = Counters(*(getattr(self._before, n) + getattr(self._now, n) for n in _ADDED))
            self._now = Counters()

    def reconnected(self) -> None:
        self._reconnects += 1
        self._metrics.live_reconnects.inc()

    def scored(self, latency: float) -> None:
        """A window has run; seconds from the arrival of its last frame."""
        self._windows += 1
        self._latency, self._max_latency = latency, max(self._max_latency, latency)
        self._metrics.live_windows.labels("run").inc()
        self._metrics.live_latency_seconds.observe(latency)
