"""The clock of a stream: presentation times that wrap around, jump, or are missing, as seconds that only grow.

MPEG transport streams count 90 kHz in 33 bits, which begin anew after 26.5 hours; encoders that restart and recordings
that are joined jump; the first frame of an RTSP session has no time at all. Pure arithmetic, no clock of its own.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

# Of MPEG systems (ISO/IEC 13818-1): 33 bits of 90 kHz.
WRAP_TICKS = 1 << 33
_MPEG_TIME_BASE = Fraction(1, 90_000)
# A longer step forward is another clock, not a pause.
MAX_STEP_SECONDS = 10.0
# A frame that comes so little before the one before it is late; more is another clock.
_LATE_SECONDS = 1.0


class Placed(NamedTuple):
    """When a frame is shown, in seconds of the stream. jumped: the frames before it are not on the same clock."""

    seconds: float
    jumped: bool


class MediaClock:
    """Places the frames of one connection on the clock of the stream, in the order in which they are shown.

    start: seconds of its first frame. frame_seconds: how long a frame lasts, where nothing else tells.
    max_step_seconds: the longest pause that is no jump.
    As long as nothing jumps, seconds are `start + (pts - first pts) * time_base`, as of a file that is read as a whole.

    >>> clock = MediaClock(Fraction(1, 90_000), start=0.0, frame_seconds=0.04)
    >>> [clock.place(pts, arrival=0.0).seconds for pts in (WRAP_TICKS - 3600, 0, 3600)]
    [0.0, 0.04, 0.08]
    """

    def __init__(
        self, time_base: Fraction, *, start: float, frame_seconds: float, max_step_seconds: float = MAX_STEP_SECONDS
    ) -> None:
        self._tick_seconds = float(time_base)
        self._wraps = time_base == _MPEG_TIME_BASE
        self._max_step = max_step_seconds
        self._step = frame_seconds
        self._origin = self._seconds = start
        self._ticks = 0  # from the origin to the newest frame
        self._pts: int | None = None
        self._arrival: float | None = None

    @property
    def frame_seconds(self) -> float:
        """How far the newest frames are apart."""
        return self._step

    def place(self, pts: int | None, *, arrival: float) -> Placed | None:
        """None for a frame that comes too late to be shown. arrival: on the receiver's clock, in seconds."""
        placed = self._place(pts, arrival)
        if placed is not None:
            if self._arrival is not None and not placed.jumped and placed.seconds > self._seconds:
                self._step = placed.seconds - self._seconds
            self._seconds, self._arrival = placed.seconds, arrival
        return placed

    def end(self, ticks: int) -> float:
        """When the newest frame ends, in seconds; ticks: how long it is shown, 0 where nobody says."""
        if not ticks:
            return self._seconds + self._step
        return (
            self._origin + (self._ticks + ticks) * self._tick_seconds
            if self._pts is not None
            else (self._seconds + ticks * self._tick_seconds)
        )

    def _place(self, pts: int | None, arrival: float) -> Placed | None:
        is_first = self._arrival is None
        if pts is None:
            self._pts = None
            return Placed(self._seconds if is_first else self._seconds + self._step, False)
        if self._pts is None:  # nothing to compare with
            return self._anchor(pts, self._seconds if is_first else self._seconds + self._step, jumped=False)
        ticks = self._ticks_since(self._pts, pts)
        step = ticks * self._tick_seconds
        if -_LATE_SECONDS < step <= 0:
            return None
        if 0 < step <= self._max_step:
            self._ticks += ticks
            self._pts = pts
            return Placed(self._origin + self._ticks * self._tick_seconds, False)
        elapsed = 0.0 if self._arrival is None else arrival - self._arrival
        return self._anchor(pts, self._seconds + max(self._step, elapsed), jumped=True)

    def _anchor(self, pts: int, seconds: float, *, jumped: bool) -> Placed:
        self._pts, self._ticks, self._origin = pts, 0, seconds
        return Placed(seconds, jumped)

    def _ticks_since(self, before: int, now: int) -> int:
        if not self._wraps:
            return now - before
        half = WRAP_TICKS // 2
        return (now - before + half) % WRAP_TICKS - half


class Lag:
    """How far the reader is behind the stream, in seconds, from when packets come and what their times are.

    A reader that had to wait for a packet is not behind. From there on, the stream's clock and the receiver's are
    compared. A pause of the sender is no lag, and what it sends at once after one is, as long as it comes at once.

    >>> lag = Lag()
    >>> [lag.measure(media, now=now, waited=waited) for media, now, waited in ((0, 5, 1), (1, 6.5, 0), (2, 8, 0))]
    [0.0, 0.5, 1.0]
    """

    # Less is no waiting but reading.
    WAITED_SECONDS = 0.002

    def __init__(self) -> None:
        self._anchor: tuple[float, float] | None = None  # (receiver's clock, stream's clock)
        self._media = 0.0

    def measure(self, media: float | None, *, now: float, waited: float) -> float:
        """media: time of a packet, in seconds of the stream's own clock. waited: for it, in seconds."""
        if media is None:
            return 0.0
        jumped = abs(media - self._media) > MAX_STEP_SECONDS
        self._media = media
        if self._anchor is None or jumped or waited >= self.WAITED_SECONDS:
            self._anchor = now, media
            return 0.0
        return max(0.0, (now - self._anchor[0]) - (media - self._anchor[1]))
