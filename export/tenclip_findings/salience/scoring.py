"""The heavy network's scores of every window of every video, computed once: all arms are arithmetic on them.

M windows and n uniform clips of a video, K classes.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tenclip_data.atomic import replacing
from tenclip_findings.salience.videos import TrueVideo
from tenclip_serving.runtimes import Runtime
from tenclip_video.cpus import usable_cpus
from tenclip_video.protocols import softmax
from tenclip_video.salience import ClipScorer
from tenclip_video.sampling import Clip, ClipSelection, clip_seconds, frames_needed, plan_clips
from tenclip_video.spec import ClipSpec
from tenclip_video.transforms import crop_offsets
from tenclip_video.video import Video, open_video

Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredVideo:
    """windows: float32 [M,K], probabilities of the candidate windows. seconds: float64 [M,2], start and end of each.

    uniform: number of clips n -> float32 [n,K]. label: the true class. interval: of the action, in seconds.
    """

    label: int
    interval: tuple[float, float] | None
    windows: NDArray[np.float32]
    seconds: NDArray[np.float64]
    uniform: dict[int, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredSet:
    """The videos of a set, in their order."""

    videos: tuple[ScoredVideo, ...]

    @property
    def num_windows(self) -> NDArray[np.int64]:
        """M of each video: [N]."""
        return np.array([len(v.windows) for v in self.videos])

    def save(self, path: Path) -> None:
        """One .npz; arrays of all videos one after the other."""
        arrays = {
            "labels": np.array([v.label for v in self.videos]),
            "intervals": np.array([v.interval or (np.nan, np.nan) for v in self.videos]),
            "num_windows": self.num_windows,
            "windows": np.concatenate([v.windows for v in self.videos]),
            "seconds": np.concatenate([v.seconds for v in self.videos]),
        }
        for count in self.videos[0].uniform:
            arrays[f"uniform_{count}"] = np.stack([v.uniform[count] for v in self.videos])
        with replacing(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> ScoredSet:
        """Raises OSError, ValueError or KeyError for what is no such file."""
        with np.load(path, allow_pickle=False) as arrays:
            ends = np.cumsum(arrays["num_windows"])[:-1]
            windows, seconds = np.split(arrays["windows"], ends), np.split(arrays["seconds"], ends)
            uniform = {int(k.partition("_")[2]): arrays[k] for k in arrays.files if k.startswith("uniform_")}
            return cls(
                videos=tuple(
                    ScoredVideo(
                        label=int(label),
                        interval=None if np.isnan(interval[0]) else (float(interval[0]), float(interval[1])),
                        windows=windows[i],
                        seconds=seconds[i],
                        uniform={count: values[i] for count, values in uniform.items()},
                    )
                    for i, (label, interval) in enumerate(zip(arrays["labels"], arrays["intervals"], strict=True))
                )
            )


def window_step(spec: ClipSpec) -> int:
    """Frames from one candidate window to the next: half a span."""
    return max(1, spec.span // 2)


def plan_windows(video: Video, spec: ClipSpec) -> list[Clip]:
    """The candidate windows of an open video."""
    return _plan(video, spec, ClipSelection(mode="windows", window_step=window_step(spec)))


def score_set(
    videos: Sequence[TrueVideo],
    runtimes: Sequence[Runtime],
    spec: ClipSpec,
    uniform: Sequence[int],
    progress: Progress,
) -> ScoredSet:
    """Score all windows of each video and its uniform clips. uniform: how many of these; each is a plan of its own.

    runtimes: of the same network; each does one video at a time, beside the others.
    Raises a VideoError for a video that cannot be used.
    """
    idle: queue.SimpleQueue[Runtime] = queue.SimpleQueue()
    for runtime in runtimes:
        idle.put(runtime)

    def score(video: TrueVideo) -> ScoredVideo:
        runtime = idle.get()
        try:
            return _score_video(video, runtime, spec, uniform)
        finally:
            idle.put(runtime)

    return ScoredSet(videos=tuple(_beside(score, videos, len(runtimes), progress)))


def _beside(work: Callable[[TrueVideo], T], videos: Sequence[TrueVideo], threads: int, progress: Progress) -> list[T]:
    """`work` on each video in a few threads; the results in the order of the videos."""
    found = []
    with ThreadPoolExecutor(threads) as pool:
        try:
            for result in pool.map(work, videos):
                found.append(result)
                progress(len(found), len(videos))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _score_video(true: TrueVideo, runtime: Runtime, spec: ClipSpec, uniform: Sequence[int]) -> ScoredVideo:
    with open_video(true.path) as video:
        windows = plan_windows(video, spec)
        plans = {n: _plan(video, spec, ClipSelection(num_clips=n)) for n in uniform}
        # Clips that several plans have in common run once.
        clips = list(dict.fromkeys([*windows, *(clip for plan in plans.values() for clip in plan)]))
        pixels = read_pixels(video, spec, clips)
        seconds = [clip_seconds(c, video.times, video.info.duration_seconds) for c in windows]
    scores = classify(runtime, pixels)
    place = {clip: i for i, clip in enumerate(clips)}
    return ScoredVideo(
        label=true.label,
        interval=true.interval,
        windows=scores[: len(windows)],
        seconds=np.array(seconds),
        uniform={n: scores[[place[clip] for clip in plan]] for n, plan in plans.items()},
    )


def _plan(video: Video, spec: ClipSpec, selection: ClipSelection) -> list[Clip]:
    return plan_clips(video.times, video.info.duration_seconds, spec, selection)


def read_pixels(video: Video, spec: ClipSpec, clips: Sequence[Clip]) -> NDArray[np.uint8]:
    """uint8 [len(clips),T,H,W,3], centre crop: what `tenclip_video.clips.read_clips` gives for these clips."""
    needed = frames_needed(clips)
    ((top, left),) = crop_offsets(*video.frame_size(spec.resize), spec.crop, "center")
    frames = video.read_frames(needed.tolist(), spec.resize)
    frames = frames[:, top : top + spec.crop, left : left + spec.crop]
    places = np.searchsorted(needed, np.array([clip.frames for clip in clips]))
    pixels: NDArray[np.uint8] = frames[places]
    return pixels


def classify(runtime: Runtime, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities of each clip: float32 [B,K], those of the protocols that average probabilities."""
    scores: NDArray[np.float32] = softmax(runtime.run(clips).logits, axis=1).mean(axis=2)
    return scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Salience:
    """What one scorer says of a set: float32 [M] of each video."""

    scores: tuple[NDArray[np.float32], ...]

    def save(self, path: Path) -> None:
        with replacing(path) as file:
            np.savez(
                file,
                scores=np.concatenate(self.scores),
                num_windows=np.array([len(s) for s in self.scores]),
            )

    @classmethod
    def load(cls, path: Path) -> Salience:
        """Raises OSError, ValueError or KeyError for what is no such file."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(scores=tuple(np.split(arrays["scores"], np.cumsum(arrays["num_windows"])[:-1])))


def score_salience(videos: Sequence[TrueVideo], scorer: ClipScorer, spec: ClipSpec, progress: Progress) -> Salience:
    """What `scorer` says of every window of each video."""

    def score(true: TrueVideo) -> NDArray[np.float32]:
        with open_video(true.path) as video:
            return scorer.score(video, plan_windows(video, spec)).video

    return Salience(scores=tuple(_beside(score, videos, usable_cpus(), progress)))
