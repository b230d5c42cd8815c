"""Two evaluations of the same videos, compared video by video.

Paired, since two networks fail on much the same videos: of 200 videos an accuracy has a standard error of 3.5 points,
and the difference of two over the same videos has less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_training.evaluation.counting import confused_pairs
from tenclip_training.evaluation.results import Accuracy, EvaluationResult


@dataclass(frozen=True, kw_only=True)
class ClassGain:
    """Of `total` videos of a class, how many are right `before` and `after`."""

    label: str
    before: int
    after: int
    total: int

    @property
    def gain(self) -> float:
        """The difference of the two accuracies, from -1 to 1."""
        return (self.after - self.before) / self.total


@dataclass(frozen=True, kw_only=True)
class PairChange:
    """The confusion score of two classes before and after, see `confused_pairs`."""

    first: str
    second: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An evaluation (after) against an earlier one (before), over the `videos` that both have scored.

    only_before, only_after: videos of one of them alone, which are left out. gained: right after, wrong before; lost:
    the other way round. p_value: of McNemar's exact test, the chance of a difference at least as large where neither
    is better. classes: those with a video, the largest gain first (DistInit, figure 7). pairs: those whose confusion
    changed, the largest reduction first (OmniSource, section 5.2); () where videos have several labels.
    """

    before: str
    videos: int
    only_before: int
    only_after: int
    top1_before: Accuracy
    top1_after: Accuracy
    gained: int
    lost: int
    p_value: float
    classes: tuple[ClassGain, ...]
    pairs: tuple[PairChange, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "before": self.before,
            "videos": self.videos,
            "only_before": self.only_before,
            "only_after": self.only_after,
            "top1_before": self.top1_before.to_dict(),
            "top1_after": self.top1_after.to_dict(),
            "gained": self.gained,
            "lost": self.lost,
            "p_value": self.p_value,
            "classes": [{**asdict(c), "gain": c.gain} for c in self.classes],
            "pairs": [asdict(p) for p in self.pairs],
        }


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `tenclip evaluate --out` or `--json` wrote: its JSON, or the folder that holds it. Raises DatasetError."""
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        videos = {v["video"]: (list(v["labels"]), v["predicted"]) for v in values["videos"]}
        labels = list(values["labels"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        reason = err.strerror if isinstance(err, OSError) else f"no evaluation: {err!r}"
        raise DatasetError(f"{file}: cannot be compared with: {reason}") from err
    return {"title": str(values.get("title") or file), "labels": labels, "videos": videos}


def compare(result: EvaluationResult, before: Mapping[str, Any]) -> Comparison:
    """`result` against what `read_evaluation` gave. Raises DatasetError for other labels or no common video."""
    from scipy.stats import binomtest  # slow to import, and few evaluations are compared

    after = {s.name: ([result.labels[t] for t in s.targets], result.labels[s.predicted]) for s in result.scores}
    common = [name for name in after if name in before["videos"]]
    if set(before["labels"]) != set(result.labels):
        raise DatasetError(f"{before['title']}: has other classes, so it cannot be compared with")
    if not common:
        raise DatasetError(f"{before['title']}: has no video of this evaluation, so it cannot be compared with")
    changed = next((n for n in common if set(after[n][0]) != set(before["videos"][n][0])), None)
    if changed is not None:
        raise DatasetError(f"{before['title']}: {changed} has other labels there, so it cannot be compared with")
    truth = [after[name][0] for name in common]
    predictions = [before["videos"][name][1] for name in common], [after[name][1] for name in common]
    right = np.array([[p in labels for p, labels in zip(column, truth, strict=True)] for column in predictions])
    gained, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    return Comparison(
        before=before["title"],
        videos=len(common),
        only_before=len(before["videos"]) - len(common),
        only_after=len(after) - len(common),
        top1_before=Accuracy(correct=int(right[0].sum()), total=len(common)),
        top1_after=Accuracy(correct=int(right[1].sum()), total=len(common)),
        gained=gained,
        lost=lost,
        p_value=float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        classes=_class_gains(result.labels, truth, predictions),
        pairs=_pair_changes(result.labels, truth, predictions),
    )


def _class_gains(
    labels: Sequence[str], truth: Sequence[Sequence[str]], predictions: tuple[Sequence[str], Sequence[str]]
) -> tuple[ClassGain, ...]:
    gains = []
    for label in labels:
        of_class = [i for i, own in enumerate(truth) if label in own]
        before, after = (sum(column[i] == label for i in of_class) for column in predictions)
        if of_class:
            gains.append(ClassGain(label=label, before=before, after=after, total=len(of_class)))
    return tuple(sorted(gains, key=lambda g: -g.gain))


def _pair_changes(
    labels: Sequence[str], truth: Sequence[Sequence[str]], predictions: tuple[Sequence[str], Sequence[str]]
) -> tuple[PairChange, ...]:
    if any(len(own) != 1 for own in truth):
        return ()
    before, after = (_pair_scores(labels, [own[0] for own in truth], column) for column in predictions)
    changes = [
        PairChange(first=labels[i], second=labels[j], before=before.get((i, j), 0.0), after=after.get((i, j), 0.0))
        for i, j in sorted({*before, *after})
    ]
    return tuple(sorted((c for c in changes if c.before != c.after), key=lambda c: c.after - c.before))


def _pair_scores(labels: Sequence[str], truth: Sequence[str], predicted: Sequence[str]) -> dict[tuple[int, int], float]:
    index = {label: i for i, label in enumerate(labels)}
    confusion: NDArray[np.int64] = np.zeros((len(labels), len(labels)), np.int64)
    for own, other in zip(truth, predicted, strict=True):
        confusion[index[own], index[other]] += 1
    return {(i, j): score for i, j, score in confused_pairs(confusion)}
