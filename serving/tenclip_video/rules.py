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
# Frames a second: PySlowFast's and pytorchvideo's own, where a spec has no rate.
USUAL_RATE = 30.0


def mmaction2(
    num_frames: int, num_clips: int, clip_length: int, stride: int, *, rate_ratio: float | None = None
) -> Indices:
    """MMAction2 1.x `SampleFrames(test_mode=True)`: offsets round(k * max(N - R, 0) / (n - 1)), halves to even; a
    single clip takes max(N - R, 0) // 2. Frames beyond the end wrap around. Clips of one frame are the middles of n
    equal parts, floor(k * N / n + N / (2 * n)).

    rate_ratio: the video's frames a second over the `target_fps` of the config, None for one without. No frame rate is
    converted then. A clip covers S = max(T * stride * ratio, 1) frames, a fraction; offsets are
    k * floor(max(N - S, 0) / (n - 1)), so that the last clip seldom reaches the end; frames are linspace(0, S - 1, T),
    truncated.

    >>> [clip[0] for clip in mmaction2(300, 3, 32, 2)]
    [0, 118, 237]
    >>> [(clip[0], clip[-1]) for clip in mmaction2(300, 10, 16, 5, rate_ratio=1.0)][-1]
    (216, 295)
    """
    if clip_length == 1:
        interval = num_frames / num_clips
        return [[int(k * interval + interval / 2)] for k in range(num_clips)]
    if rate_ratio is None:
        steps = np.arange(clip_length) * stride
        room = max(num_frames - int(steps[-1]) - 1.0, 0.0)
        offsets = np.round(np.arange(num_clips) * (room / max(num_clips - 1, 1)))
    else:
        span = mmaction2_span(clip_length, stride, rate_ratio)
        steps = np.linspace(0, span - 1, clip_length).astype(np.int64)
        room = max(num_frames - span, 0.0)
        offsets = np.arange(num_clips) * np.floor(room / max(num_clips - 1, 1))
    if num_clips == 1:
        offsets = np.array([room // 2])
    return [[(int(offset) + int(step)) % num_frames for step in steps] for offset in offsets]


def mmaction2_span(clip_length: int, stride: int, rate_ratio: float) -> float:
    """Frames of the video that a clip of MMAction2's `SampleFrames(target_fps=...)` covers; see `mmaction2`.

    >>> mmaction2_span(16, 5, 25 / 30)
    66.66666666666667
    """
    return max(clip_length * stride * rate_ratio, 1.0)


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


def pyslowfast(
    num_frames: int,
    num_clips: int,
    clip_length: int,
    stride: int,
    frames_per_second: float,
    target_fps: float = USUAL_RATE,
) -> Indices:
    """PySlowFast: a clip covers stride * T * fps / target_fps frames of the video, whose rate is not converted; start =
    max(N - that, 0) * k / n; T indices from torch.linspace(start, start + length - 1), clamped to the video and
    truncated. The last clip does not reach the end. `target_fps` is DATA.TARGET_FPS, 30 in every public config.

    >>> pyslowfast(300, 10, 8, 8, 30.0)[0]
    [0, 9, 18, 27, 36, 45, 54, 63]
    """
    length = stride * clip_length * frames_per_second / target_fps
    room = max(num_frames - length, 0)
    clips = []
    for k in range(num_clips):
        start = room * k / num_clips
        indices = torch_linspace(start, start + length - 1, clip_length)
        clips.append([int(i) for i in np.clip(indices, 0, num_frames - 1)])
    return clips


def pytorchvideo(
    times: NDArray[np.float64],
    duration: float,
    num_clips: int,
    clip_length: int,
    stride: int,
    clip_fps: float = USUAL_RATE,
) -> Indices:
    """pytorchvideo: clips of d = T * stride / clip_fps seconds of the video's own frames, whatever their rate, from
    i * max(D - d, 0) / (n - 1) seconds; of the frames with start <= time < start + d, T by torch.linspace, truncated.

    times: [N] seconds of the video's own frames, ascending from 0. Exact fractions place the starts, as the authors'
    `ConstantClipsPerVideoSampler` does; `uniform_temporal_subsample` takes the frames.
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
        clips.append([first + min(int(p), count - 1) for p in torch_linspace(0, count - 1, clip_length)])
    return clips


def torch_linspace(start: float, end: float, count: int) -> NDArray[np.float32]:
    """torch.linspace on a CPU: in float32, the second half counted from the end, each value rounded once.

    Truncated to frames, NumPy's in float64 differs by one where a value is a whole number.

    >>> int(torch_linspace(70.4, 133.4, 16)[13]), int(np.linspace(70.4, 133.4, 16)[13])
    (124, 125)
    """
    first, last = np.float32(start), np.float32(end)
    step = np.float64((last - first) / np.float32(max(count - 1, 1)))
    ahead = np.arange(count // 2) if count > 1 else np.arange(1)
    behind = np.arange(count - 1 - len(ahead), -1, -1)
    values = np.concatenate([np.float64(first) + step * ahead, np.float64(last) - step * behind])
    return values.astype(np.float32)


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


def mean_rate(num_frames: int, duration: float) -> float:
    """Frames a second, as the headers that the authors' decoders read have it: a whole number, or times 1000/1001.

    Times in seconds are rounded to a container's ticks; a rate that is one of those up to 1 in 10,000 is taken for it.

    >>> mean_rate(300, 10.01), mean_rate(300, 10.0000003), mean_rate(100, 8.0)
    (29.97002997002997, 30.0, 12.5)
    """
    if duration <= 0:
        return USUAL_RATE
    rate = num_frames / duration
    exact = (float(round(rate)), round(rate * 1.001) * 1000 / 1001)
    return next((r for r in exact if r > 0 and abs(rate - r) <= 1e-4 * r), rate)
