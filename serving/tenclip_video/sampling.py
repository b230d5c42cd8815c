"""Clip sampling: which frames of a video make which clip. Pure arithmetic; random selections take an explicit rng.

Everything counts frames of the *sampled timeline*: the video's own frames, or, with `ClipSpec.target_fps`, frames of
that rate laid over it (`resample`). R is `ClipSpec.span`, N the number of frames, n the number of clips.

The rules of MMAction2, PySlowFast and pytorchvideo convert no rate: they stretch the clip over the video's own frames,
and `target_fps` is a number in their arithmetic (`tenclip_video.rules`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tenclip_video import rules
from tenclip_video.rules import SamplingRule
from tenclip_video.spec import ClipSpec

SelectionMode = Literal["uniform", "center", "windows", "random", "salient"]

# More than any protocol asks for; a limit against typing errors.
MAX_CLIPS = 10_000
# Frames of a resampled timeline: a day at 60 frames a second. A damaged file may claim to last for years.
_MAX_TIMELINE = 60 * 86_400
# Windows that are scored for salience: a day of video in windows of about a second. All are in memory at once.
_MAX_CANDIDATES = 100_000
# Rules that take `target_fps` into account themselves.
_RULES_OF_OWN_FRAMES = frozenset({"mmaction2", "pyslowfast", "pytorchvideo"})


@dataclass(frozen=True, kw_only=True)
class ClipSelection:
    """Which clips of a video are wanted.

    mode: uniform (`num_clips` evenly spaced clips), center (one clip), windows (every window, `window_step` frames
    apart; None: no overlap), random (`num_clips`, by an explicit rng) or salient (the `num_clips` windows that a scorer
    ranks highest).
    start_seconds, end_seconds: restrict the clips to the part of the video in [start, end).
    max_clips: the largest number of windows; a video with more is an error.
    rule: the code base whose arithmetic places uniform clips and windows (`tenclip_video.rules`).
    Raises ValueError for values out of range.

    >>> ClipSelection(mode="windows", window_step=8).rule
    'vmz'
    """

    mode: SelectionMode = "uniform"
    num_clips: int = 10
    window_step: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    max_clips: int | None = None
    rule: SamplingRule = "vmz"

    def __post_init__(self) -> None:
        if self.rule not in get_args(SamplingRule):
            raise ValueError(f"sampling rule {self.rule!r} is not one of {', '.join(get_args(SamplingRule))}")
        if self.mode not in get_args(SelectionMode):
            raise ValueError(f"clip selection {self.mode!r} is not one of {', '.join(get_args(SelectionMode))}")
        if not 1 <= self.num_clips <= MAX_CLIPS:
            raise ValueError(f"num_clips must lie within 1..{MAX_CLIPS}, got {self.num_clips}")
        if self.window_step is not None and self.window_step < 1:
            raise ValueError(f"window_step must be at least 1, got {self.window_step}")
        start, end = self.start_seconds, self.end_seconds
        if any(t is not None and not (np.isfinite(t) and t >= 0) for t in (start, end)):
            raise ValueError(f"start_seconds and end_seconds must be finite and not negative, got {start}, {end}")
        if start is not None and end is not None and end <= start:
            raise ValueError(f"end_seconds {end} is not after start_seconds {start}")


@dataclass(frozen=True)
class Clip:
    """One clip: the index of a frame of the video for each input frame. looped: the video is too short (`clip_at`)."""

    frames: tuple[int, ...]
    looped: bool = False


def uniform_starts(num_frames: int, span: int, num_clips: int) -> list[int]:
    """start_i = floor(i * (N - R) / (n - 1)): first clip at the first frame, last clip at the last (VMZ, IG-65M).

    The step is kept in float32, as the authors' operator does, so that long videos agree to the frame.
    A single clip starts at 0; a video shorter than R gives n clips that all start at 0.

    >>> uniform_starts(300, 32, 3)
    [0, 134, 268]
    """
    if num_clips == 1 or num_frames <= span:
        return [0] * num_clips
    step = np.float32(num_frames - span) / np.float32(num_clips - 1)
    return [min(int(np.floor(np.float32(i) * step)), num_frames - span) for i in range(num_clips)]


def center_start(num_frames: int, span: int) -> int:
    """floor((N - R) / 2), 0 for a short video.

    >>> center_start(300, 32)
    134
    """
    return max(num_frames - span, 0) // 2


def window_starts(num_frames: int, span: int, step: int | None = None) -> list[int]:
    """Windows of R frames, `step` apart (None: R, no overlap). The last one ends with the video: where the step leaves
    a remainder, one more window is laid flush with the end, so that no frame goes unseen. At least one window.

    >>> window_starts(40, 16)
    [0, 16, 24]
    """
    step = step or span
    last = max(num_frames - span, 0)
    starts = list(range(0, last + 1, step))
    if starts[-1] != last:
        starts.append(last)
    return starts


def random_starts(num_frames: int, span: int, num_clips: int, rng: np.random.Generator) -> list[int]:
    """`num_clips` starts drawn uniformly from all that fit, with replacement; all 0 for a video shorter than R."""
    return [int(s) for s in rng.integers(0, max(num_frames - span, 0) + 1, size=num_clips)]


def clip_at(start: int, spec: ClipSpec, num_frames: int) -> Clip:
    """The clip of T frames, `frame_stride` apart, from `start`; beyond the end it goes on from the beginning.

    >>> clip_at(1, ClipSpec(num_frames=4), 3)
    Clip(frames=(1, 2, 0, 1), looped=True)
    """
    if num_frames < 1:
        raise ValueError(f"a clip needs at least one frame, got {num_frames = }")
    raw = [start + i * spec.frame_stride for i in range(spec.num_frames)]
    return Clip(tuple(i % num_frames for i in raw), looped=raw[-1] >= num_frames)


def resample(times: NDArray[np.float64], target_fps: float, duration: float) -> NDArray[np.int64]:
    """Indices of the frames on screen at 0, 1/fps, 2/fps ... before `duration`: [M], never empty.

    times: [N] presentation times in seconds, ascending, the first one 0. Raises ValueError for more than a day.
    """
    if duration * target_fps > _MAX_TIMELINE:
        raise ValueError(
            f"{duration:.0f} s at {target_fps:g} frames a second are too many; ask for a part of the video"
        )
    # A grid point that falls a rounding error short of a frame's time, or of the end, still means that frame, or it.
    count = max(1, int(np.ceil(duration * target_fps - 1e-4)))
    grid = np.arange(count, dtype=np.float64) / target_fps
    return np.maximum(np.searchsorted(times, grid + 1e-6, side="right") - 1, 0).astype(np.int64)


def plan_starts(
    num_frames: int, spec: ClipSpec, selection: ClipSelection, rng: np.random.Generator | None
) -> list[int]:
    """First frames of the clips that `selection` asks for; for mode salient, those of all candidate windows.

    Raises ValueError for random clips without an rng, and for more windows than allowed.
    """
    if selection.mode == "uniform":
        return uniform_starts(num_frames, spec.span, selection.num_clips)
    if selection.mode == "center":
        return [center_start(num_frames, spec.span)]
    if selection.mode == "random":
        if rng is None:
            raise ValueError("random clips need an explicit rng")
        return random_starts(num_frames, spec.span, selection.num_clips, rng)
    starts = window_starts(num_frames, spec.span, selection.window_step)
    _check_count(len(starts), spec, selection)
    return starts


def plan_clips(
    times: NDArray[np.float64],
    duration: float,
    spec: ClipSpec,
    selection: ClipSelection,
    *,
    rng: np.random.Generator | None = None,
) -> list[Clip]:
    """The clips of a video as indices of its frames, in the order of their starts.

    times: [N] presentation times in seconds, ascending, the first one 0. Raises ValueError when no frame lies between
    `start_seconds` and `end_seconds`.
    """
    timeline, length = _timeline(times, duration, spec, selection)
    clips = _place(timeline, times, length, spec, selection, rng)
    return [Clip(tuple(int(timeline[i]) for i in c.frames), c.looped) for c in clips]


def timeline_of(
    times: NDArray[np.float64], duration: float, spec: ClipSpec, selection: ClipSelection
) -> NDArray[np.int64]:
    """The frames [M] that clips are taken from: those of the part that is asked for, at `target_fps` if there is one
    and the rule does not see to it.

    Raises ValueError as `plan_clips`.
    """
    return _timeline(times, duration, spec, selection)[0]


def _timeline(
    times: NDArray[np.float64], duration: float, spec: ClipSpec, selection: ClipSelection
) -> tuple[NDArray[np.int64], float]:
    """(frames, the seconds that they take)."""
    first, last = 0, len(times)
    if selection.start_seconds is not None:
        first = int(np.searchsorted(times, selection.start_seconds - 1e-6, side="left"))
    if selection.end_seconds is not None:
        last = int(np.searchsorted(times, selection.end_seconds - 1e-6, side="left"))
    if last <= first:
        raise ValueError(
            f"no frame between {selection.start_seconds or 0:g} s and "
            f"{'the end' if selection.end_seconds is None else f'{selection.end_seconds:g} s'}; "
            f"the video has {len(times)} frames in {duration:.3f} s"
        )
    timeline = np.arange(first, last, dtype=np.int64)
    length = float((times[last] if last < len(times) else duration) - times[first])
    if spec.target_fps is not None and not (_is_placed_by_rule(selection) and selection.rule in _RULES_OF_OWN_FRAMES):
        timeline = first + resample(times[first:last] - times[first], spec.target_fps, length)
    return timeline, length


def _place(
    timeline: NDArray[np.int64],
    times: NDArray[np.float64],
    length: float,
    spec: ClipSpec,
    selection: ClipSelection,
    rng: np.random.Generator | None,
) -> list[Clip]:
    """The clips of a timeline (frame indices [M], `length` seconds), as indices into that timeline."""
    if not _is_placed_by_rule(selection):
        starts = plan_starts(len(timeline), spec, selection, rng)
        return [clip_at(s, spec, len(timeline)) for s in starts]
    clips = _authors_clips(times[timeline] - times[timeline[0]], length, spec, selection)
    _check_count(len(clips), spec, selection)
    return clips


def _is_placed_by_rule(selection: ClipSelection) -> bool:
    return selection.rule != "vmz" and selection.mode in ("uniform", "windows")


def _authors_clips(times: NDArray[np.float64], duration: float, spec: ClipSpec, selection: ClipSelection) -> list[Clip]:
    num_frames, count, length, stride = len(times), selection.num_clips, spec.num_frames, spec.frame_stride
    rate = rules.mean_rate(num_frames, duration)
    if selection.rule == "pyslowfast":
        target = spec.target_fps or rules.USUAL_RATE
        # It repeats the last frame of a short video where the others loop.
        padded = length * stride * rate / target > num_frames
        clips = rules.pyslowfast(num_frames, count, length, stride, rate, target)
        return [Clip(tuple(clip), looped=padded) for clip in clips]
    if selection.rule == "pytorchvideo":
        clips = rules.pytorchvideo(times, duration, count, length, stride, spec.target_fps or rules.USUAL_RATE)
        # It stretches a short video to the clip's length.
        return [Clip(tuple(clip)) for clip in clips]
    if selection.rule == "mmaction2" and spec.target_fps is not None:
        ratio = rate / spec.target_fps
        padded = length > 1 and int(rules.mmaction2_span(length, stride, ratio) - 1) >= num_frames
        clips = rules.mmaction2(num_frames, count, length, stride, rate_ratio=ratio)
        return [Clip(tuple(clip), looped=padded) for clip in clips]
    if selection.rule == "mmaction2":
        clips = rules.mmaction2(num_frames, count, length, stride)
    elif selection.rule == "tsn":
        clips = rules.tsn(num_frames, count, length, stride)
    else:
        clips = rules.resnets_3d(num_frames, length, stride)
    return [Clip(tuple(clip), looped=any(b <= a for a, b in pairwise(clip))) for clip in clips]


def _check_count(count: int, spec: ClipSpec, selection: ClipSelection) -> None:
    if selection.mode == "salient" and count > _MAX_CANDIDATES:
        raise ValueError(
            f"{count} windows of {spec.span} frames to score, more than {_MAX_CANDIDATES}; ask for a part of the "
            "video, or a larger window step"
        )
    if selection.mode == "windows" and selection.max_clips is not None and count > selection.max_clips:
        raise ValueError(
            f"{count} windows of {spec.span} frames, more than the {selection.max_clips} allowed; "
            f"ask for a part of the video, a larger window step, or {selection.max_clips} uniform clips"
        )


def clip_seconds(clip: Clip, times: NDArray[np.float64], duration: float) -> tuple[float, float]:
    """(start, end) in seconds of the presentation times [start, end) from a clip's first frame to its last.

    times: [N] seconds, ascending. duration: of the video, in seconds.
    """
    first, last = min(clip.frames), max(clip.frames)
    end = float(times[last + 1]) if last + 1 < len(times) else max(duration, float(times[last]))
    return float(times[first]), end


def frames_needed(clips: Sequence[Clip]) -> NDArray[np.int64]:
    """[M] indices of the frames that any of the clips needs, ascending, each once."""
    return np.unique(np.concatenate([np.asarray(c.frames, np.int64) for c in clips]))
