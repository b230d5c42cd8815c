"""What is counted of one stream, over all of its connections."""

from __future__ import annotations

import threading
import time

from tenclip_serving.live.messages import Counters
from tenclip_serving.live.requests import LiveCounters
from tenclip_serving.telemetry.metrics import Metrics

# Frames come in bursts: what is late by less may be on its way.
_NOTICED_SECONDS = 1.0
_ADDED = ("frames_read", "frames_dropped", "windows_skipped", "discontinuities")


class Totals:
    """Counts of one stream, and the metrics of its server. `beat` may be called in any thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._guard = threading.Lock()
        # Of this connection, and of all that ended.
        self._now, self._before = Counters(), Counters()
        self._last_frame = time.monotonic()
        self._frame_seconds = 0.0
        self._heard: float | None = None  # the last time of this connection; None: there is none
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
        """Since the last frame, or since the beginning; as far as a connection has told."""
        with self._guard:
            return self._silent_seconds

    @property
    def overdue_seconds(self) -> float:
        """For so long a frame has been missing, as far as a connection has told: none below `_NOTICED_SECONDS`."""
        with self._guard:
            late = self._silent_seconds - self._frame_seconds
        return late if late >= _NOTICED_SECONDS else 0.0

    @property
    def last_frame(self) -> float | None:
        """When it came, on the monotonic clock; None as long as there was none."""
        with self._guard:
            return self._last_frame if self._now.frames_read or self._before.frames_read else None

    @property
    def _silent_seconds(self) -> float:
        return max(0.0, (time.monotonic() if self._heard is None else self._heard) - self._last_frame)

    def beat(self, counters: Counters) -> None:
        """What a connection has counted by now."""
        with self._guard:
            before, self._now = self._now, counters
            if counters.frames_read:
                self._heard = time.monotonic()
                self._last_frame = self._heard - counters.silent_seconds
                self._frame_seconds = counters.frame_seconds
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
            self._heard = None

    def reconnected(self) -> None:
        self._reconnects += 1
        self._metrics.live_reconnects.inc()

    def scored(self, latency: float) -> None:
        """A window has run; seconds from the arrival of its last frame."""
        self._windows += 1
        self._latency, self._max_latency = latency, max(self._max_latency, latency)
        self._metrics.live_windows.labels("run").inc()
        self._metrics.live_latency_seconds.observe(latency)
