"""Adaptive prediction: clips are run in order of salience until the running prediction is settled.

The rule is a threshold on the margin of the running scores. It is calibrated on held-out videos
(`calibrate_stopping`), so that with a stated confidence the class of a video differs from what all its salient clips
together say in at most a stated share of videos that come from where those came from. For others nothing is promised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_video.aggregate import RunningAverage
from tenclip_video.protocols import Averaging

# The thresholds that are tested, from the strictest to the loosest; fixed before any data are seen. Margins are at most
# 1, so the first of them never stops.
THRESHOLDS: tuple[float, ...] = (1.01, *(round(1 - i / 100, 2) for i in range(101)))
# Of sums of ten float32 probabilities, with much to spare.
_ROUNDING = 1e-4
# The error bounds that rules are calibrated for where nobody states others; the default is what a request without a
# bound gets.
DEFAULT_ERROR_BOUND = 0.05
ERROR_BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.3)


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """Stop after n clips where the best score leads the second by at least `threshold`, and n is at least `min_clips`.

    is_curtailed: stop as well where the K - n clips that remain could not change the class, whatever they say: in the
    mean of probabilities a lead of m is lost only to n * m clips that are sure of the second class. That changes no
    answer, so it costs nothing of the bound.

    max_clips: K, all clips. error_bound: the share of videos whose class may differ from that of all K clips, held with
    probability `confidence` over the choice of `num_videos` calibration videos, of which `num_different` differed.
    mean_clips: clips that those used on average.
    """

    threshold: float
    min_clips: int = 1
    max_clips: int = 10
    error_bound: float
    confidence: float
    num_videos: int
    num_different: int
    mean_clips: float
    is_curtailed: bool = False

    def settled(self, probabilities: NDArray[np.float32], num_done: int) -> bool:
        """Whether to stop. probabilities: float32 [K] of the video, from the `num_done` clips that are done."""
        if num_done >= self.max_clips:
            return True
        if num_done < self.min_clips:
            return False
        if len(probabilities) < 2:
            return True
        second, best = np.partition(probabilities, -2)[-2:]
        lead = best - second
        is_past = bool(lead >= self.threshold)
        return is_past or (self.is_curtailed and is_certain(float(lead), num_done, self.max_clips))


def all_rules(default: StoppingRule | None, others: Iterable[StoppingRule]) -> tuple[StoppingRule, ...]:
    """The rules of a sampler, the strictest bound first."""
    rules = (*(() if default is None else (default,)), *others)
    return tuple(sorted(rules, key=lambda rule: rule.error_bound))


def read_rules(values: Mapping[str, Any]) -> dict[str, Any]:
    """`stopping` and `other_stopping` of a description in JSON; files of before there were others have the one alone.

    Raises TypeError for what are no rules.
    """
    default = values.get("stopping")
    return {
        "stopping": None if default is None else StoppingRule(**default),
        "other_stopping": tuple(StoppingRule(**rule) for rule in values.get("other_stopping", ())),
    }


def is_certain(lead: float, num_done: int, max_clips: int) -> bool:
    """Whether a lead in the mean probabilities of `num_done` clips cannot be lost to those that remain.

    >>> is_certain(0.9, 5, 10), is_certain(0.9, 6, 10)
    (False, True)
    """
    return num_done * lead > max_clips - num_done + _ROUNDING


def calibrate_stopping(
    videos: Sequence[NDArray[np.float32]],
    *,
    error_bound: float = 0.05,
    confidence: float = 0.95,
    max_clips: int = 10,
    min_clips: int = 1,
    averaging: Averaging = "probabilities",
) -> StoppingRule:
    """The loosest threshold that keeps to the bound on held-out videos.

    videos: float32 [N_i,K] each, the scores of a video's clips in order of salience, of which the first `max_clips`
    count. averaging: of the protocol, as `RunningAverage` has it.

    `THRESHOLDS` are tested from the strictest on: is the Clopper-Pearson upper bound, at `confidence`, of the share of
    videos whose class differs from that of all their clips at most `error_bound`? The first that fails ends the
    sequence, and the one before it is taken. So testing many thresholds costs no confidence (fixed-sequence testing;
    Angelopoulos et al., "Learn then Test", 2021). Raises InvalidRequest for too few videos, saying how many are needed,
    and ValueError for bounds out of range.
    """
    _check_bounds(error_bound, confidence, min_clips, max_clips)
    if (needed := videos_needed(error_bound, confidence)) > len(videos):
        raise InvalidRequest(
            f"{len(videos)} held-out videos are too few to promise that at most {error_bound:.1%} of videos change "
            f"their class, with confidence {confidence:.1%}: at least {needed} are needed, or a larger error bound"
        )
    margins, classes = _running(videos, max_clips, averaging)
    margins[:, : min_clips - 1] = -np.inf
    last = np.array([min(len(v), max_clips) for v in videos]) - 1
    rows = np.arange(len(videos))
    is_curtailed = averaging == "probabilities"
    if is_curtailed:
        done = np.arange(1, max_clips + 1)
        margins[done * margins.astype(np.float64) > max_clips - done + _ROUNDING] = np.inf
        margins[:, : min_clips - 1] = -np.inf
    margins[rows, last] = np.inf  # all clips are done
    best: tuple[float, int, float] | None = None
    for threshold in THRESHOLDS:
        stops = (margins >= np.float32(threshold)).argmax(axis=1)
        different = int((classes[rows, stops] != classes[rows, last]).sum())
        if clopper_pearson_upper(different, len(videos), confidence) > error_bound:
            break
        best = threshold, different, float(stops.mean() + 1)
    assert best is not None, "nothing differs at the first threshold, and there are enough videos"
    return StoppingRule(
        threshold=best[0],
        min_clips=min_clips,
        max_clips=max_clips,
        error_bound=error_bound,
        confidence=confidence,
        num_videos=len(videos),
        num_different=best[1],
        mean_clips=best[2],
        is_curtailed=is_curtailed,
    )


def videos_needed(error_bound: float, confidence: float) -> int:
    """The fewest videos by which a bound can be shown at all: none of them differs.

    >>> videos_needed(0.05, 0.95)
    59
    """
    needed = math.ceil(math.log(1 - confidence) / math.log(1 - error_bound))
    # Where that is whole but for rounding, one more.
    return needed if clopper_pearson_upper(0, needed, confidence) <= error_bound else needed + 1


def clopper_pearson_upper(num_different: int, num_videos: int, confidence: float) -> float:
    """The one-sided upper bound of a share of which `num_different` of `num_videos` were seen (Clopper and Pearson,
    1934): the share at which seeing so few has probability 1 - `confidence`.

    >>> round(clopper_pearson_upper(0, 59, 0.95), 4)
    0.0495
    """
    if num_different >= num_videos:
        return 1.0
    low, high = num_different / num_videos, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(num_different, num_videos, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(k: int, n: int, share: float) -> float:
    """P(X <= k) of a binomial X, 0 < share <= 1."""
    if share >= 1:
        return 0.0
    terms = (
        [
            math.lgamma(n + 1)
            - math.lgamma(i + 1)
            - math.lgamma(n - i + 1)
            + i * math.log(share)
            + (n - i) * math.log1p(-share)
            for i in range(k + 1)
        ]
        if share > 0
        else [0.0]
    )
    return math.fsum(math.exp(t) for t in terms)


def _running(
    videos: Sequence[NDArray[np.float32]], max_clips: int, averaging: Averaging
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(margins, best classes) [N, max_clips] of the running averages; beyond a video's clips 0."""
    margins = np.zeros((len(videos), max_clips), np.float32)
    classes = np.zeros((len(videos), max_clips), np.int64)
    for i, clips in enumerate(videos):
        if clips.ndim != 2 or 0 in clips.shape:
            raise ValueError(f"scores of a video's clips are [N,K], got {clips.shape}")
        average = RunningAverage(averaging)
        for n, clip in enumerate(clips[:max_clips]):
            running = average.add(clip)
            classes[i, n] = running.argmax()
            if len(running) > 1:
                second, best = np.partition(running, -2)[-2:]
                margins[i, n] = best - second
            else:
                margins[i, n] = np.inf
    return margins, classes


def _check_bounds(error_bound: float, confidence: float, min_clips: int, max_clips: int) -> None:
    if not (0 < error_bound < 1 and 0 < confidence < 1):
        raise ValueError(f"error bound and confidence lie between 0 and 1, got {error_bound} and {confidence}")
    if not 1 <= min_clips <= max_clips:
        raise ValueError(f"min_clips {min_clips} must lie within 1..{max_clips}, the number of clips")
