"""A filmstrip: small pictures of a video at evenly spaced times, for people to look at.

`read_filmstrip(video, 12)` takes the frames of an open video. Where frames are decoded for clips anyway, `Filmstrip`
takes its pictures from those on their way; else a keyframe that is near enough stands in for the frame itself, because
it is decoded alone, without those before it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tenclip_api.errors import VideoError
from tenclip_video.frame_reader import FrameSink
from tenclip_video.index import FrameIndex
from tenclip_video.spec import Resize
from tenclip_video.video import Video

# Of one answer. More than these no page shows side by side.
MAX_PICTURES = 64
# Pixels: the height of a picture, unless the video is lower or so wide that its width is the limit.
PICTURE_HEIGHT, MAX_PICTURE_WIDTH = 72, 256
# A picture of nothing but noise has 20,000 bytes at the first of the qualities; 4,000 are usual.
MAX_PICTURE_BYTES = 32 << 10
_QUALITIES = (72, 40, 10)
# Times are sums of floats.
_SECONDS_SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """One picture: the time of its frame in seconds from the video's first, a JPEG file, and its size in pixels."""

    seconds: float
    jpeg: bytes
    width: int
    height: int


class Filmstrip:
    """The pictures of a part of an open video; `read` gives them.

    count: at most `MAX_PICTURES`; fewer come of a video that has fewer frames. start_seconds, end_seconds: of this part
    only. passing: [M] ascending frames that are read anyway, through `beside`; they are scaled by `passing_resize`, and
    not used where that makes them smaller than a picture.
    """

    def __init__(
        self,
        video: Video,
        count: int,
        *,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        passing: NDArray[np.int64] | None = None,
        passing_resize: Resize | None = None,
    ) -> None:
        duration = video.info.duration_seconds
        end = duration if end_seconds is None else min(end_seconds, duration)
        self._video = video
        self._size = picture_size(video.info.width, video.info.height)
        if passing is None or passing_resize is None or not self._fits(video.frame_size(passing_resize)):
            passing = np.empty(0, np.int64)
        self._wanted = choose_frames(video.index, min(count, MAX_PICTURES), start_seconds or 0.0, end, passing)
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def beside(self, sink: FrameSink, frames: NDArray[np.int64]) -> FrameSink:
        """`sink`, of which a copy is kept of each frame that is a picture. frames: [M] of the read, ascending."""
        wanted = {int(np.searchsorted(frames, i)): int(i) for i in self._wanted if i in frames}
        return _Beside(sink, wanted, self._keep)

    def read(self) -> tuple[Thumbnail, ...]:
        """Pictures in order of time, upright, with the video's own aspect ratio.

        A video of which none of the frames can be decoded gives no pictures: they are an extra, and no reason to refuse
        what else was asked for.
        """
        missing = [int(i) for i in self._wanted if int(i) not in self._kept]
        height, width = self._size
        if missing:
            try:
                frames = self._video.read_frames(missing, Resize(height=height, width=width))  # [M,H,W,3]
            except VideoError:
                return ()
            self._kept |= dict(zip(missing, frames, strict=True))
        times = self._video.times
        return tuple(
            Thumbnail(seconds=float(times[i]), jpeg=_jpeg(self._kept[i]), width=width, height=height)
            for i in self._wanted.tolist()
        )

    def _fits(self, size: tuple[int, int]) -> bool:
        return size[0] >= self._size[0] and size[1] >= self._size[1]

    def _keep(self, index: int, frame: NDArray[np.uint8]) -> None:
        height, width = self._size
        if self._fits((frame.shape[0], frame.shape[1])):
            picture = Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), Image.Resampling.BILINEAR)
            self._kept[index] = np.asarray(picture)


class _Beside:
    """A sink that shows each frame of `wanted` (slot -> index) to `keep` as well. One that is repeated is not shown."""

    def __init__(self, sink: FrameSink, wanted: dict[int, int], keep: Callable[[int, NDArray[np.uint8]], None]) -> None:
        self._sink, self._wanted, self._keep = sink, wanted, keep

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        self._sink.put(slot, frame)
        if slot in self._wanted:
            self._keep(self._wanted[slot], frame)

    def repeat(self, slot: int, of: int) -> None:
        self._sink.repeat(slot, of)


def read_filmstrip(
    video: Video, count: int, *, start_seconds: float | None = None, end_seconds: float | None = None
) -> tuple[Thumbnail, ...]:
    """The pictures of `Filmstrip`, of a video of which nothing else is read. None for a count of 0."""
    return Filmstrip(video, count, start_seconds=start_seconds, end_seconds=end_seconds).read() if count > 0 else ()


def choose_frames(
    index: FrameIndex, count: int, start: float, end: float, passing: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Frames near the middles of `count` equal parts of [start, end), seconds: ascending, each once.

    In each part it is the one nearest to the middle of those that are read anyway (`passing`), else of the keyframes,
    else of all. Where the file has no usable times, all frames before one are decoded, and keyframes save nothing.
    """
    part = max(end - start, 0.0) / count
    middles: NDArray[np.float64] = start + part * (np.arange(count, dtype=np.float64) + 0.5)
    chosen = _nearest(index.times, middles)
    keyframes = np.flatnonzero(np.isin(index.pts, index.keyframe_pts)) if index.timed else np.empty(0, np.int64)
    for cheap in (keyframes, passing):
        if cheap is None or not len(cheap):
            continue
        nearest = _nearest(index.times[cheap], middles)
        beyond = index.times[cheap][nearest] - middles
        is_near = (beyond >= -part / 2 - _SECONDS_SLACK) & (beyond < part / 2 - _SECONDS_SLACK)
        chosen = np.where(is_near, cheap[nearest], chosen)
    return np.unique(chosen).astype(np.int64)


def picture_size(width: int, height: int) -> tuple[int, int]:
    """(height, width) of a picture of a `width` x `height` video, which is never made larger.

    >>> picture_size(1920, 1080), picture_size(4000, 100), picture_size(48, 32)
    ((72, 128), (6, 256), (32, 48))
    """
    scale = min(1.0, PICTURE_HEIGHT / height, MAX_PICTURE_WIDTH / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the nearest of the ascending `times` for each of `wanted`; the earlier one of two that are as near."""
    after = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    before = after - 1
    if len(times) == 1:
        return np.zeros(len(wanted), np.int64)
    return np.where(wanted - times[before] <= times[after] - wanted, before, after).astype(np.int64)


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_PICTURE_BYTES:
            break
    return buffer.getvalue()
