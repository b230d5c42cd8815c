"""The census transform of Zabih and Woodfill, and the 64-bit code of a frame that is made of it.

A pixel's census code says which of its 8 neighbours are darker than itself. IG-65M (A.2) makes 64 dimensions a frame
of it and does not say how. Two ways were compared on 60 smooth random pictures (`make bench ARGS=duplicates`):

- `frame_codes`, which is used: the frame as 8x8 areas, a bit for each, whether it is brighter than the mean of its
  neighbours. Copies of half the size differ in no bit and noisy ones (standard deviation 4) in 1; strangers in 17.
- `census_histogram`, which is only measured: a histogram of the pixels' census codes, folded to 64 bins, compared by
  cosine. Copies of half the size reach 0.9998 and noisy ones 0.9947, but strangers 0.9980.

Brightness and contrast do not change a frame's code; cropping and mirroring do. In a picture that changes evenly from
side to side an area is as bright as its neighbours are, so that bits are left to noise. Codes of mirrored frames follow
from those of the frames (`mirrored`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

GRID = 8
# Frames whose areas differ by fewer grey levels (black, fades, plain titles) resemble each other in different videos.
FLAT_RANGE = 8.0
# A bar is no brighter than this: black in limited range, and what compression adds.
_BAR_LEVEL = 32
# Bars are looked for in this part of each side only.
_MAX_BAR = 0.4


@dataclass(frozen=True)
class Bars:
    """Rows and columns of black bars at the sides of a picture."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def crop(self, greys: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the bars off pictures [..., H, W]."""
        height, width = greys.shape[-2:]
        return greys[..., self.top : height - self.bottom, self.left : width - self.right]


def census_transform(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The census codes of the inner pixels of a picture [H,W]: uint8 [H-2,W-2].

    Bits say "neighbour < centre", neighbours in reading order, the first one in the highest bit.

    >>> census_transform(np.array([[1, 9, 5], [5, 5, 7], [3, 8, 2]], np.uint8)).tolist()
    [[133]]
    """
    height, width = grey.shape
    centre = grey[1:-1, 1:-1]
    codes: NDArray[np.uint8] = np.zeros(centre.shape, np.uint8)
    for row in range(3):
        for column in range(3):
            if (row, column) != (1, 1):
                neighbour = grey[row : height - 2 + row, column : width - 2 + column]
                codes = np.asarray((codes << 1) | (neighbour < centre), np.uint8)
    return codes


def census_histogram(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Histogram of census codes, folded to 64 bins, of unit length: float64 [64]. Only compared, see the module."""
    counts = np.bincount(census_transform(grey).ravel() >> 2, minlength=64).astype(np.float64)
    return counts / max(float(np.linalg.norm(counts)), 1e-12)


def frame_codes(greys: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The codes of pictures [N,H,W], and which of them are flat: uint64 [N], bool [N].

    The area in row r and column c is bit 63 - (8 r + c). An area at the border is compared with the neighbours that it
    has.
    """
    grids = np.empty((len(greys), GRID, GRID), np.float32)
    for grid, grey in zip(grids, greys, strict=True):
        grid[:] = cv2.resize(grey.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
    return codes_of_grids(grids), np.asarray(np.ptp(grids, axis=(1, 2)) < FLAT_RANGE, np.bool_)


def codes_of_grids(grids: NDArray[np.float32]) -> NDArray[np.uint64]:
    """The codes of pictures of which the mean of each area is known: [N,8,8] -> uint64 [N]."""
    padded = np.pad(grids, ((0, 0), (1, 1), (1, 1)))
    around = sum(padded[:, r : r + GRID, c : c + GRID] for r in range(3) for c in range(3)) - grids
    bits = grids * _neighbour_counts() > around
    packed = np.packbits(bits.reshape(len(grids), GRID * GRID), axis=1)
    return packed.view(">u8")[:, 0].astype(np.uint64)


def mirrored(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The codes of the same frames mirrored left to right: the bits of each row of areas in the other order."""
    rows = np.ascontiguousarray(codes.astype(">u8")).view(np.uint8)
    reversed_rows = np.packbits(np.unpackbits(rows[:, None], axis=1)[:, ::-1], axis=1)
    return np.ascontiguousarray(reversed_rows[:, 0]).view(">u8").astype(np.uint64)


def find_bars(greys: NDArray[np.uint8]) -> Bars:
    """Black bars that pictures [N,H,W] of one video share; none where all of them are dark."""
    brightest = greys.max(axis=0)  # [H,W]: a bar is dark in every frame
    if brightest.max() <= 2 * _BAR_LEVEL:
        return Bars()
    rows, columns = brightest.max(axis=1) > _BAR_LEVEL, brightest.max(axis=0) > _BAR_LEVEL
    return Bars(_bar(rows), _bar(rows[::-1]), _bar(columns), _bar(columns[::-1]))


def _bar(lit: NDArray[np.bool_]) -> int:
    """Dark lines before the first that is lit; none where there are more than a bar can have."""
    first = int(np.argmax(lit))
    return first if first <= _MAX_BAR * len(lit) else 0


def _neighbour_counts() -> NDArray[np.float32]:
    inner = np.pad(np.ones((GRID, GRID), np.float32), 1)
    return np.asarray(sum(inner[r : r + GRID, c : c + GRID] for r in range(3) for c in range(3)) - 1, np.float32)
