"""What of a video a teacher sees: the student's own clip, or whole frames.

clip: the square that the student's clip was cut from, and its mirror image where the student has that, taken from the
frames at their full size and scaled to the teacher's input. Colours are not varied.
frame: the frame as the teacher's own resize and centre crop give it, whatever the student sees. It is the same at each
visit, so that outputs can be kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tenclip_training.data.augment import Placement, scale_frames


def same_square(frames: NDArray[np.uint8], place: Placement, side: int) -> NDArray[np.uint8]:
    """uint8 [M,H,W,3] of any size -> [M,side,side,3]: the part that `place` is of the student's frames.

    Where the student's frames are squashed (128x171), so is what the teacher sees.

    >>> place = Placement(top=8, left=0, side=112, height=128, width=171)
    >>> same_square(np.zeros((1, 256, 342, 3), np.uint8), place, 224).shape
    (1, 224, 224, 3)
    """
    height, width = frames.shape[1:3]
    top, bottom = _scaled(place.top, place.side, height / place.height)
    left, right = _scaled(place.left, place.side, width / place.width)
    square = scale_frames(frames[:, top:bottom, left:right], side)
    return np.ascontiguousarray(square[:, :, ::-1] if place.mirrored else square)


def _scaled(start: int, length: int, factor: float) -> tuple[int, int]:
    first = round(start * factor)
    return first, max(first + 1, round((start + length) * factor))
