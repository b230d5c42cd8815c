"""Many clips, views and positions of one video -> one answer.

Letters: N clips, V views of each, K classes, P positions, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenclip_serving.requests import ClassScore
from tenclip_serving.runtimes.base import Outputs
from tenclip_video.protocols import Averaging, clip_probabilities, softmax, video_probabilities


class Aggregate(NamedTuple):
    """See `Recognition` for the fields."""

    probabilities: NDArray[np.float32]  # [K]
    clip_probabilities: NDArray[np.float32]  # [N,K]
    clip_features: NDArray[np.float32]  # [N,D]
    features: NDArray[np.float32]  # [D]


def aggregate(outputs: Sequence[Outputs], averaging: Averaging, *, views: int) -> Aggregate:
    """Average all outputs of a video, batch after batch, in which the views of a clip follow one another."""
    logits = np.concatenate([o.logits for o in outputs])  # [N*V,K,P]
    features = np.concatenate([o.features for o in outputs])  # [N*V,D]
    num_clips = len(logits) // views
    clips = logits.reshape(num_clips, views, *logits.shape[1:])  # [N,V,K,P]
    if averaging == "logits":
        # A clip is averaged like a video of one clip: before the softmax, over its views too.
        per_clip = np.stack([video_probabilities(views_of_clip, averaging) for views_of_clip in clips])
    else:
        per_clip = clip_probabilities(logits, averaging).reshape(num_clips, views, -1).mean(axis=1)
    clip_features = features.reshape(num_clips, views, -1).mean(axis=1)
    return Aggregate(video_probabilities(logits, averaging), per_clip, clip_features, clip_features.mean(axis=0))


class ClipAssembler:
    """Puts the views of each clip together, in whatever order batches end: `on_clip(index, answer)` for each clip."""

    def __init__(self, averaging: Averaging, *, views: int, on_clip: Callable[[int, Aggregate], None]) -> None:
        self._averaging, self._views, self._on_clip = averaging, views, on_clip
        self._incomplete: dict[int, dict[int, Outputs]] = {}  # by clip, then by view

    def add(self, first: int, outputs: Outputs) -> None:
        """Outputs of consecutive views, counted over all clips; `first` is the first of them."""
        for i in range(len(outputs.logits)):
            index, view = divmod(first + i, self._views)
            parts = self._incomplete.setdefault(index, {})
            parts[view] = Outputs(outputs.logits[i : i + 1], outputs.features[i : i + 1])
            if len(parts) == self._views:
                del self._incomplete[index]
                in_order = [parts[v] for v in range(self._views)]
                self._on_clip(index, aggregate(in_order, self._averaging, views=self._views))


class RunningAverage:
    """What a video looks like while its clips come: their average, which ends as `Aggregate.probabilities`."""

    def __init__(self, averaging: Averaging) -> None:
        self._of_logits = averaging == "logits"
        self._sum: NDArray[np.float64] | float = 0.0
        self._count = 0

    def add(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [K] of one clip -> float32 [K] of all so far."""
        values = probabilities.astype(np.float64)
        if self._of_logits:
            # The logits of a clip but for a constant, which the softmax of their mean does not see.
            values = np.log(np.maximum(values, np.finfo(np.float32).tiny))
        self._sum = self._sum + values
        self._count += 1
        mean = np.asarray(self._sum / self._count, np.float32)
        return softmax(mean) if self._of_logits else mean


def top_classes(probabilities: NDArray[np.float32], labels: Sequence[str], k: int) -> tuple[ClassScore, ...]:
    """The k most probable classes of [K], the most probable first, equal ones by index."""
    order = np.argsort(-probabilities, kind="stable")[:k]
    return tuple(ClassScore(index=int(i), label=labels[i], score=float(probabilities[i])) for i in order)
