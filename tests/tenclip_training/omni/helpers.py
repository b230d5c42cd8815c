"""Textured pictures, and videos in which a camera moves over one by a known homography."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_training.omni.homographies import Matrix, to_pixels
from tests.tenclip_training.curation.helpers import write_frames

Picture = NDArray[np.uint8]


def textured(seed: int, height: int = 120, width: int = 160) -> Picture:
    """A picture with many corners: uint8 RGB [H,W,3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 6, width // 6, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = smooth.astype(np.int16) + rng.integers(-8, 8, smooth.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def coarse(seed: int, height: int = 90, width: int = 120) -> Picture:
    """A picture of large smooth patches, so that it stays itself when it is scaled or compressed."""
    patches = np.random.default_rng(seed).integers(0, 255, (3, 4, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def camera_frames(seed: int, steps: list[Matrix], *, height: int = 120, width: int = 160) -> Picture:
    """One textured picture seen by a camera that moves by `steps`, scaled homographies: uint8 [len(steps)+1,H,W,3]."""
    margin = 2
    scene = textured(seed, margin * height, margin * width)
    top, left = (scene.shape[0] - height) // 2, (scene.shape[1] - width) // 2
    middle = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
    matrix = np.eye(3)
    frames = []
    for step in [np.eye(3), *steps]:
        matrix = step @ matrix
        seen = to_pixels(matrix, height, width) @ middle
        frames.append(cv2.warpPerspective(scene, seen, (width, height), flags=cv2.INTER_LINEAR))
    return np.stack(frames).astype(np.uint8)


def camera_video(path: Path, seed: int, steps: list[Matrix]) -> Path:
    return write_frames(path, camera_frames(seed, steps), crf=10)


def shift(x: float, y: float = 0.0) -> Matrix:
    """A pan, in scaled units."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def zoom(factor: float) -> Matrix:
    return np.diag([factor, factor, 1.0])
