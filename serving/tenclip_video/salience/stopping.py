"""Adaptive prediction: clips are run in order of salience until the running prediction is settled.

The rule is a threshold on the margin of the running scores. It is calibrated on held-out videos (`calibrate`), so that
with a stated confidence the class of a video differs from what all its salient clips together say in at most a stated
share of videos that come from where those came from. For others nothing is promised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """Stop after n clips where the best score leads the second by at least `threshold`, and n is at least `min_clips`.

    max_clips: K, all clips. error_bound: the share of videos whose class may differ from that of all K clips, held with
    probability `confidence` over the choice of `num_videos` calibration videos, of which `num_different` differed.
    mean_clips: clips that those used on average. protocol: of the scores it was calibrated on.
    """

    threshold: float
    min_clips: int = 1
    max_clips: int = 10
    error_bound: float
    confidence: float
    num_videos: int
    num_different: int
    mean_clips: float

    def settled(self, probabilities: NDArray[np.float32], num_done: int) -> bool:
        """Whether to stop. probabilities: float32 [K] of the video, from the `num_done` clips that are done."""
        if num_done >= self.max_clips:
            return True
        if num_done < self.min_clips:
            return False
        if len(probabilities) < 2:
            return True
        second, best = np.partition(probabilities, -2)[-2:]
        return bool(best - second >= self.threshold)
