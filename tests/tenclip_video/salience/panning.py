"""Videos of a camera that pans over a texture, so that every block moves the same known way."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_video.salience import SamplerSpec, default_spec
from tenclip_video.sampling import Clip, ClipSelection, plan_clips
from tenclip_video.spec import ClipSpec
from tenclip_video.video import Video
from tests.videos import Painter

SPEC = ClipSpec(num_frames=16)
WIDTH, HEIGHT = 160, 128

_COARSE = (np.random.default_rng(0).random((60, 120)) * 255).astype(np.uint8)
_SCENE = cv2.resize(_COARSE, (1200, 600), interpolation=cv2.INTER_CUBIC)


def pan(x: int, y: int) -> Painter:
    """What is seen moves `x` pixels to the right and `y` down with each frame, for 60 frames and 4 pixels at most."""

    def paint(number: int, height: int, width: int) -> NDArray[np.uint8]:
        left, top = 300 - x * number, 300 - y * number
        return np.repeat(_SCENE[top : top + height, left : left + width, None], 3, axis=2)

    return paint


def still(number: int, height: int, width: int) -> NDArray[np.uint8]:
    return pan(0, 0)(number, height, width)


def windows_of(video: Video, spec: SamplerSpec | None = None, model: ClipSpec = SPEC) -> list[Clip]:
    """The candidate windows of a video."""
    step = (spec or default_spec("rgb", model)).window_step
    selection = ClipSelection(mode="salient", window_step=step)
    return plan_clips(video.times, video.info.duration_seconds, model, selection)
