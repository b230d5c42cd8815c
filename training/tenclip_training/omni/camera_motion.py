"""The homography between two frames: features, robust matching (OpenCV), and what speaks against the result.

lk: corners (Shi and Tomasi), followed by pyramidal Lucas-Kanade forth and back; a corner that does not come back to
within a pixel is dropped. orb: ORB descriptors, matched both ways by Hamming distance; for frames so far apart that
corners cannot be followed. Then RANSAC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_training.omni.homographies import Matrix, Rejection, to_scaled, why_implausible

Features = Literal["lk", "orb"]
Reason = Literal["few-features", "few-inliers"] | Rejection

# Fewer agreeing points say nothing reliable about 8 unknowns.
MIN_INLIERS = 30
MAX_FEATURES = 500
_RANSAC_PIXELS = 2.0
_MAX_RETURN_PIXELS = 1.0
_NO_GUESS: Any = None  # OpenCV's stubs know of no call without a first guess

Points = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Estimate:
    """matrix: scaled, from the first frame to the second; None where `reason` says why there is none to be trusted."""

    matrix: Matrix | None
    reason: Reason | None = None
    inliers: int = 0


def estimate_homography(first: NDArray[np.uint8], second: NDArray[np.uint8], features: Features = "lk") -> Estimate:
    """first, second: grey uint8 [H,W] of one size, both sides 2 pixels or more."""
    before, after = (_followed if features == "lk" else _matched)(first, second)
    if len(before) < MIN_INLIERS:
        return Estimate(None, "few-features")
    matrix, mask = cv2.findHomography(before, after, cv2.RANSAC, _RANSAC_PIXELS, maxIters=2000, confidence=0.995)
    inliers = 0 if mask is None else int(np.count_nonzero(mask))
    if matrix is None or inliers < MIN_INLIERS:
        return Estimate(None, "few-inliers", inliers)
    try:
        scaled = to_scaled(np.asarray(matrix, np.float64), *first.shape)
    except ValueError:
        return Estimate(None, "degenerate", inliers)
    reason = why_implausible(scaled)
    return Estimate(None if reason else scaled, reason, inliers)


def _followed(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[Points, Points]:
    corners = cv2.goodFeaturesToTrack(first, MAX_FEATURES, 0.01, 5)
    if corners is None:
        return _nothing()
    before = np.asarray(corners, np.float32).reshape(-1, 1, 2)
    after, there, _ = cv2.calcOpticalFlowPyrLK(first, second, before, _NO_GUESS)
    back, here, _ = cv2.calcOpticalFlowPyrLK(second, first, after, _NO_GUESS)
    returned = np.abs(back - before).reshape(-1, 2).max(axis=1) <= _MAX_RETURN_PIXELS
    good = returned & (there.ravel() == 1) & (here.ravel() == 1)
    return before.reshape(-1, 2)[good], np.asarray(after, np.float32).reshape(-1, 2)[good]


def _matched(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[Points, Points]:
    orb = cv2.ORB.create(nfeatures=2 * MAX_FEATURES)
    points, descriptors = zip(*(orb.detectAndCompute(frame, None) for frame in (first, second)), strict=True)
    if any(d is None for d in descriptors):
        return _nothing()
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(*descriptors)
    before = np.array([points[0][m.queryIdx].pt for m in matches], np.float32).reshape(-1, 2)
    after = np.array([points[1][m.trainIdx].pt for m in matches], np.float32).reshape(-1, 2)
    return before, after


def _nothing() -> tuple[Points, Points]:
    return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
