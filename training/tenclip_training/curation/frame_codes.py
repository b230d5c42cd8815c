"""From a video to the codes of its frames, 16 a second (IG-65M, A.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_training.curation.census import Bars, find_bars, frame_codes
from tenclip_video.spec import Resize
from tenclip_video.video import Video, open_video

FRAMES_PER_SECOND = 16
SIDE = 112
# How codes are made, kept beside them: codes of another recipe are not compared with these.
RECIPE = f"census-8x8 v1, {FRAMES_PER_SECOND} fps, {SIDE}x{SIDE}"
_RESIZE = Resize(mode="squash", height=SIDE, width=SIDE)
# Frames of which the pictures are kept until the bars are known: 50 MB. Longer videos are looked at twice.
_MAX_KEPT = 4096
_BAR_FRAMES = 32


@dataclass(frozen=True, kw_only=True)
class VideoCodes:
    """codes: uint64 [N], that of the frame shown at `start_seconds + n / 16`. flat: bool [N], see `census`."""

    codes: NDArray[np.uint64]
    flat: NDArray[np.bool_]
    start_seconds: float = 0.0
    bars: Bars = field(default_factory=Bars)


def compute_codes(
    path: Path, *, start_seconds: float | None = None, end_seconds: float | None = None, name: str | None = None
) -> VideoCodes:
    """Decode the part [start, end) of a video and make the codes of its frames.

    Raises VideoError for a video that cannot be read, and InvalidRequest for a part that lies behind its end.
    """
    with open_video(path, name=name) as video:
        start = start_seconds or 0.0
        indices = sample_indices(video.times, video.info.duration_seconds, start, end_seconds)
        if not len(indices):
            raise InvalidRequest(
                f"{video.name}: no frame at {start:g} s or later; it is {video.info.duration_seconds:g} s long"
            )
        codes, flat, bars = _codes_of(video, np.unique(indices))
        at = np.searchsorted(np.unique(indices), indices)
    return VideoCodes(codes=codes[at], flat=flat[at], start_seconds=start, bars=bars)


def sample_indices(
    times: NDArray[np.float64],
    duration_seconds: float,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    *,
    rate: float = FRAMES_PER_SECOND,
) -> NDArray[np.int64]:
    """The frames that are shown at `start`, `start + 1/rate`, ... before `end` and before the end of the video.

    times: [N] when each frame begins, in seconds. A frame that is shown longer than 1/rate comes more than once.

    >>> sample_indices(np.array([0.0, 0.1, 0.2]), 0.3).tolist()
    [0, 0, 1, 1, 2]
    """
    end = duration_seconds if end_seconds is None else min(end_seconds, duration_seconds)
    count = int(np.ceil((end - start_seconds) * rate - 1e-6))
    if count <= 0 and start_seconds == 0.0:
        count = 1  # a single picture without a duration
    at = start_seconds + np.arange(max(count, 0)) / rate
    return np.maximum(np.searchsorted(times, at + 1e-6, side="right") - 1, 0).astype(np.int64)


def _codes_of(video: Video, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_], Bars]:
    if len(indices) <= _MAX_KEPT:
        greys = _Greys(len(indices))
        video.read_into(greys, indices, _RESIZE)
        bars = find_bars(greys.pictures)
        return (*frame_codes(bars.crop(greys.pictures)), bars)
    few = indices[np.linspace(0, len(indices) - 1, _BAR_FRAMES).astype(np.int64)]
    sample = _Greys(len(few))
    video.read_into(sample, few, _RESIZE)
    bars = find_bars(sample.pictures)
    codes = _Codes(len(indices), bars)
    video.read_into(codes, indices, _RESIZE)
    return codes.codes, codes.flat, bars


class _Greys:
    """Keeps frames as grey pictures: uint8 [N,112,112]."""

    def __init__(self, count: int) -> None:
        self.pictures = np.zeros((count, SIDE, SIDE), np.uint8)

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        self.pictures[slot] = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)

    def repeat(self, slot: int, of: int) -> None:
        self.pictures[slot] = self.pictures[of]


class _Codes:
    """Keeps the codes of frames only."""

    def __init__(self, count: int, bars: Bars) -> None:
        self.codes, self.flat = np.zeros(count, np.uint64), np.zeros(count, np.bool_)
        self._bars = bars

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)
        codes, flat = frame_codes(self._bars.crop(grey[None]))
        self.codes[slot], self.flat[slot] = codes[0], flat[0]

    def repeat(self, slot: int, of: int) -> None:
        self.codes[slot], self.flat[slot] = self.codes[of], self.flat[of]
