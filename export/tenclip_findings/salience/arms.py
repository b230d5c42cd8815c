"""Ways to choose the clips that a video is predicted from, as arithmetic on scores that are there already.

N videos, M windows of one, K classes. An arm's prediction is the class of the highest mean probability of its clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenclip_findings.salience.scoring import Salience, ScoredSet, ScoredVideo
from tenclip_video.aggregate import RunningAverage
from tenclip_video.salience import StoppingRule, WindowScores

Ints = NDArray[np.int64]
# A video's windows in the order in which they are worth classifying.
Order = Callable[[ScoredVideo], Ints]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One arm on N videos. predicted: int64 [N], classes. clips: int64 [N], how many the heavy network ran.

    probabilities: float32 [N,K], of the videos.
    """

    probabilities: NDArray[np.float32]
    clips: Ints

    @property
    def predicted(self) -> Ints:
        predicted: Ints = self.probabilities.argmax(axis=1)
        return predicted

    def correct(self, truth: Ints) -> NDArray[np.bool_]:
        """[N]."""
        result: NDArray[np.bool_] = self.predicted == truth
        return result


def truth_of(scored: ScoredSet) -> Ints:
    """True classes [N]."""
    return np.array([v.label for v in scored.videos])


def uniform(scored: ScoredSet, num_clips: int) -> Outcome:
    """`num_clips` evenly spaced clips, the first at the beginning and the last at the end (VMZ, IG-65M)."""
    return _outcome(v.uniform[num_clips] for v in scored.videos)


def dense(scored: ScoredSet) -> Outcome:
    """All windows."""
    return _outcome(v.windows for v in scored.videos)


def salient(scored: ScoredSet, orders: Sequence[Ints], num_clips: int) -> Outcome:
    """The first `num_clips` windows of each video's order (all, if there are fewer)."""
    return _outcome(v.windows[order[:num_clips]] for v, order in zip(scored.videos, orders, strict=True))


def adaptive(scored: ScoredSet, orders: Sequence[Ints], rule: StoppingRule) -> Outcome:
    """Windows in order until `rule` says that the running scores are settled."""
    return _outcome(v.windows[_until_settled(v, o, rule)] for v, o in zip(scored.videos, orders, strict=True))


def _until_settled(video: ScoredVideo, order: Ints, rule: StoppingRule) -> Ints:
    average = RunningAverage("probabilities")
    for done, window in enumerate(order, start=1):
        if rule.settled(average.add(video.windows[window]), done):
            return order[:done]
    return order


def _outcome(chosen: Iterable[NDArray[np.float32]]) -> Outcome:
    clips = list(chosen)
    return Outcome(
        probabilities=np.stack([c.mean(axis=0) for c in clips]), clips=np.array([len(c) for c in clips], np.int64)
    )


def salience_orders(salience: Salience, num_clips: int) -> list[Ints]:
    """The windows that a server would take of each video, the most salient first."""
    return [WindowScores(scores).order(num_clips) for scores in salience.scores]


def overlap_orders(scored: ScoredSet) -> list[Ints]:
    """Oracle: windows by how much of them lies within the true interval; ties go to the earlier.

    Of a video that is all action, all windows are equal.
    """
    return [_descending(_overlap(v)) for v in scored.videos]


def _overlap(video: ScoredVideo) -> NDArray[np.float64]:
    """Share of each window that lies within the action: [M]."""
    if video.interval is None:
        return np.ones(len(video.seconds))
    starts, ends = video.seconds[:, 0], video.seconds[:, 1]
    common = np.minimum(ends, video.interval[1]) - np.maximum(starts, video.interval[0])
    share: NDArray[np.float64] = common.clip(0) / (ends - starts)
    return share


def true_score_orders(scored: ScoredSet) -> list[Ints]:
    """Oracle: windows by the heavy network's probability of the true class."""
    return [_descending(v.windows[:, v.label]) for v in scored.videos]


def _descending(values: NDArray[np.floating]) -> Ints:
    return np.argsort(-values, kind="stable")


def windows_with_action(scored: ScoredSet, orders: Sequence[Ints], num_clips: int) -> float:
    """Of the windows taken, the share of which at least half is action: mean over videos."""
    shares = [
        float((_overlap(v)[order[:num_clips]] >= 0.5).mean()) for v, order in zip(scored.videos, orders, strict=True)
    ]
    return float(np.mean(shares))
