"""From the scores of videos to accuracies, confusion, loss and calibration.

K classes, C clips of a video.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Manifest
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.calibration import calibrate
from tenclip_training.evaluation.results import Accuracy, EvaluationResult, VideoScore, truth_of
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.heads import Heads
from tenclip_video.protocols import Activation

_SMALLEST = 1e-12  # scores below count as this in logarithms


def summarise(
    outcomes: Iterable[VideoScore | Failure],
    manifest: Manifest,
    *,
    split: str,
    protocol: str,
    scoring: Scoring | None = None,
) -> EvaluationResult:
    """Count. scoring: how the scores were made, one softmax where it is None. Raises DatasetError when nothing was
    scored."""
    scoring = scoring or Scoring()
    outcomes = list(outcomes)
    scores = sorted((o for o in outcomes if isinstance(o, VideoScore)), key=lambda s: s.index)
    skipped = tuple(o for o in outcomes if isinstance(o, Failure))
    if not scores:
        first = f" The first: {skipped[0].message} ({skipped[0].reason})" if skipped else ""
        raise DatasetError(f"{manifest.source}: none of {len(skipped)} videos of split {split!r} could be used.{first}")
    num_classes, heads = len(manifest.labels), scoring.heads
    clip_ranks = ranks_of(((c, s.targets) for s in scores for c in s.clips), heads)
    video_ranks = ranks_of(((s.video, s.targets) for s in scores), heads)
    truth = truth_of(tuple(scores), num_classes)
    single_label = heads is None and all(len(s.targets) == 1 for s in scores)
    return EvaluationResult(
        split=split,
        protocol=protocol,
        labels=manifest.labels,
        videos_asked=len(outcomes),
        videos_decoded=len(scores),
        skipped=skipped,
        clip_top1=within(clip_ranks, 1),
        clip_top5=within(clip_ranks, 5),
        video_top1=within(video_ranks, 1),
        video_top5=within(video_ranks, 5),
        per_class=_per_class(scores, num_classes, heads),
        confusion=_confusion(scores, num_classes) if single_label else None,
        loss=_loss(scores, truth, scoring.activation, heads),
        calibration=None if heads else calibrate(np.stack([s.video for s in scores]), truth, scoring.activation),
        activation=scoring.activation,
        heads=heads,
        scores=tuple(scores),
    )


Scored = tuple[NDArray[np.float32], tuple[int, ...]]  # scores [K] and the true classes


def ranks_of(scored: Iterable[Scored], heads: Heads | None) -> list[int]:
    """The rank of the best true class of each item, from 0; with heads that of the true classes together."""
    if heads is not None:
        return [_rank_of_heads(heads, scores, targets) for scores, targets in scored]
    return [min((rank(scores, t) for t in targets), default=len(scores)) for scores, targets in scored]


def within(ranks: Sequence[int], k: int) -> Accuracy:
    """How many of the ranks are among the first k."""
    return Accuracy(correct=sum(r < k for r in ranks), total=len(ranks))


def rank(scores: NDArray[Any], place: int) -> int:
    """How many of the scores [K] come before the one at `place`: the higher ones, and equal ones that stand before.

    A score that is not a number comes after all others.
    """
    own = scores[place]
    if np.isnan(own):
        return len(scores)
    return int(np.count_nonzero(scores > own) + np.count_nonzero(scores[:place] == own))


def _rank_of_heads(heads: Heads, scores: NDArray[np.float32], targets: tuple[int, ...]) -> int:
    """A combination's score is the product of its classes' scores: for a verb and a noun, that of the action."""
    products = functools.reduce(np.multiply.outer, [p.astype(np.float64) for p in heads.split(scores)])
    own = [next(t - h.start for t in targets if h.start <= t < h.stop) for h in heads.heads]
    return rank(products.ravel(), int(np.ravel_multi_index(own, products.shape)))


def _per_class(scores: Sequence[VideoScore], num_classes: int, heads: Heads | None) -> tuple[Accuracy, ...]:
    """Videos that have the class, and how many of them the model puts into it."""
    correct, total = [0] * num_classes, [0] * num_classes
    for score in scores:
        if heads is None:
            predicted = {score.predicted}
        else:
            predicted = {h.start + int(score.video[h.outputs].argmax()) for h in heads.heads}
        for target in score.targets:
            total[target] += 1
            correct[target] += target in predicted
    return tuple(Accuracy(correct=c, total=n) for c, n in zip(correct, total, strict=True))


def _confusion(scores: Sequence[VideoScore], num_classes: int) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((num_classes, num_classes), np.int64)
    for score in scores:
        counts[score.targets[0], score.predicted] += 1
    return tuple(tuple(int(n) for n in row) for row in counts)


def _loss(scores: Sequence[VideoScore], truth: NDArray[np.bool_], activation: Activation, heads: Heads | None) -> float:
    values = np.stack([s.video for s in scores]).astype(np.float64)
    if activation == "sigmoid":
        return float(-np.log(np.where(truth, values, 1 - values).clip(_SMALLEST)).mean())
    logs = -np.log(values.clip(_SMALLEST))
    totals = (logs * truth).sum(axis=1)
    return float((totals if heads else totals / truth.sum(axis=1)).mean())


def confused_pairs(confusion: NDArray[np.int64]) -> list[tuple[int, int, float]]:
    """Pairs of classes (i, j) with i < j and their confusion score, the most confused first; those at 0 are left out.

    s = (n_ij + n_ji) / (n_ij + n_ji + n_ii + n_jj), for a confusion matrix [K,K] (OmniSource, section 5.2).

    >>> confused_pairs(np.array([[40, 8], [12, 40]]))
    [(0, 1, 0.2)]
    """
    crossed = confusion + confusion.T
    right = np.diag(confusion)
    first, second = np.nonzero(np.triu(crossed, k=1))
    scores = crossed[first, second] / (crossed[first, second] + right[first] + right[second])
    order = np.lexsort((second, first, -scores))
    return [(int(first[i]), int(second[i]), float(scores[i])) for i in order]
