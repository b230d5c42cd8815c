"""Homographies in scaled coordinates, and the Gaussian that they are drawn from (OmniSource, section 3.5).

A homography here maps a point of one frame to where it is in the next, in coordinates of [-1, 1] whatever the frame's
size: x' = 2x / (W - 1) - 1, and the same with H for y. In pixels the entries would differ by five orders of magnitude
(a shift is about 10, a perspective term about 1e-5), and their covariance could hardly be inverted.

Matrices are float64 [3,3] with H33 = 1; the 8 other entries, row by row, are what the Gaussian is over:
h11 h12 h13 h21 h22 h23 h31 h32. The paper gives neither the parametrisation nor any limit: both are this project's.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

ENTRIES = ("h11", "h12", "h13", "h21", "h22", "h23", "h31", "h32")
IDENTITY: Matrix = np.eye(3)
# Added to the diagonal of a covariance, so that it has a Cholesky factor however few or alike the homographies were.
RIDGE = 1e-8
# Of a fitted homography: the area of its 2x2 part, and how far a corner may move, as a part of the frame's side.
MIN_AREA, MAX_AREA, MAX_CORNER_SHIFT = 0.5, 2.0, 0.25
# Of a pseudo-clip: how far a corner may get from the centre, in half sides; see `stays_in_sight`.
SIGHT = 1.5
_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
_HOMOGENEOUS = np.column_stack([_CORNERS, np.ones(4)])
_NEXT, _AFTER_NEXT = np.array([1, 2, 3, 0]), np.array([2, 3, 0, 1])

Rejection = Literal["degenerate", "area", "corner-shift"]


def scaling(height: int, width: int) -> Matrix:
    """The matrix from pixels (x, y, 1) to coordinates of [-1, 1]. Raises ValueError for a side below 2 pixels.

    >>> scaling(3, 5) @ np.array([4, 0, 1])
    array([ 1., -1.,  1.])
    """
    if min(height, width) < 2:
        raise ValueError(f"a picture of {height}x{width} has no corners to scale by; both sides need 2 pixels")
    return np.array([[2 / (width - 1), 0, -1], [0, 2 / (height - 1), -1], [0, 0, 1]])


def to_scaled(pixels: Matrix, height: int, width: int) -> Matrix:
    """A homography of pixel coordinates, in scaled ones; H33 = 1.

    One pixel to the right in a picture 5 wide is half a unit:

    >>> to_scaled(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1.0]]), 5, 5)[0]
    array([1. , 0. , 0.5])
    """
    scale = scaling(height, width)
    return normalised(scale @ pixels @ np.linalg.inv(scale))


def to_pixels(scaled: Matrix, height: int, width: int) -> Matrix:
    """A homography of scaled coordinates, in pixels of a picture of this size."""
    scale = scaling(height, width)
    return np.linalg.inv(scale) @ scaled @ scale


def normalised(matrix: Matrix) -> Matrix:
    """The same homography with H33 = 1. Raises ValueError where the centre of the frame is sent to infinity."""
    if not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-9:
        raise ValueError("a homography whose H33 is 0 or not finite cannot be normalised")
    return np.asarray(matrix / matrix[2, 2], np.float64)


def free_entries(matrix: Matrix) -> NDArray[np.float64]:
    """The 8 entries of a normalised homography, row by row."""
    return normalised(matrix).reshape(9)[:8]


def from_entries(entries: NDArray[np.float64]) -> Matrix:
    """The homography of 8 entries."""
    return np.append(entries, 1.0).reshape(3, 3)


def corners_after(matrix: Matrix) -> NDArray[np.float64] | None:
    """Where the four corners of the frame go: [4,2], scaled; None where one lies behind the camera: the frame folds."""
    points = _HOMOGENEOUS @ matrix.T
    if not points[:, 2].min() >= 1e-6:  # NaN, too
        return None
    corners = points[:, :2] / points[:, 2:]
    return corners if np.isfinite(corners).all() else None


def folds(matrix: Matrix) -> bool:
    """Whether the image of the frame is no convex quadrilateral of the same sense: part of it is turned over."""
    return _unfolded(matrix) is None


def _unfolded(matrix: Matrix) -> NDArray[np.float64] | None:
    """`corners_after`, and None for any fold."""
    corners = corners_after(matrix)
    if corners is None:
        return None
    following = corners[_NEXT]
    sides, next_sides = following - corners, corners[_AFTER_NEXT] - following
    turns = sides[:, 0] * next_sides[:, 1] - sides[:, 1] * next_sides[:, 0]
    return corners if turns.min() > 1e-6 else None


def stays_in_sight(matrix: Matrix) -> bool:
    """Whether a frame warped by `matrix` still shows the picture: no fold, and no corner leaves 1.5 times the frame,
    neither one of the picture within the frame's coordinates nor one of the frame within the picture's.
    """
    forth = _unfolded(matrix)
    if forth is None or np.abs(forth).max() > SIGHT:
        return False
    back = np.linalg.inv(matrix)
    if abs(back[2, 2]) < 1e-9:
        return False
    there = _unfolded(back / back[2, 2])
    return there is not None and bool(np.abs(there).max() <= SIGHT)


def why_implausible(matrix: Matrix) -> Rejection | None:
    """The reason for which a fitted homography cannot be a camera's move between neighbouring frames; None for none."""
    if folds(matrix):
        return "degenerate"
    area = float(np.linalg.det(matrix[:2, :2]))
    if not MIN_AREA <= area <= MAX_AREA:
        return "area"
    corners = corners_after(matrix)
    assert corners is not None
    if np.abs(corners - _CORNERS).max() / 2 > MAX_CORNER_SHIFT:  # a side is 2 units
        return "corner-shift"
    return None


