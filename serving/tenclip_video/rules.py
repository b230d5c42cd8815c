"""Clip placement as in the authors' own loaders, with which published accuracies were measured.

N frames, clips of T frames `stride` apart, R = (T-1)*stride + 1, n clips. Each rule is a pure function from these to
lists of frame indices, one list for each clip. Frames beyond the end wrap around (index mod N) unless
the rule says otherwise.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# The name of a rule is that of the code base it reproduces; "vmz" is the default everywhere (sampling.uniform_starts).
SamplingRule = Literal["vmz", "mmaction2", "tsn", "pyslowfast", "pytorchvideo", "3d-resnets"]

Indices = list[list[int]]


def mmaction2(num_frames: int, num_clips: int, clip_length: int, stride: int) -> Indices:
    """MMAction2 1.x `SampleFrames(test_mode=True)`: offsets round(k * max(N - R, 0) / (n - 1)), halves to even; a
    single clip takes max(N - R, 0) // 2. Frames beyond the end wrap around.

    >>> [clip[0] for clip in mmaction2(300, 3, 32, 2)]
    [0, 118, 237]
    """
    span = (clip_length - 1) * stride + 1
    last = max(num_frames - span, 0)
    if num_clips == 1:
        offsets = [last // 2]
    else:
        offsets = [int(o) for o in np.round(np.arange(num_clips) * (last / (num_clips - 1)))]
    return [[(o + i * stride) % num_frames for i in range(clip_length)] for o in offsets]


def tsn(num_frames: int, num_clips: int, clip_length: int, stride: int) -> Indices:
    """TSN segments (MMAction2 0.x): the middle of each of n equal parts, floor(k * A + A / 2) with
    A = (N - T*stride + 1) / n; for single frames A = N / n. All clips begin at 0 when N < T*stride.

    >>> tsn(300, 3, 1, 1)
    [[50], [150], [250]]
    """
    length = clip_length * stride
    interval = (num_frames - length + 1) / num_clips
    offsets = [int(k * interval + interval / 2) for k in range(num_clips)] if num_frames >= length else [0] * num_clips
    return [[(o + i * stride) % num_frames for i in range(clip_length)] for o in offsets]


def pyslowfast(num_frames: int, num_clips: int, clip_length: int, stride: int, frames_per_second: float) -> Indices:
    """PySlowFast: a clip covers stride * T * fps / 30 frames; start = max(N - that, 0) * k / n; T indices from
    linspace(start, start + length - 1), clamped to the video and truncated. The last clip does not reach the end.

    >>> pyslowfast(300, 10, 8, 8, 30.0)[0]
    [0, 9, 18, 27, 36, 45, 54, 63]
    """
    length = stride * clip_length * frames_per_second / 30
    room = max(num_frames - length, 0)
    clips = []
    for k in range(num_clips):
        start = room * k / num_clips
        indices = np.linspace(start, start + length - 1, clip_length, dtype=np.float64).astype(np.float32)
        clips.append([int(i) for i in np.clip(indices, 0, num_frames - 1)])
    return clips


def pytorchvideo(
    times: NDArray[np.float64], duration: float, num_clips: int, clip_length: int, stride: int, clip_fps: float = 30.0
) -> Indices:
    """pytorchvideo: clips of d = T * stride / 30 seconds (whatever the video's own rate) from
    i * max(D - d, 0) / (n - 1) seconds; of the frames with start <= time < start + d, T by floored linspace.

    times: [N] seconds, ascending from 0. Exact fractions place the starts, as the authors' sampler does.
    """
    length = Fraction(clip_length * stride) / Fraction(clip_fps).limit_denominator(1001)
    room = max(Fraction(duration).limit_denominator(1_000_000) - length, Fraction(0))
    clips = []
    for k in range(num_clips):
        start = room * k / max(num_clips - 1, 1)
        first = int(np.searchsorted(times, float(start) - 1e-6, side="left"))
        last = int(np.searchsorted(times, float(start + length) - 1e-6, side="left"))
        first = min(first, len(times) - 1)
        count = max(last - first, 1)
        picks = np.linspace(0, count - 1, clip_length).astype(np.int64)
        clips.append([first + int(p) for p in picks])
    return clips


def resnets_3d(num_frames: int, clip_length: int, stride: int) -> Indices:
    """3D-ResNets' `TemporalSlidingWindow`: windows of T frames, T apart (after taking every `stride`-th frame); the
    first window that is short is filled by repeating itself, and ends the list.

    >>> [(clip[0], clip[-1]) for clip in resnets_3d(40, 16, 1)]
    [(0, 15), (16, 31), (32, 39)]
    """
    frames = list(range(0, num_frames, stride))
    clips = []
    for start in range(0, len(frames), clip_length):
        window = frames[start : start + clip_length]
        clips.append([window[i % len(window)] for i in range(clip_length)])
        if len(window) < clip_length:
            break
    return clips
