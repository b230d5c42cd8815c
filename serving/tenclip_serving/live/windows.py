"""Sliding windows over frames that keep coming: the windows of `plan_clips`, one after the other.

    frames -> sampled timeline (`target_fps`) -> the last R of them -> windows that are due -> whoever takes them

Windows wait in a ring of bounded length and age. What is not taken in time is skipped, the oldest first, and counted.
Not for several threads at once, and no clock of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tenclip_serving.live.absence import Absence
from tenclip_video.spec import ClipSpec

# Frames of one stream that wait, in bytes; beyond, the oldest windows are skipped whatever their age.
MAX_WAITING_BYTES = 256 << 20
# What a frame's time may be off, see `tenclip_video.sampling.resample`.
_GRID_SLACK, _END_SLACK = 1e-6, 1e-4


@dataclass(eq=False)
class Frame:
    """One frame, cropped: uint8 [V,S,S,3] of V views.

    seconds, end_seconds: when it is shown, on the stream's clock. arrival: when it came, on the receiver's.
    used: it was in a window that was taken. doubted: it was in one that was skipped.
    """

    pixels: NDArray[np.uint8]
    seconds: float
    end_seconds: float
    arrival: float
    used: bool = field(default=False, repr=False)
    doubted: bool = field(default=False, repr=False)


@dataclass(frozen=True, eq=False)
class Window:
    """A window that is due. start: the place of its first frame on the sampled timeline; frames: T of them.

    missed_seconds: the longest stretch before its end that no window has shown and one should have, see `Absence`.
    """

    start: int
    frames: tuple[Frame, ...]
    arrival: float
    missed_seconds: float = 0.0

    @property
    def seconds(self) -> tuple[float, float]:
        """Half-open interval on the stream's clock, as `clip_seconds`."""
        first, last = (choose(self.frames, key=lambda f: f.seconds) for choose in (min, max))
        return first.seconds, last.end_seconds

    def write(self, out: NDArray[np.uint8]) -> None:
        """Into uint8 [V,T,S,S,3]."""
        for time, frame in enumerate(self.frames):
            out[:, time] = frame.pixels


class SampledTimeline:
    """Frames at `target_fps`, as `resample` takes them; all of them without.

    With a rate, a frame is known to be on the timeline when the next one comes: that delays it by one frame.
    """

    def __init__(self, target_fps: float | None) -> None:
        self._fps = target_fps
        self._last: Frame | None = None
        self._origin = 0.0
        self._count = 0

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Frames of the timeline that are known now."""
        if self._fps is None:
            yield frame
            return
        if self._last is None:
            self._origin = frame.seconds
        else:
            since = frame.seconds - self._origin
            while self._count / self._fps + _GRID_SLACK < since:
                self._count += 1
                yield self._last
        self._last = frame

    def end(self) -> Iterator[Frame]:
        """Those that are left when no frame comes any more; then the timeline begins anew."""
        if self._fps is not None and self._last is not None:
            seconds = self._last.end_seconds - self._origin
            while self._count < max(1, int(np.ceil(seconds * self._fps - _END_SLACK))):
                self._count += 1
                yield self._last
        self._last, self._count = None, 0


class WindowRing:
    """The windows of one stream that are due and not yet taken.

    step: frames of the timeline from one window to the next. max_latency: seconds that a window may wait, counted from
    the arrival of its last frame; None: none is ever skipped, and `is_full` says when to stop pushing.
    num_skipped: windows. num_dropped: frames that were in no window that was taken, for it was skipped.
    """

    def __init__(self, spec: ClipSpec, *, step: int, max_latency: float | None, frame_bytes: int = 0) -> None:
        self.num_skipped = self.num_dropped = 0
        self._spec, self._step, self._max_latency = spec, step, max_latency
        self._timeline = SampledTimeline(spec.target_fps)
        self._last: deque[Frame] = deque(maxlen=spec.span)
        self._due: deque[Window] = deque()
        self._doubtful: deque[tuple[int, Frame]] = deque()
        self._absence = Absence()
        frames = MAX_WAITING_BYTES // max(1, frame_bytes) - spec.span
        self._max_due = max(2, min(10_000, frames // min(step, spec.span)))
        # On the timeline since the stream began: the next frame, the first one of this part, the next window.
        self._next = self._first = self._start = 0
        self._newest = -1  # start of the newest window

    @property
    def is_full(self) -> bool:
        """As many windows wait as may: where none may be skipped, whoever pushes has to wait."""
        return len(self._due) >= (2 if self._max_latency is None else self._max_due)

    @property
    def num_due(self) -> int:
        return len(self._due)

    def push(self, frame: Frame, *, now: float) -> None:
        """The next frame, in the order of time."""
        for sampled in self._timeline.push(frame):
            self._add(sampled)
        self._skip_old(now)

    def restart(self) -> None:
        """The frames that come now do not follow those before: no window spans both."""
        self._last.clear()
        for _ in self._timeline.end():
            pass
        self._first = self._start = self._next
        self._newest = -1
        self._absence.restart()

    def end(self) -> None:
        """No frame comes any more: one more window ends with the last one, as in `window_starts`."""
        for sampled in self._timeline.end():
            self._add(sampled)
        count = self._next - self._first
        if count == 0:
            return
        last = self._first + max(count - self._spec.span, 0)
        if self._newest < last:
            self._emit(last)

    def take(self, *, now: float) -> Window | None:
        """The oldest window that is due and not too old."""
        self._skip_old(now)
        if not self._due:
            return None
        window = self._due.popleft()
        for frame in window.frames:
            frame.used = True
        self._settle()
        return replace(window, missed_seconds=self._absence.taken(*window.seconds, window.missed_seconds))

    def _add(self, frame: Frame) -> None:
        self._absence.frame(frame.seconds, frame.end_seconds)
        self._last.append(frame)
        self._next += 1
        if self._next == self._start + self._spec.span:
            self._emit(self._start)
            self._start += self._step

    def _emit(self, start: int) -> None:
        """The window from `start` on: all of it is in the last frames."""
        offset = start - (self._next - len(self._last))
        picks = (offset + i * self._spec.frame_stride for i in range(self._spec.num_frames))
        frames = tuple(self._last[i % len(self._last)] for i in picks)
        self._due.append(Window(start, frames, self._last[-1].arrival, self._absence.window()))
        self._newest = start

    def _skip_old(self, now: float) -> None:
        if self._max_latency is None:
            return
        oldest_allowed = now - self._max_latency
        if self._due and (self._due[0].arrival < oldest_allowed or len(self._due) > self._max_due):
            # It goes on with the newest one: taking the others in turn, each would be as late as may be.
            while len(self._due) > 1:
                self._skip()
            if self._due[0].arrival < oldest_allowed:
                self._skip()
            self._settle()

    def _skip(self) -> None:
        window = self._due.popleft()
        self.num_skipped += 1
        self._absence.skipped(window.seconds[0], window.missed_seconds)
        for i, frame in enumerate(window.frames):
            if not (frame.used or frame.doubted):
                frame.doubted = True
                self._doubtful.append((window.start + i * self._spec.frame_stride, frame))

    def _settle(self) -> None:
        """Count the frames of skipped windows that no other window has."""
        settled = self._due[0].start if self._due else self._start
        while self._doubtful and self._doubtful[0][0] < settled:
            _, frame = self._doubtful.popleft()
            self.num_dropped += not frame.used
