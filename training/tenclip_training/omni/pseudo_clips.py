"""Image -> clip of T frames (OmniSource, section 3.5 and Table 8).

replicate            the image, T times
translate-constant   a window that moves over the image at constant speed
translate-random     the same, with another speed at each frame
warp                 as seen by a moving camera: J_1 = I, J_i = H_i(J_{i-1}), H_i drawn from a fitted Gaussian (eq. 2)
warp-class           the same, from the Gaussian of the image's class

Top-1 of SlowOnly 4x16 on Kinetics-400 in the paper, beside images of the web: none 73.8, replicated 74.1, translated
73.7 (random) and 73.8 (constant), warped 74.4 (per class) and 74.5 (all classes).

The matrices are composed, and the image is warped once for each frame, so that pixels are not resampled over and over.
What lies beyond the image is its mirror image. The paper gives none of this, nor the size of the window that moves,
nor what to do with a walk that goes astray: those are this project's. Images are uint8 RGB [H,W,3], clips [T,H,W,3].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_training.omni.homographies import (
    IDENTITY,
    HomographyGaussian,
    Matrix,
    normalised,
    stays_in_sight,
    to_pixels,
)
from tenclip_training.omni.stills_config import ImageTransform

TRANSFORMS: tuple[ImageTransform, ...] = get_args(ImageTransform)

# The part of the image's sides that the moving window of a translation has: 112 of 128.
WINDOW = 0.875
# Draws of one homography before the camera is left where it is for this frame.
MAX_DRAWS = 20

Image = NDArray[np.uint8]
Clip = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """T matrices, from the first frame to each (the first is the identity); how many draws were rejected because the
    frame would fold or leave the image, and in how many frames the camera had to stand still for it.
    """

    matrices: tuple[Matrix, ...]
    rejected: int = 0
    held: int = 0


def walk(gaussian: HomographyGaussian, num_frames: int, rng: np.random.Generator) -> Walk:
    """Draw the camera's way over T frames."""
    matrices = [IDENTITY]
    rejected = held = 0
    for _ in range(num_frames - 1):
        for _ in range(MAX_DRAWS):
            moved = _after(gaussian.sample(rng), matrices[-1])
            if moved is not None:
                break
            rejected += 1
        else:
            held += 1
            moved = matrices[-1]
        matrices.append(moved)
    return Walk(matrices=tuple(matrices), rejected=rejected, held=held)


def _after(step: Matrix, before: Matrix) -> Matrix | None:
    """`step` after `before`; None where that is not to be had or leaves the image."""
    try:
        moved = normalised(step @ before)
        return moved if stays_in_sight(moved) else None
    except (ValueError, np.linalg.LinAlgError):
        return None


@dataclass(frozen=True, kw_only=True)
class WalkShares:
    """rejected: part of all draws that was rejected. held: part of the frames in which the camera had to stand."""

    rejected: float
    held: float


def walk_shares(gaussian: HomographyGaussian, num_frames: int, *, walks: int = 50, seed: int = 0) -> WalkShares:
    """What to expect of clips of T frames, measured on walks of their own."""
    drawn = [walk(gaussian, num_frames, np.random.default_rng((seed, i))) for i in range(walks)]
    steps, rejected, held = walks * (num_frames - 1), sum(w.rejected for w in drawn), sum(w.held for w in drawn)
    if not steps:
        return WalkShares(rejected=0.0, held=0.0)
    return WalkShares(rejected=rejected / (steps - held + rejected), held=held / steps)


def canvas_size(transform: ImageTransform, height: int, width: int) -> tuple[int, int]:
    """The size that an image is scaled to for frames of height x width: larger where a window moves over it.

    >>> canvas_size("warp", 128, 171), canvas_size("translate-random", 112, 112)
    ((128, 171), (128, 128))
    """
    if not transform.startswith("translate"):
        return height, width
    return round(height / WINDOW), round(width / WINDOW)


def pseudo_clip(
    image: Image,
    num_frames: int,
    size: tuple[int, int],
    transform: ImageTransform,
    rng: np.random.Generator,
    *,
    gaussian: HomographyGaussian | None = None,
) -> Clip:
    """A clip of T frames of `size`, uint8 [T,H,W,3].

    image: of `canvas_size(transform, *size)`. gaussian: for warp and warp-class. The clip follows from the image and
    the rng alone. Raises ValueError for an image of another size.
    """
    if image.shape[:2] != canvas_size(transform, *size):
        raise ValueError(f"an image of {image.shape[:2]} for frames of {size} and transform {transform!r}")
    if transform == "replicate" or min(size) < 2:  # a picture of one row or column has no perspective
        return np.repeat(image[None, : size[0], : size[1]], num_frames, axis=0)
    if transform.startswith("translate"):
        return _windows(image, _positions(image.shape[:2], size, num_frames, transform, rng), size)
    if gaussian is None:
        raise ValueError(f"transform {transform!r} needs a fitted motion")
    return warp(image, walk(gaussian, num_frames, rng).matrices)


def warp(image: Image, matrices: tuple[Matrix, ...]) -> Clip:
    """The image as each of these scaled homographies shows it, [T,H,W,3]. The identity gives the image to the bit."""
    height, width = image.shape[:2]
    clip = np.empty((len(matrices), height, width, 3), np.uint8)
    for frame, matrix in zip(clip, matrices, strict=True):
        if np.array_equal(matrix, IDENTITY):
            frame[:] = image
        else:
            cv2.warpPerspective(
                image,
                to_pixels(matrix, height, width),
                (width, height),
                dst=frame,
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT_101,
            )
    return clip


def _positions(
    canvas: tuple[int, ...], size: tuple[int, int], num_frames: int, transform: ImageTransform, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Top left corner (y, x) of the window in each frame, float64 [T,2]."""
    slack = np.array(canvas, np.float64) - size
    start, end = rng.uniform(0, 1, (2, 2)) * slack
    if transform == "translate-constant":
        return np.linspace(start, end, num_frames)  # of one frame: the start
    # As fast on the average as at constant speed, where a window crosses a third of the slack in T - 1 steps.
    steps = rng.uniform(-1, 1, (num_frames - 1, 2)) * slack * 2 / 3 / max(1, num_frames - 1)
    positions = [start]
    for step in steps:
        positions.append(np.clip(positions[-1] + step, 0, slack))
    return np.stack(positions)


def _windows(image: Image, positions: NDArray[np.float64], size: tuple[int, int]) -> Clip:
    clip = np.empty((len(positions), *size, 3), np.uint8)
    for frame, (y, x) in zip(clip, positions, strict=True):
        shift = np.array([[1, 0, -x], [0, 1, -y]], np.float64)
        cv2.warpAffine(image, shift, size[::-1], dst=frame, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return clip
