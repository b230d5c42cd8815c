"""Small videos that differ from each other as real ones do, and codes without videos."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_training.curation.frame_codes import VideoCodes
from tenclip_training.synth.encode import available_encoder, write_video

Frames = NDArray[np.uint8]


def smooth_frames(seed: int, seconds: float = 2.0, *, fps: int = 24, height: int = 72, width: int = 96) -> Frames:
    """A smooth random picture that changes into another one each second: uint8 RGB [N,H,W,3]."""
    rng = np.random.default_rng(seed)
    pictures = rng.uniform(20, 235, (int(seconds) + 2, 6, 8))
    at = np.arange(round(seconds * fps)) / fps
    mixed = [pictures[int(t)] * (1 - t % 1) + pictures[int(t) + 1] * (t % 1) for t in at]
    grey = np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_CUBIC) for m in mixed])
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=3)


def write_frames(path: Path, frames: Frames, *, fps: int = 24, crf: int = 18) -> Path:
    rate = Fraction(fps)
    path.parent.mkdir(parents=True, exist_ok=True)
    ticks = range(len(frames) + 1)
    write_video(path, frames, ticks=ticks, time_base=1 / rate, frame_rate=rate, encoder=available_encoder(), crf=crf)
    return path


def smooth_video(path: Path, seed: int, seconds: float = 2.0) -> Path:
    return write_frames(path, smooth_frames(seed, seconds))


def codes_of(*values: int, flat: tuple[int, ...] = (), start_seconds: float = 0.0) -> VideoCodes:
    """Codes by hand; flat: positions of flat frames."""
    is_flat = np.isin(np.arange(len(values)), flat)
    return VideoCodes(codes=np.array(values, np.uint64), flat=is_flat, start_seconds=start_seconds)


def random_codes(seed: int, count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64, endpoint=False)
