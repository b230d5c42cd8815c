"""Motion energy: a scorer that learns nothing.

`MotionEnergyScorer` is not SCSampler: it looks at plain frame differences at low resolution where the paper's sampler
learns from the compressed domain. It is the baseline, and what is used where a model has no sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenclip_video.salience.scores import WindowScores
from tenclip_video.sampling import Clip
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import Video

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
    window_step: int | None = None

    def check_clips(self, model_spec: ClipSpec) -> None:
        """Differences of frames can be had of any clips."""

    def score(self, video: Video, clips: Sequence[Clip]) -> WindowScores:
        groups = [clips[i : i + _CLIPS_AT_ONCE] for i in range(0, len(clips), _CLIPS_AT_ONCE)]
        return WindowScores(np.array([e for group in groups for e in self._score(video, group)], np.float32))

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
