"""Verbs, nouns and actions (EPIC-KITCHENS): an action is a verb with a noun, its score the product of theirs.

The products are taken over the pairs that training has seen, or over all of them; the IG-65M paper does not say which
(section 3.2). N videos; V verbs, W nouns, M pairs. "Verb" and "noun" stand for any two heads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_features.scores import MeanAveragePrecision, average_precisions
from tenclip_training.evaluation.counting import rank
from tenclip_training.evaluation.results import Accuracy

MANY_SHOT = 100  # EPIC-KITCHENS: a class of more training videos is many-shot
Pair = tuple[int, int]  # a verb and a noun, as indices


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskScores:
    """Scores [N,V] of one head, true classes [N], and how many training videos each class has, [V]; None if unknown."""

    name: str
    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    targets: NDArray[np.int64]
    in_training: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class ManyShot:
    """Means over the many-shot classes that some video has (Damen et al. 2018).

    classes: many-shot ones, by training videos; classes_counted: those of them with a video here, over which the means
    are taken. Precision of a class that is never predicted is 0.
    """

    more_than: int
    classes: int
    classes_counted: int
    mean_precision: float | None
    mean_recall: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "more_than": self.more_than,
            "classes": self.classes,
            "classes_counted": self.classes_counted,
            "mean_precision": self.mean_precision,
            "mean_recall": self.mean_recall,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskResult:
    """Figures of verbs, of nouns or of actions, all of videos. predicted: the best class of each video, [N].

    many_shot: None where nothing is known of the training videos.
    """

    name: str
    classes: int
    top1: Accuracy
    top5: Accuracy
    mean_average_precision: MeanAveragePrecision
    many_shot: ManyShot | None
    predicted: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the predictions."""
        return {
            "classes": self.classes,
            "top1": self.top1.to_dict(),
            "top5": self.top5.to_dict(),
            "mAP": self.mean_average_precision.to_dict(),
            "many_shot": None if self.many_shot is None else self.many_shot.to_dict(),
        }


def count_task(task: TaskScores, *, more_than: int = MANY_SHOT) -> TaskResult:
    """The figures of one head."""
    truth = task.targets[:, None] == np.arange(len(task.labels))
    ranks = [rank(row, int(target)) for row, target in zip(task.scores, task.targets, strict=True)]
    predicted = task.scores.argmax(axis=1).astype(np.int64)
    many = None if task.in_training is None else np.flatnonzero(task.in_training > more_than)
    return TaskResult(
        name=task.name,
        classes=len(task.labels),
        top1=_within(ranks, 1),
        top5=_within(ranks, 5),
        mean_average_precision=MeanAveragePrecision.of(average_precisions(task.scores, truth), rows=len(truth)),
        many_shot=None if many is None else _many_shot(task.targets, predicted, many, more_than),
        predicted=predicted,
    )


def count_actions(
    verb: TaskScores,
    noun: TaskScores,
    pairs: Sequence[Pair],
    *,
    in_training: Mapping[Pair, int] | None = None,
    more_than: int = MANY_SHOT,
    name: str = "action",
) -> TaskResult:
    """The figures of actions. pairs: the actions that can be predicted, in the order in which equal ones come first.

    in_training: training videos of each pair, where they are known. An action is many-shot when its verb and its noun
    are and training has it at all (EPIC-KITCHENS' EPIC_many_shot_actions.csv).
    A video whose action is none of `pairs` is wrong, and its action counts in the mean average precision with what
    chance gives. `predicted` are indices into `pairs`.
    """
    place = {pair: i for i, pair in enumerate(pairs)}
    verbs, nouns = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    true = [(int(v), int(n)) for v, n in zip(verb.targets, noun.targets, strict=True)]
    ranks, predicted = [], []
    for v, n, pair in zip(verb.scores, noun.scores, true, strict=True):
        products = v[verbs].astype(np.float64) * n[nouns]  # [M]
        predicted.append(int(products.argmax()))
        ranks.append(rank(products, place[pair]) if pair in place else len(pairs))
    best = np.array(predicted, np.int64)
    return TaskResult(
        name=name,
        classes=len(pairs),
        top1=_within(ranks, 1, wrong=len(pairs)),
        top5=_within(ranks, 5, wrong=len(pairs)),
        mean_average_precision=_precision_of_actions(verb, noun, true, place),
        many_shot=_many_shot_actions(verb, noun, true, best, pairs, in_training, more_than),
        predicted=best,
    )


def _within(ranks: Sequence[int], k: int, *, wrong: int | None = None) -> Accuracy:
    """wrong: the rank of what cannot be right, however few classes there are."""
    return Accuracy(correct=sum(r < k and r != wrong for r in ranks), total=len(ranks))


def _precision_of_actions(
    verb: TaskScores, noun: TaskScores, true: Sequence[Pair], place: Mapping[Pair, int]
) -> MeanAveragePrecision:
    """Only actions with a video need their scores, so that all pairs need no matrix [N,V*W]."""
    present = {pair: i for i, pair in enumerate(dict.fromkeys(true))}
    scores = np.zeros((len(true), len(present)), np.float32)
    for (v, n), i in present.items():
        if (v, n) in place:
            scores[:, i] = verb.scores[:, v] * noun.scores[:, n]
    truth = np.array([present[pair] for pair in true])[:, None] == np.arange(len(present))
    precisions = average_precisions(scores, truth)
    absent = np.full(len(set(place) - set(present)), np.nan)
    return MeanAveragePrecision.of(np.concatenate([precisions, absent]), rows=len(true))


def _many_shot_actions(
    verb: TaskScores,
    noun: TaskScores,
    true: Sequence[Pair],
    predicted: NDArray[np.int64],
    pairs: Sequence[Pair],
    in_training: Mapping[Pair, int] | None,
    more_than: int,
) -> ManyShot | None:
    if in_training is None or verb.in_training is None or noun.in_training is None:
        return None
    many = [
        pair
        for pair, count in in_training.items()
        if count and verb.in_training[pair[0]] > more_than and noun.in_training[pair[1]] > more_than
    ]
    width = len(noun.labels)  # an action as one number

    def number(pair: Pair) -> int:
        return pair[0] * width + pair[1]

    return _many_shot(
        np.array([number(pair) for pair in true], np.int64),
        np.array([number(pairs[i]) for i in predicted], np.int64),
        np.array([number(pair) for pair in many], np.int64),
        more_than,
    )


def _many_shot(
    targets: NDArray[np.int64], predicted: NDArray[np.int64], many: NDArray[np.int64], more_than: int
) -> ManyShot:
    counted = np.intersect1d(many, targets)
    precision = recall = None
    if len(counted):
        from sklearn.metrics import precision_recall_fscore_support  # slow to import, and few datasets get here

        precisions, recalls, _, _ = precision_recall_fscore_support(
            targets, predicted, labels=counted, average=None, zero_division=0
        )
        precision, recall = float(precisions.mean()), float(recalls.mean())
    return ManyShot(
        more_than=more_than,
        classes=len(many),
        classes_counted=len(counted),
        mean_precision=precision,
        mean_recall=recall,
    )


def count_pairs(labels: Sequence[tuple[str, str]], verbs: Sequence[str], nouns: Sequence[str]) -> Counter[Pair]:
    """How many training videos have each pair; classes that the model does not know are left out."""
    verb_index, noun_index = ({label: i for i, label in enumerate(names)} for names in (verbs, nouns))
    return Counter((verb_index[v], noun_index[n]) for v, n in labels if v in verb_index and n in noun_index)
