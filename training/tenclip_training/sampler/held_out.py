"""What a sampler is worth on videos that chose nothing: does it order windows as the heavy network does, does it find
the action, and what does the heavy network make of its windows?

All of it follows from scores that are kept: the heavy network is not asked again. M windows, K of them taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenclip_training.sampler.ranks import mean_rank_correlation
from tenclip_training.sampler.videos import Interval
from tenclip_video.salience.scores import WindowScores


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutVideo:
    """seconds: [M,2]; teacher: float32 [M,C] class scores; salience: float32 [M]; motion_energy: float32 [M], None
    where it is not known; action: where the class is shown.
    """

    name: str
    label: int
    seconds: NDArray[np.float64]
    teacher: NDArray[np.float32]
    salience: NDArray[np.float32]
    motion_energy: NDArray[np.float32] | None = None
    action: tuple[Interval, ...] = ()

    @property
    def of_label(self) -> NDArray[np.float32]:
        """The heavy network's score [M] of the video's class."""
        return self.teacher[:, self.label]


# Which K windows of a video are taken, most important first.
Choice = Callable[[HeldOutVideo, int], NDArray[np.int64]]


def by_salience(video: HeldOutVideo, count: int) -> NDArray[np.int64]:
    """As a server takes them."""
    return WindowScores(video.salience).order(count)


def evenly(video: HeldOutVideo, count: int) -> NDArray[np.int64]:
    """Spread over the candidate windows."""
    return WindowScores(np.zeros(len(video.teacher), np.float32)).order(count)


def by_teacher(video: HeldOutVideo, count: int) -> NDArray[np.int64]:
    """What the best possible sampler takes: it knows the class and the heavy network's scores."""
    return WindowScores(video.of_label).order(count)


def by_motion(video: HeldOutVideo, count: int) -> NDArray[np.int64]:
    """As a server without a sampler takes them."""
    assert video.motion_energy is not None, "asked for where it is known"
    return WindowScores(video.motion_energy).order(count)


CHOICES: dict[str, Choice] = {"salient": by_salience, "uniform": evenly, "motion": by_motion, "oracle": by_teacher}


def held_out_metrics(videos: Sequence[HeldOutVideo], counts: Sequence[int]) -> dict[str, float]:
    """Figures by name; shares from 0 to 1. counts: the numbers K of windows that are taken.

    videos, windows_per_video; rank_correlation: Spearman's with the heavy network's score of the class, mean over the
    videos that have an order; `top1_all` of all windows, `top1_salient_K`, `top1_uniform_K`, `top1_motion_K` (motion
    energy, where it is known of all videos) and `top1_oracle_K` of K;
    where the action is annotated `action_recall_salient_K` (the share of its time that the windows show, mean over
    videos) and the same for uniform ones and by motion energy.
    """
    if not videos:
        return {"videos": 0.0}
    found = {
        "videos": float(len(videos)),
        "windows_per_video": float(np.mean([len(v.salience) for v in videos])),
        "top1_all": _top1(videos, lambda v, _: np.arange(len(v.teacher)), 0),
    }
    correlation = mean_rank_correlation([v.salience for v in videos], [v.of_label for v in videos])
    if correlation is not None:
        found["rank_correlation"] = correlation
    annotated = [v for v in videos if v.action]
    if annotated:
        found["annotated_videos"] = float(len(annotated))
    for count in counts:
        found[f"longer_than_{count}"] = float(sum(len(v.salience) > count for v in videos))
        for name, choice in CHOICES.items():
            if name == "motion" and any(v.motion_energy is None for v in videos):
                continue
            found[f"top1_{name}_{count}"] = _top1(videos, choice, count)
            if annotated and name != "oracle":
                recalls = [action_recall(v.seconds[choice(v, count)], v.action) for v in annotated]
                found[f"action_recall_{name}_{count}"] = float(np.mean(recalls))
    return found


def action_recall(seconds: NDArray[np.float64], action: Sequence[Interval]) -> float:
    """The share of the action's time that lies in any of the windows [K,2]; intervals of the action do not overlap.

    >>> action_recall(np.array([[0.0, 1.0], [0.5, 2.0]]), [(1.5, 2.5)])
    0.5
    """
    last = float(seconds[:, 1].max()) if len(seconds) else 0.0
    edges = np.unique(np.clip([t for span in (*seconds.tolist(), *action) for t in span], 0, max(last, _end(action))))
    middles = (edges[:-1] + edges[1:]) / 2
    acting = _inside(middles, action)
    total = float(np.diff(edges)[acting].sum())
    shown = acting & _inside(middles, seconds.tolist())
    return float(np.diff(edges)[shown].sum()) / total if total else 0.0


def _end(action: Sequence[Interval]) -> float:
    """Of an action without an end only what windows show of it can be counted."""
    return max((end for _, end in action if np.isfinite(end)), default=0.0)


def _inside(times: NDArray[np.float64], spans: Sequence[Interval]) -> NDArray[np.bool_]:
    found = np.zeros(len(times), np.bool_)
    for start, end in spans:
        found |= (times >= start) & (times < end)
    return found


def _top1(videos: Sequence[HeldOutVideo], choice: Choice, count: int) -> float:
    right = [int(v.teacher[choice(v, count)].mean(axis=0).argmax()) == v.label for v in videos]
    return float(np.mean(right))


def clips_by_salience(videos: Sequence[HeldOutVideo], count: int) -> list[NDArray[np.float32]]:
    """Scores [K,C] of the `count` most salient windows of each video, in that order."""
    return [v.teacher[by_salience(v, count)] for v in videos]
