"""Golden clips: inputs on which every runtime must agree with torch, here and again on each server that loads a bundle.

Synthetic ones cover what footage seldom does (every value at every pixel, hard edges, motion in every direction);
real ones, when given, cover what the model was trained for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec

# A server replays them at each start: enough to catch a wrong channel order, mean, layout or kernel, and no more.
MAX_REAL_CLIPS = 3


def noise_clip(num_frames: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Every value from 0 to 255, independent in each pixel and frame: uint8 [T,H,W,3]."""
    return rng.integers(0, 256, (num_frames, size, size, 3), dtype=np.uint8)


def waves_clip(num_frames: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Smooth gratings that drift in another direction in each channel: uint8 [T,H,W,3]."""
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(size), np.arange(size), indexing="ij")  # [T,H,W] each
    clip = np.empty((num_frames, size, size, 3), np.uint8)
    for channel in range(3):
        angle, cycles, drift = rng.uniform(0, 2 * np.pi), rng.uniform(1, 5), rng.uniform(0.1, 0.6)
        phase = 2 * np.pi * cycles * (np.cos(angle) * x + np.sin(angle) * y) / size + drift * t
        clip[..., channel] = np.round(127.5 + 127.5 * np.sin(phase)).astype(np.uint8)
    return clip


def squares_clip(num_frames: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Opaque squares with hard edges that cross a dark, uneven background: uint8 [T,H,W,3]."""
    ramp = np.linspace(0, 60, size).astype(np.uint8)
    clip = np.empty((num_frames, size, size, 3), np.uint8)
    clip[:] = (ramp[:, None] // 2 + ramp[None, :] // 2)[None, :, :, None]
    for _ in range(4):
        side = max(1, int(size * rng.uniform(0.1, 0.3)))
        start, velocity = rng.uniform(0, size, 2), rng.uniform(-0.06, 0.06, 2) * size
        color = rng.integers(80, 256, 3, dtype=np.uint8)
        for t in range(num_frames):
            top, left = ((start + velocity * t) % size).astype(int)
            clip[t, top : top + side, left : left + side] = color
    return clip


SYNTHETIC: tuple[Callable[[int, int, np.random.Generator], NDArray[np.uint8]], ...] = (
    noise_clip,
    waves_clip,
    squares_clip,
)


def golden_clips(num_frames: int, size: int, real: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The golden clips for one clip length and crop: uint8 [B,T,size,size,3], the same at every call.

    real: uint8 [N,T,size,size,3] in the model's colour order, of which up to `MAX_REAL_CLIPS` are taken, evenly spread.
    Raises ValueError when they are of another shape or type.
    """
    clips = [make(num_frames, size, np.random.default_rng(index)) for index, make in enumerate(SYNTHETIC)]
    if real is None:
        return np.stack(clips)
    expected = (num_frames, size, size, 3)
    if real.dtype != np.uint8 or real.shape[1:] != expected:
        raise ValueError(f"real clips must be uint8 [N,{','.join(map(str, expected))}], got {real.dtype} {real.shape}")
    count = min(MAX_REAL_CLIPS, len(real))
    chosen = np.linspace(0, len(real) - 1, count).round().astype(int) if count else np.empty(0, int)
    return np.concatenate([np.stack(clips), real[chosen]])


def middle_clip(video: Path, spec: ClipSpec, *, fully_convolutional: bool = False) -> NDArray[np.uint8]:
    """The clip in the middle of a video, uint8 [1,T,H,W,3], at the crop or, if asked, at the fully-convolutional one.

    Raises VideoError for a video that cannot be read.
    """
    center = ClipSelection(mode="center", num_clips=1)
    protocol = Protocol(selection=center, fully_convolutional=fully_convolutional)
    return read_clips(video, spec, protocol).clips