@dataclass(frozen=True, eq=False)
class HomographyGaussian:
    """mean: float64 [8]; covariance: float64 [8,8]; count: homographies that it was fitted to.

    Raises ValueError for other shapes, for values that are not finite and for a covariance that is none.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int = 0

    def __post_init__(self) -> None:
        if self.mean.shape != (8,) or self.covariance.shape != (8, 8):
            raise ValueError(
                f"a Gaussian over the 8 entries of a homography has a mean of (8,) and a covariance of (8, 8), not "
                f"{self.mean.shape} and {self.covariance.shape}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise ValueError("the mean or the covariance of homographies is not finite")
        if not np.allclose(self.covariance, self.covariance.T, atol=1e-12):
            raise ValueError("the covariance of homographies is not symmetric")
        _ = self.factor

    @functools.cached_property
    def factor(self) -> NDArray[np.float64]:
        """The Cholesky factor of the covariance; zeros for zeros, so that a still camera is exactly still."""
        if not self.covariance.any():
            return np.zeros_like(self.covariance)
        try:
            return np.asarray(np.linalg.cholesky(self.covariance), np.float64)
        except np.linalg.LinAlgError:
            raise ValueError("the covariance of homographies is not positive definite") from None

    @classmethod
    def still(cls) -> HomographyGaussian:
        """The camera that does not move: the identity, always."""
        return cls(free_entries(IDENTITY), np.zeros((8, 8)))

    @classmethod
    def fit(cls, matrices: Sequence[Matrix]) -> HomographyGaussian:
        """Maximum likelihood: the mean, and the mean outer product of what differs from it (1/n, not 1/(n - 1)).

        RIDGE is added to the diagonal. Raises ValueError for no homographies.
        """
        if not len(matrices):
            raise ValueError("no homographies to fit a Gaussian to")
        entries = np.stack([free_entries(m) for m in matrices])
        mean = entries.mean(axis=0)
        centred = entries - mean
        return cls(mean, centred.T @ centred / len(entries) + RIDGE * np.eye(8), len(entries))

    def entries(self, normal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Entries [...,8] for standard normal numbers [...,8]: mu + L z, with L the Cholesky factor of Sigma."""
        return self.mean + normal @ self.factor.T

    def sample(self, rng: np.random.Generator) -> Matrix:
        """Draw a homography."""
        return from_entries(self.entries(rng.standard_normal(8)))
