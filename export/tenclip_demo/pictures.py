"""Thumbnails of a video for the page."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tenclip_video.spec import Resize
from tenclip_video.video import open_video

COUNT = 10
HEIGHT = 66
QUALITY = 72


def thumbnails(video: Path, *, count: int = COUNT, height: int = HEIGHT) -> tuple[bytes, ...]:
    """`count` frames from the beginning to the end of a video as JPEG files, `height` pixels high.

    A portrait video is as wide as it is narrow. Raises VideoError.
    """
    with open_video(video) as opened:
        info = opened.info
        # The middles of `count` equal parts of the time, so that they stand over the time axis below them.
        moments = (np.arange(count) + 0.5) / count * info.duration_seconds
        wanted = np.clip(np.searchsorted(opened.times, moments, side="right") - 1, 0, len(opened.times) - 1)
        indices, places = np.unique(wanted, return_inverse=True)
        width = max(1, round(height * info.width / info.height))
        frames = opened.read_frames(indices, Resize(height=height, width=width))  # [M,H,W,3]
    return tuple(_jpeg(frames[place]) for place in places)


def _jpeg(frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
