"""What a scorer says of the candidate windows of a video, and which of them are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tenclip_video.sampling import Clip
from tenclip_video.spec import ClipSpec
from tenclip_video.video import Video


@dataclass(frozen=True, eq=False)
class WindowScores:
    """Scores of M candidate windows, higher for those that are worth classifying; they compare within one video only.

    video: float32 [M]. audio: float32 [M] of a second scorer that listens, None where the video has no sound or the
    sampler no such part. audio_clips: how many of K chosen windows are the best by sound (K'' of SCSampler), at most.
    notes: what the user should know: a fallback, that the timeline is flat.
    """

    video: NDArray[np.float32]
    audio: NDArray[np.float32] | None = None
    audio_clips: int = 0
    notes: tuple[str, ...] = ()

    @property
    def is_flat(self) -> bool:
        """All scores are equal, so that they say nothing of where the action is."""
        return bool(len(self.video) < 2 or np.ptp(self.video) == 0) and (self.audio is None or np.ptp(self.audio) == 0)

    def order(self, num_clips: int) -> NDArray[np.int64]:
        """Indices of the `num_clips` windows to take (all, if there are fewer), the most salient first.

        The best by pictures come first, joined with the best by sound that are not among them (SCSampler's union).
        Ties go to the earlier window; of constant scores the windows are spread uniformly over time.
        """
        if self.is_flat:
            return _spread(len(self.video), num_clips)
        if self.audio is not None and np.ptp(self.video) == 0:  # only the sound says anything
            return np.argsort(-self.audio, kind="stable")[:num_clips]
        by_sound = 0 if self.audio is None else min(self.audio_clips, num_clips)
        by_picture = np.argsort(-self.video, kind="stable")
        chosen = by_picture[: num_clips - by_sound].tolist()
        if self.audio is not None:
            seen = set(chosen)
            heard = [i for i in np.argsort(-self.audio, kind="stable").tolist() if i not in seen]
            chosen += heard[:by_sound]
        return np.array(chosen, np.int64)


def _spread(num_windows: int, num_clips: int) -> NDArray[np.int64]:
    """Windows spread evenly over time, in order of time."""
    if num_clips >= num_windows:
        return np.arange(num_windows)
    return np.unique(np.linspace(0, num_windows - 1, num_clips).round().astype(np.int64))


class ClipScorer(Protocol):
    """Scores candidate clips of an open video before the network sees any of them."""

    @property
    def name(self) -> str: ...

    @property
    def window_step(self) -> int | None:
        """Frames from one candidate clip to the next where a selection names none; None: clips do not overlap."""
        ...

    def check_clips(self, model_spec: ClipSpec) -> None:
        """Raises BundleError where the scorer was made for other clips than those of a model."""
        ...

    def score(self, video: Video, clips: Sequence[Clip]) -> WindowScores:
        """Scores of M clips."""
        ...


@dataclass(frozen=True, eq=False)
class SalienceTimeline:
    """The score of every candidate window: seconds (start, end) of each of M windows, scores [M], selected [M].

    scorer: the name of the scorer. ranking: the windows that were selected by salience, the most salient first; empty
    where another rule chose the clips. flat: the scores are constant, and say nothing. notes: of `WindowScores`.
    """

    scorer: str
    seconds: tuple[tuple[float, float], ...]
    scores: NDArray[np.float32]
    selected: NDArray[np.bool_]
    ranking: tuple[int, ...] = ()
    flat: bool = False
    notes: tuple[str, ...] = ()
