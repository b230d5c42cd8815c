"""From videos to the Gaussian of their camera motion: homographies between consecutive sampled frames (3.5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Sample
from tenclip_training.curation.killable import DEFAULT_TIMEOUT_SECONDS, for_each
from tenclip_training.data.failures import Failure
from tenclip_training.omni.camera_motion import Features, estimate_homography
from tenclip_training.omni.homographies import IDENTITY, HomographyGaussian, Matrix
from tenclip_training.omni.motion import Motion
from tenclip_video.sampling import Clip, ClipSelection, frames_needed, plan_clips
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import open_video

# Small enough to be quick, large enough for a few hundred corners.
_RESIZE = Resize(mode="short_edge", short_edge=240)
# A class with fewer homographies has no Gaussian of its own: 8 means and 36 covariances are to be had from them.
MIN_OF_CLASS = 45

OnFailure = Literal["drop", "identity"]


@dataclass(frozen=True, kw_only=True)
class FitRules:
    """Which frames are looked at, and how.

    frame_stride, target_fps: between the two frames of a pair, as in the clips that are trained on. pairs: of each
    video, evenly spaced. features: see `camera_motion`. on_failure: a pair without a homography that can be trusted
    is dropped, or counts as a camera that stands still.
    """

    frame_stride: int = 1
    target_fps: float | None = None
    pairs: int = 8
    features: Features = "lk"
    on_failure: OnFailure = "drop"

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"pairs must be at least 1, got {self.pairs}")
        self.spec  # noqa: B018  # checks the rest

    @property
    def spec(self) -> ClipSpec:
        """Two consecutive frames of a clip."""
        return ClipSpec(
            num_frames=2, frame_stride=self.frame_stride, target_fps=self.target_fps, resize=_RESIZE, crop=1
        )


@dataclass(frozen=True, kw_only=True)
class PairsJob:
    """One video for a worker."""

    sample: Sample
    rules: FitRules

    def __str__(self) -> str:
        return self.sample.key


@dataclass(frozen=True, kw_only=True)
class VideoPairs:
    """The homographies of one video, and for each pair without one the reason."""

    matrices: tuple[Matrix, ...]
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """motion, and how it came about: pairs of frames in all, those without a homography by reason, videos that could
    not be read, classes that have no Gaussian of their own with how many homographies they had.
    """

    motion: Motion
    videos: int
    pairs: int
    rejected: Mapping[str, int]
    failures: tuple[Failure, ...] = ()
    small_classes: Mapping[str, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the Gaussians."""
        return {
            "videos": self.videos,
            "videos_failed": len(self.failures),
            "pairs": self.pairs,
            "homographies": self.motion.overall.count,
            "rejected": dict(self.rejected),
            "classes": {label: g.count for label, g in self.motion.classes.items()},
            "classes_too_small": dict(self.small_classes or {}),
        }


