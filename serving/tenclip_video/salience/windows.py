"""What readers of windows share: the inputs of some windows, and how many of them are in memory at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_video.salience.sampler_spec import SamplerSpec
from tenclip_video.sampling import Clip

# The inputs of one group of windows take about this much.
_GROUP_BYTES = 4 << 20
_MIN_GROUP, _MAX_GROUP = 8, 128


@dataclass(frozen=True, eq=False)
class WindowInputs:
    """What a sampler sees of M windows, in their order.

    inputs: [M,T,H,W,C] of `SamplerSpec.input_shape`, uint8 RGB for kinds rgb and keyframes, float32 for compressed and
    audio; None where there is nothing to see or hear (a video without sound).
    notes: fallbacks, in words.
    """

    inputs: NDArray[Any] | None
    notes: tuple[str, ...] = ()


def input_dtype(spec: SamplerSpec) -> type[np.uint8] | type[np.float32]:
    """Type of the inputs of a sampler."""
    return np.uint8 if spec.kind in ("rgb", "keyframes") else np.float32


def windows_at_once(spec: SamplerSpec) -> int:
    """Windows in a group: memory does not grow with the length of a video."""
    size = math.prod(spec.input_shape) * np.dtype(input_dtype(spec)).itemsize
    return max(_MIN_GROUP, min(_MAX_GROUP, _GROUP_BYTES // size))


def frames_at(clips: Sequence[Clip], samples: int) -> NDArray[np.int64]:
    """[M, samples]: frames of each clip, evenly spaced from its first to its last.

    >>> frames_at([Clip((0, 1, 2, 3, 4))], 3).tolist()
    [[0, 2, 4]]
    """
    frames = np.array([clip.frames for clip in clips], np.int64)
    places = np.linspace(0, frames.shape[1] - 1, samples).round().astype(np.int64)
    return frames[:, places]


def middle_frames(clips: Sequence[Clip]) -> NDArray[np.int64]:
    """[M]: the frame in the middle of each clip."""
    return np.array([(min(clip.frames) + max(clip.frames)) // 2 for clip in clips], np.int64)
