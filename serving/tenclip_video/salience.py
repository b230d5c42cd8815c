"""Salience: scoring the windows of a video, so that the network sees only the best clips.

The IG-65M paper takes the ten clips that SCSampler (Korbar et al., 2019) ranks highest instead of ten uniform ones.
`MotionEnergyScorer` is not that sampler: it learns nothing, and looks at plain frame differences at low resolution
where the paper looks at compressed-domain motion. It is a baseline, behind the interface that learned scorers use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tenclip_video.sampling import Clip
from tenclip_video.spec import Resize
from tenclip_video.video import Video


class ClipScorer(Protocol):
    """Scores candidate clips of an open video before the network sees any of them."""

    @property
    def name(self) -> str: ...

    def score(self, video: Video, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """[M] float32, one score for each clip, higher for clips that are worth classifying.

        Scores compare within one call only.
        """
        ...


@dataclass(frozen=True, eq=False)
class SalienceTimeline:
    """The score of every candidate window: seconds (start, end) of each of M windows, scores [M], selected [M].

    scorer: the name of the scorer.
    """

    scorer: str
    seconds: tuple[tuple[float, float], ...]
    scores: NDArray[np.float32]
    selected: NDArray[np.bool_]


# Clips scored from one read: bounds the memory on long videos (8 frames a clip, 5 KB each in RGB: 5 MB).
_CLIPS_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True)
class MotionEnergyScorer:
    """Mean absolute difference of neighbouring frames within each clip, in grey at `height` x `width`.

    samples_per_clip: how many pairs of frames of a clip are compared at most. Against flashes, the median over the
    picture is subtracted from each difference; against cuts, the largest pair of a clip is left out.
    """

    height: int = 36
    width: int = 48
    samples_per_clip: int = 4
    name: str = "motion-energy"

    def score(self, video: Video, clips: Sequence[Clip]) -> NDArray[np.float32]:
        groups = [clips[i : i + _CLIPS_AT_ONCE] for i in range(0, len(clips), _CLIPS_AT_ONCE)]
        return np.array([energy for group in groups for energy in self._score(video, group)], np.float32)

    def _score(self, video: Video, clips: Sequence[Clip]) -> list[float]:
        pairs = [self._pairs(clip, video.info.num_frames) for clip in clips]
        frames = sorted({i for clip_pairs in pairs for pair in clip_pairs for i in pair})
        if not frames:
            return [0.0] * len(clips)
        grey = dict(zip(frames, self._grey(video, frames), strict=True))
        return [_energy([(grey[a], grey[b]) for a, b in clip_pairs]) for clip_pairs in pairs]

    def _pairs(self, clip: Clip, num_frames: int) -> list[tuple[int, int]]:
        first, last = min(clip.frames), max(clip.frames)
        count = min(self.samples_per_clip, last - first)
        starts = np.linspace(first, last - 1, count).astype(int).tolist() if count > 0 else []
        return [(s, s + 1) for s in starts if s + 1 < num_frames]

    def _grey(self, video: Video, frames: list[int]) -> NDArray[np.int16]:
        """int16 [M, height, width], 0-255: Rec. 601 luma in integers, enough for differences."""
        rgb = video.read_frames(frames, Resize(mode="squash", height=self.height, width=self.width)).astype(np.uint16)
        # At most 255 * 256: it fits.
        return ((77 * rgb[..., 0] + 150 * rgb[..., 1] + 29 * rgb[..., 2]) >> 8).astype(np.int16)


def _energy(pairs: list[tuple[NDArray[np.int16], NDArray[np.int16]]]) -> float:
    if not pairs:
        return 0.0
    differences = [b - a for a, b in pairs]
    energies = sorted(float(np.abs(d - np.median(d)).mean()) for d in differences)
    return float(np.mean(energies[:-1] if len(energies) > 2 else energies))


def select_salient(scores: NDArray[np.float32], num_clips: int) -> NDArray[np.int64]:
    """Indices of the `num_clips` highest scores (all, if there are fewer), in order of time; ties go to the earlier.

    >>> select_salient(np.array([1, 5, 3, 5], np.float32), 2).tolist()
    [1, 3]
    """
    order = np.argsort(-scores, kind="stable")[:num_clips]
    return np.sort(order)
