"""Averaging: network outputs of all clips, views and positions of one video -> scores of its clips and of the video.

Evaluation and serving both average here, so that a protocol gives the same scores in both.

Letters: N clips, V views of each, K classes, P positions, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenclip_video.protocols import Activation, Averaging, clip_probabilities, softmax, video_probabilities


class Outputs(NamedTuple):
    """Outputs of a network for B clips. logits: float32 [B,K,P]; features: float32 [B,D].

    Without a classifier K is 0 and P is 1.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class of a prediction. index: its place among the labels; score: its probability."""

    index: int
    label: str
    score: float


class Aggregate(NamedTuple):
    """Scores and features of one video and of its clips, averaged over views and positions."""

    probabilities: NDArray[np.float32]  # [K]
    clip_probabilities: NDArray[np.float32]  # [N,K]
    clip_features: NDArray[np.float32]  # [N,D]
    features: NDArray[np.float32]  # [D]


def aggregate(
    outputs: Sequence[Outputs], averaging: Averaging, *, views: int, activation: Activation = "softmax"
) -> Aggregate:
    """Average all outputs of a video by its protocol's `averaging`.

    outputs: of successive batches; together [N*V,...], the V views of a clip following one another.
    With "logits", logits are averaged over positions, views and clips, then comes one softmax: a clip's scores are
    those of a video of that clip alone. Otherwise the softmax comes first. activation: "sigmoid" takes the place of the
    softmax for a model of independent classes.

    >>> logits = np.zeros((6, 4, 1), np.float32)
    >>> aggregate([Outputs(logits, np.zeros((6, 8), np.float32))], "probabilities", views=3).clip_probabilities.shape
    (2, 4)
    """
    logits = np.concatenate([o.logits for o in outputs])  # [N*V,K,P]
    features = np.concatenate([o.features for o in outputs])  # [N*V,D]
    num_clips = len(logits) // views
    clips = logits.reshape(num_clips, views, *logits.shape[1:])  # [N,V,K,P]
    if averaging == "logits":
        per_clip = np.stack([video_probabilities(views_of_clip, averaging, activation) for views_of_clip in clips])
    else:
        per_clip = clip_probabilities(logits, averaging, activation).reshape(num_clips, views, -1).mean(axis=1)
    clip_features = features.reshape(num_clips, views, -1).mean(axis=1)
    video = video_probabilities(logits, averaging, activation)
    return Aggregate(video, per_clip, clip_features, clip_features.mean(axis=0))


class ClipAssembler:
    """Averages each clip as soon as all of its views are there, and calls `on_clip(index, answer)` with it.

    Batches may be added in any order.
    """

    def __init__(self, averaging: Averaging, *, views: int, on_clip: Callable[[int, Aggregate], None]) -> None:
        self._averaging, self._views, self._on_clip = averaging, views, on_clip
        self._incomplete: dict[int, dict[int, Outputs]] = {}  # by clip, then by view

    def add(self, first: int, outputs: Outputs) -> None:
        """Add the outputs of consecutive views. first: index of the first of them among the views of all clips."""
        for i in range(len(outputs.logits)):
            index, view = divmod(first + i, self._views)
            parts = self._incomplete.setdefault(index, {})
            parts[view] = Outputs(outputs.logits[i : i + 1], outputs.features[i : i + 1])
            if len(parts) == self._views:
                del self._incomplete[index]
                in_order = [parts[v] for v in range(self._views)]
                self._on_clip(index, aggregate(in_order, self._averaging, views=self._views))


class RunningAverage:
    """Scores of a video from the clips that are done so far. After the last clip they are `Aggregate.probabilities`."""

    def __init__(self, averaging: Averaging) -> None:
        self._of_logits = averaging == "logits"
        self._sum: NDArray[np.float64] | float = 0.0
        self._count = 0

    def add(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add the scores of one clip, float32 [K]; returns those of all so far, float32 [K]."""
        values = probabilities.astype(np.float64)
        if self._of_logits:
            # The log of a softmax is the logits less a constant, and the softmax of the mean ignores constants.
            values = np.log(np.maximum(values, np.finfo(np.float32).tiny))
        self._sum = self._sum + values
        self._count += 1
        mean = np.asarray(self._sum / self._count, np.float32)
        return softmax(mean) if self._of_logits else mean


def top_classes(probabilities: NDArray[np.float32], labels: Sequence[str], k: int) -> tuple[ClassScore, ...]:
    """The k most probable classes of probabilities [K], the most probable first, equal ones by index."""
    order = np.argsort(-probabilities, kind="stable")[:k]
    return tuple(ClassScore(index=int(i), label=labels[i], score=float(probabilities[i])) for i in order)