def fit_motion(
    samples: Sequence[Sample],
    rules: FitRules,
    *,
    per_class: bool = False,
    workers: int = 1,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> FitResult:
    """Fit the camera motion of videos.

    per_class: also a Gaussian for every class that has MIN_OF_CLASS homographies; a video of several classes counts for
    each. A video that cannot be read is in the failures. Raises DatasetError where no homography at all was found.
    """
    found: dict[int, VideoPairs] = {}
    failures: dict[int, Failure] = {}
    jobs = [PairsJob(sample=sample, rules=rules) for sample in samples]
    place = {id(job): i for i, job in enumerate(jobs)}
    for outcome in for_each(find_pairs, jobs, workers=workers, timeout_seconds=timeout_seconds):
        index = place[id(outcome.item)]
        if outcome.value is not None:
            found[index] = outcome.value
        else:
            assert outcome.error is not None
            failures[index] = Failure.of(samples[index], outcome.error)
        if progress:
            progress(len(found) + len(failures), len(samples))
    # In the order of the samples, so that sums do not hang on which worker was first.
    videos = [(samples[i], found[i]) for i in sorted(found)]
    rejected = Counter(reason for _, video in videos for reason in video.rejected)
    kept = [_kept(video, rules.on_failure) for _, video in videos]
    matrices = [m for of_video in kept for m in of_video]
    pairs = sum(len(v.matrices) + len(v.rejected) for _, v in videos)
    if not matrices:
        raise DatasetError(_nothing(len(samples), pairs, rejected, [failures[i] for i in sorted(failures)]))
    classes, small = _classes(videos, kept) if per_class else ({}, None)
    sampling = {"frame_stride": rules.frame_stride, "target_fps": rules.target_fps}
    return FitResult(
        motion=Motion(overall=HomographyGaussian.fit(matrices), classes=classes, sampling=sampling),
        videos=len(samples),
        pairs=pairs,
        rejected=dict(rejected.most_common()),
        failures=tuple(failures[i] for i in sorted(failures)),
        small_classes=small,
    )


def find_pairs(job: PairsJob) -> VideoPairs:
    """The homographies of one video, in a process of its own. Raises VideoError for one that cannot be read."""
    sample, rules = job.sample, job.rules
    cv2.setNumThreads(1)  # as many videos are looked at as there are cores
    with open_video(sample.path, name=sample.key) as video:
        selection = ClipSelection(
            num_clips=rules.pairs, start_seconds=sample.start_seconds, end_seconds=sample.end_seconds
        )
        try:
            clips = plan_clips(video.times, video.info.duration_seconds, rules.spec, selection)
        except ValueError:
            return VideoPairs(matrices=(), rejected=("no-frames",))
        clips = [c for c in dict.fromkeys(clips) if not c.looped]
        if not clips:
            return VideoPairs(matrices=(), rejected=("too-short",))
        needed = frames_needed(clips)
        greys = _Greys(len(needed), video.frame_size(_RESIZE))
        video.read_into(greys, needed, _RESIZE)
    return _estimate(greys.frames, needed, clips, rules.features)


def _estimate(
    greys: NDArray[np.uint8], needed: NDArray[np.int64], clips: Sequence[Clip], features: Features
) -> VideoPairs:
    estimates = [
        estimate_homography(greys[first], greys[second], features)
        for first, second in (np.searchsorted(needed, clip.frames) for clip in clips)
    ]
    return VideoPairs(
        matrices=tuple(e.matrix for e in estimates if e.matrix is not None),
        rejected=tuple(e.reason for e in estimates if e.reason is not None),
    )


def _kept(video: VideoPairs, on_failure: OnFailure) -> list[Matrix]:
    still = [IDENTITY] * len(video.rejected) if on_failure == "identity" else []
    return [*video.matrices, *still]


def _classes(
    videos: Sequence[tuple[Sample, VideoPairs]], kept: Sequence[Sequence[Matrix]]
) -> tuple[dict[str, HomographyGaussian], dict[str, int]]:
    by_class: dict[str, list[Matrix]] = {}
    for (sample, _), matrices in zip(videos, kept, strict=True):
        for label in sample.labels:
            by_class.setdefault(label, []).extend(matrices)
    fitted = {c: HomographyGaussian.fit(m) for c, m in sorted(by_class.items()) if len(m) >= MIN_OF_CLASS}
    return fitted, {c: len(m) for c, m in sorted(by_class.items()) if c not in fitted}


def _nothing(videos: int, pairs: int, rejected: Mapping[str, int], failures: Sequence[Failure]) -> str:
    why = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
    text = f"no homography was found between {pairs} pairs of frames of {videos} videos"
    if why:
        text += f" ({why})"
    if failures:
        text += f"; {len(failures)} videos could not be read, the first: {failures[0].message}"
    return text + "; use videos with more texture or a smaller stride, or let images be replicated"


class _Greys:
    """Keeps frames as grey pictures."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self.frames = np.zeros((count, *size), np.uint8)

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        self.frames[slot] = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)

    def repeat(self, slot: int, of: int) -> None:
        self.frames[slot] = self.frames[of]
