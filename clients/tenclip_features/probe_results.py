"""Results of probes: one on one test split, or several that are averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tenclip_features.knn import KnnClassifier
from tenclip_features.linear import Probe
from tenclip_features.scores import Confusion, Predictions, Score, confusion

# What a probe is fitted on: each video's mean features, or each of its clips.
FitOn = Literal["videos", "clips"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeResult:
    """A fitted probe and how well it does on the test split.

    strength: C of a linear probe, k of nearest neighbours.
    mean_features: the probe on each video's mean features; mean_probabilities: the mean of its probabilities for each
    clip; clips: each clip by itself; chance: always the training split's most frequent class.
    Denominators: the split has `test_videos_asked` videos in the manifest, `test_videos` of them have features, the
    others are in `without_features`. cross_validation: (C or k, mean score over the folds) for each tried, the score
    being top-1 accuracy of the held-out rows, with several labels a video mean average precision. tuned_on: how many
    rows were held out for it once; None where folds were.
    predictions: of the mean features of each test video. name: the fold or the manifest, where there are several.
    """

    probe: Probe | KnnClassifier
    strength: float
    cross_validation: tuple[tuple[float, float], ...]
    tuned_on: int | None = None
    converged: bool
    fit_on: FitOn
    train_videos: int
    train_videos_asked: int
    test_videos: int
    test_videos_asked: int
    without_features: tuple[str, ...]
    mean_features: Score
    mean_probabilities: Score
    clips: Score
    chance: Score
    predictions: Predictions
    label_space: tuple[str, ...]
    name: str = ""

    @property
    def chosen(self) -> str:
        """What `strength` is: "C" of a linear probe, "k" of nearest neighbours."""
        return "k" if isinstance(self.probe, KnnClassifier) else "C"

    @property
    def confusion(self) -> Confusion | None:
        """Confusion matrix of the mean features; None where videos have several labels."""
        return None if self.probe.multi_label else confusion([self.predictions], self.label_space)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the weights."""
        metric = "mAP" if self.probe.multi_label else "top1"
        return {
            **({"name": self.name} if self.name else {}),
            "labels": list(self.probe.labels),
            "multi_label": self.probe.multi_label,
            "model": self.probe.model,
            "version": self.probe.version,
            "feature_dim": self.probe.feature_dim,
            **_classifier(self.probe),
            self.chosen: self.strength,
            "cross_validation": [{self.chosen: c, metric: v} for c, v in self.cross_validation],
            **({} if self.tuned_on is None else {"tuned_on": self.tuned_on}),
            "converged": self.converged,
            "fit_on": self.fit_on,
            "train_videos": self.train_videos,
            "train_videos_asked": self.train_videos_asked,
            "test_videos": self.test_videos,
            "test_videos_asked": self.test_videos_asked,
            "without_features": list(self.without_features),
            "video_mean_features": self.mean_features.to_dict(),
            "video_mean_probabilities": self.mean_probabilities.to_dict(),
            "clips": self.clips.to_dict(),
            "chance": self.chance.to_dict(),
            **({} if self.confusion is None else {"confusion": self.confusion.to_dict()}),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeRuns:
    """Several probes of one label set: the folds of a cross-validation, or the splits of a data set.

    without_features: videos of the manifests that the table does not have. final, final_strength: for a
    cross-validation, the probe that is fitted on all videos, and the C that it took.
    """

    kind: Literal["folds", "splits"]
    runs: tuple[ProbeResult, ...]
    without_features: tuple[str, ...] = ()
    final: Probe | KnnClassifier | None = None
    final_strength: float | None = None

    def mean(self, which: str, metric: str) -> float:
        """Mean over the runs. which: "mean_features", "mean_probabilities", "clips" or "chance"; metric: "top1", "top5"
        or "mean_average_precision"."""
        return float(np.mean(self._values(which, metric)))

    def std(self, which: str, metric: str) -> float:
        """Standard deviation over the runs, of the sample (n - 1)."""
        return float(np.std(self._values(which, metric), ddof=1))

    @property
    def confusion(self) -> Confusion | None:
        """Summed over the runs; None where videos have several labels."""
        first = self.runs[0]
        if first.probe.multi_label:
            return None
        space = tuple(dict.fromkeys(label for r in self.runs for label in r.label_space))
        return confusion([r.predictions for r in self.runs], space)

    def metrics(self) -> tuple[str, ...]:
        """The metrics that every run has."""
        return ("top1", "top5", *(("mean_average_precision",) if self.runs[0].probe.multi_label else ()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the weights."""
        names = {
            "video_mean_features": "mean_features",
            "video_mean_probabilities": "mean_probabilities",
            "clips": "clips",
            "chance": "chance",
        }

        def over(figure: Callable[[str, str], float]) -> dict[str, dict[str, float]]:
            shown = {"mean_average_precision": "mAP"}
            return {k: {shown.get(m, m): figure(v, m) for m in self.metrics()} for k, v in names.items()}

        return {
            self.kind: [r.to_dict() for r in self.runs],
            "mean": over(self.mean),
            "std": over(self.std),
            "without_features": list(self.without_features),
            **({} if self.final_strength is None else {self.runs[0].chosen: self.final_strength}),
            **({} if self.confusion is None else {"confusion": self.confusion.to_dict()}),
        }

    def _values(self, which: str, metric: str) -> list[float]:
        return [getattr(getattr(r, which), metric) for r in self.runs]


def _classifier(probe: Probe | KnnClassifier) -> dict[str, Any]:
    """What `to_dict` says of a classifier that is no linear probe."""
    return {"classifier": "knn", "temperature": probe.temperature} if isinstance(probe, KnnClassifier) else {}
