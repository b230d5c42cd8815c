"""Motion vectors of a codec as a picture: how far what is seen moves in one frame, on a coarse grid.

FFmpeg gives each block of a predicted frame with the place in the reference frame that it was copied from. It says
whether the reference is shown before or after the frame, and not which one it is; the distance comes from the order of
decoding (`ReferenceDistances`), for the nearest reference on that side. An encoder that refers further back (x264 may
look at three frames and more) has its vectors overrated there.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_video.orientation import Orientation

# No decoder keeps more frames than this to refer to.
_MAX_REFERENCES = 16
# Macroblocks of all codecs that export vectors are this large; smaller cells than a block would have holes.
_BLOCK = 16


def grid_size(width: int, height: int, most_rows: int, most_columns: int) -> tuple[int, int]:
    """(rows, columns) of the grid of a picture: cells no smaller than a macroblock, as far as there are any."""
    return max(1, min(most_rows, height // _BLOCK)), max(1, min(most_columns, width // _BLOCK))


def rasterize(
    vectors: NDArray[Any],
    width: int,
    height: int,
    grid: tuple[int, int],
    *,
    past: float = 1.0,
    future: float = 1.0,
) -> NDArray[np.float32]:
    """Displacement for each cell: float32 [rows, columns, 2], (x, y) per frame as fractions of width and height.

    vectors: FFmpeg's AVMotionVector records, as PyAV gives them. past, future: frames to the reference on that side.
    Positive is to the right and down, forward in time. A cell is the mean of the blocks whose centres lie in it, by
    their area; both predictions of a block count. Cells without any (intra blocks) are 0, and nothing moves further
    than a picture.
    """
    rows, columns = grid
    if not len(vectors):
        return np.zeros((rows, columns, 2), np.float32)
    cell = _places(vectors["dst_y"], rows, height) * columns + _places(vectors["dst_x"], columns, width)
    area = vectors["w"].astype(np.float64) * vectors["h"]
    total = np.bincount(cell, area, rows * columns)
    # The vector leads from the block to its source: against time from a source in the past, with it from the future.
    per_frame = area * np.where(vectors["source"] < 0, -1.0 / past, 1.0 / future)
    per_frame /= np.maximum(vectors["motion_scale"], 1)
    moved = [
        np.bincount(cell, vectors[field] * per_frame, rows * columns) / size
        for field, size in (("motion_x", width), ("motion_y", height))
    ]
    mean = np.array(moved, np.float32) / np.maximum(total, 1).astype(np.float32)
    return np.maximum(-1, np.minimum(1, mean)).T.reshape(rows, columns, 2)


def _places(pixels: NDArray[np.int16], count: int, size: int) -> NDArray[np.int64]:
    """The cells of centres of blocks along one axis; what lies outside of the picture is in the outermost."""
    # Not `np.clip`, which takes longer than all of this for so few numbers.
    return np.maximum(0, np.minimum(count - 1, pixels.astype(np.int64) * count // max(size, 1)))


def turned(motion: NDArray[np.float32], orientation: Orientation) -> NDArray[np.float32]:
    """[rows, columns, 2] as coded to [rows', columns', 2] as shown: cells move, and vectors turn with the picture.

    >>> turned(np.array([[[0.5, 0.25]]], np.float32), Orientation(rotation=90)).tolist()
    [[[-0.25, 0.5]]]
    """
    if not orientation.rotation and not orientation.mirrored:
        return motion
    x, y = motion[..., 0], motion[..., 1]
    x, y = {0: (x, y), 90: (-y, x), 180: (-x, -y), 270: (y, -x)}[orientation.rotation]
    return orientation.apply(np.stack([-x if orientation.mirrored else x, y], axis=-1))


class ReferenceDistances:
    """How many frames lie between a frame and what it is predicted from, by the order in which frames are decoded."""

    def __init__(self) -> None:
        self._references: deque[int] = deque(maxlen=_MAX_REFERENCES)
        self._distances: dict[int, tuple[int, int]] = {}

    def add(self, index: int, *, is_reference: bool) -> None:
        """The next frame in decoding order. index: in the order of presentation."""
        before = [r for r in self._references if r < index]
        after = [r for r in self._references if r > index]
        self._distances[index] = (index - max(before) if before else 1, min(after) - index if after else 1)
        if len(self._distances) > 4 * _MAX_REFERENCES:  # frames that never came out
            del self._distances[next(iter(self._distances))]
        if is_reference:
            self._references.append(index)

    def take(self, index: int) -> tuple[int, int]:
        """(frames to the reference in the past, to the one in the future) of a frame that comes out; 1 if unknown."""
        return self._distances.pop(index, (1, 1))
