"""A filmstrip: small pictures of a video at evenly spaced times, for people to look at.

`read_filmstrip(video, 12)` takes the frames of an open video. Where a keyframe is near enough it stands in for the
frame itself: it is decoded alone, without those before it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tenclip_api.errors import VideoError
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


def read_filmstrip(
    video: Video, count: int, *, start_seconds: float | None = None, end_seconds: float | None = None
) -> tuple[Thumbnail, ...]:
    """Pictures in order of time, upright, with the video's own aspect ratio.

    count: at most `MAX_PICTURES`; fewer come of a video that has fewer frames. start_seconds, end_seconds: of this part
    only. A video of which none of these frames can be decoded gives no pictures: they are an extra, and no reason to
    refuse what else was asked for.
    """
    if count < 1:
        return ()
    end = video.info.duration_seconds if end_seconds is None else min(end_seconds, video.info.duration_seconds)
    indices = choose_frames(video.index, min(count, MAX_PICTURES), start_seconds or 0.0, end)
    height, width = picture_size(video.info.width, video.info.height)
    try:
        frames = video.read_frames(indices, Resize(height=height, width=width))  # [M,H,W,3]
    except VideoError:
        return ()
    times = video.times[indices].tolist()
    return tuple(
        Thumbnail(seconds=seconds, jpeg=_jpeg(frame), width=width, height=height)
        for seconds, frame in zip(times, frames, strict=True)
    )


def choose_frames(index: FrameIndex, count: int, start: float, end: float) -> NDArray[np.int64]:
    """Frames near the middles of `count` equal parts of [start, end), seconds: ascending, each once.

    In each part the keyframe that is nearest to its middle, where there is one; else the nearest frame. Where the file
    has no usable times, all frames before one are decoded anyway, and keyframes save nothing.
    """
    part = max(end - start, 0.0) / count
    middles: NDArray[np.float64] = start + part * (np.arange(count, dtype=np.float64) + 0.5)
    nearest = _nearest(index.times, middles)
    if index.timed and len(index.keyframe_pts):
        keyframes = np.flatnonzero(np.isin(index.pts, index.keyframe_pts))
        if len(keyframes):
            chosen = _nearest(index.times[keyframes], middles)
            beyond = index.times[keyframes][chosen] - middles
            is_near = (beyond >= -part / 2 - _SECONDS_SLACK) & (beyond < part / 2 - _SECONDS_SLACK)
            nearest = np.where(is_near, keyframes[chosen], nearest)
    return np.unique(nearest).astype(np.int64)


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
