"""The fc-only linear probe: how much of a label set is in frozen features (IG-65M, "fc-only").

L2-regularised logistic regression on standardised features, its strength chosen by cross-validation over the training
videos. A probe is two files, without pickle: NAME.npz (the numbers) and NAME.json (labels and what was measured).

N rows, D features, K classes.
"""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from tenclip_api.errors import CheckpointError, DatasetError
from tenclip_data.manifest import Manifest
from tenclip_features.table import FeatureTable, LabelledClips, label_clips, mean_by_group

FORMAT = "tenclip-probe"
FORMAT_VERSION = 1
# Inverse strengths of the regularisation that cross-validation tries.
STRENGTHS = tuple(10.0**e for e in (-4, -3, -2, -1, 0, 1, 2))
MAX_ITERATIONS = 2000

# What a probe is fitted on: each video's mean features, or each of its clips.
FitOn = Literal["videos", "clips"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A linear classifier on standardised features.

    mean, scale: [D]; weights: [K,D]; bias: [K]. `model` and `version` say whose features it takes.
    """

    labels: tuple[str, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    model: str
    version: str

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N,D] -> [N,K]. Raises ValueError for features of another length."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"the probe takes [N,{len(self.mean)}], got {list(features.shape)}")
        standard = (features.astype(np.float32) - self.mean) / self.scale
        return np.asarray(softmax((standard @ self.weights.T + self.bias).astype(np.float32), axis=-1))


@dataclass(frozen=True, kw_only=True)
class Score:
    """Top-1 and top-5 hits among `total`."""

    top1_correct: int
    top5_correct: int
    total: int

    @property
    def top1(self) -> float:
        return self.top1_correct / self.total if self.total else math.nan

    @property
    def top5(self) -> float:
        return self.top5_correct / self.total if self.total else math.nan


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeResult:
    """A fitted probe and how well it does on the test split.

    `mean_features`: the probe on each video's mean features; `mean_probabilities`: the mean of its probabilities for
    each clip; `clips`: each clip by itself. `chance`: always answering the training split's most frequent class.
    Denominators: the split has `test_videos_asked` videos in the manifest, `test_videos` of them have features, the
    others are in `without_features`. `cross_validation`: (C, mean top-1 over the folds' videos) for each C tried.
    """

    probe: Probe
    strength: float
    cross_validation: tuple[tuple[float, float], ...]
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the weights."""

        def score(s: Score) -> dict[str, Any]:
            return {"top1": s.top1, "top5": s.top5, **asdict(s)}

        return {
            "labels": list(self.probe.labels),
            "model": self.probe.model,
            "version": self.probe.version,
            "feature_dim": len(self.probe.mean),
            "C": self.strength,
            "cross_validation": [{"C": c, "top1": v} for c, v in self.cross_validation],
            "converged": self.converged,
            "fit_on": self.fit_on,
            "train_videos": self.train_videos,
            "train_videos_asked": self.train_videos_asked,
            "test_videos": self.test_videos,
            "test_videos_asked": self.test_videos_asked,
            "without_features": list(self.without_features),
            "video_mean_features": score(self.mean_features),
            "video_mean_probabilities": score(self.mean_probabilities),
            "clips": score(self.clips),
            "chance": score(self.chance),
        }


def fit_probe(
    table: FeatureTable,
    manifest: Manifest,
    *,
    train_split: str = "train",
    test_split: str = "test",
    fit_on: FitOn = "videos",
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ProbeResult:
    """Fit on one split, count on the other. `strengths` are values of C; of one alone nothing is cross-validated.

    `progress` is called with (fits done, fits in all). Raises DatasetError when a split has no features, the training
    split has fewer than two classes or too few videos to cross-validate.
    """
    if fit_on not in get_args(FitOn):
        raise ValueError(f"fit_on {fit_on!r} is not one of {get_args(FitOn)}")
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"C must be positive, got {list(strengths)}")
    train, test = label_clips(table, manifest, train_split), label_clips(table, manifest, test_split)
    classes = tuple(label for label in manifest.labels if label in set(train.labels))
    if len(classes) < 2:
        raise DatasetError(
            f"{manifest.source}: split {train_split!r} has the class {classes[0]!r} only; a probe needs two"
        )
    rows, targets, groups = _rows(train, classes, fit_on)
    watch = _Watch(progress, 1 if len(strengths) == 1 else 1 + folds * len(strengths))
    table_of_c: tuple[tuple[float, float], ...] = ()
    strength = float(strengths[0])
    if len(strengths) > 1:
        table_of_c = _cross_validate(
            rows, targets, groups, len(classes), sorted(strengths), folds, seed, watch, manifest
        )
        # Of equally good ones the strongest regularisation.
        strength = max(table_of_c, key=lambda entry: (entry[1], -entry[0]))[0]
    fitted, converged = _fit(rows, targets, len(classes), strength)
    watch.tick()
    probe = Probe(labels=classes, model=table.model, version=table.version, **fitted)
    return ProbeResult(
        probe=probe,
        strength=strength,
        cross_validation=table_of_c,
        converged=converged,
        fit_on=fit_on,
        train_videos=len(train.names),
        train_videos_asked=train.videos_asked,
        test_videos=len(test.names),
        test_videos_asked=test.videos_asked,
        without_features=(*train.without_features, *test.without_features),
        **_scores(probe, train, test),
    )


def save_probe(path: Path | str, result: ProbeResult) -> tuple[Path, Path]:
    """Write PATH.npz and PATH.json (one of the suffixes may be there already); returns both. Raises CheckpointError."""
    numbers, facts = _paths(path)
    probe = result.probe
    try:
        numbers.parent.mkdir(parents=True, exist_ok=True)
        with numbers.open("wb") as f:
            np.savez(f, mean=probe.mean, scale=probe.scale, weights=probe.weights, bias=probe.bias)
        text = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **result.to_dict()}, indent=2)
        facts.write_text(text + "\n", encoding="utf-8")
    except OSError as err:
        raise CheckpointError(f"{numbers}: cannot be written: {err}") from err
    return numbers, facts


def load_probe(path: Path | str) -> Probe:
    """Read what `save_probe` wrote. Raises CheckpointError for anything else."""
    numbers, facts = _paths(path)
    try:
        values = json.loads(facts.read_text(encoding="utf-8"))
        if values.get("format") != FORMAT or values.get("format_version") != FORMAT_VERSION:
            raise CheckpointError(f"{facts}: not a {FORMAT} of version {FORMAT_VERSION}")
        with numbers.open("rb") as f, np.load(f, allow_pickle=False) as arrays:
            mean, scale, weights, bias = (arrays[k] for k in ("mean", "scale", "weights", "bias"))
        labels = tuple(values["labels"])
        probe = Probe(
            labels=labels,
            mean=mean,
            scale=scale,
            weights=weights,
            bias=bias,
            model=values["model"],
            version=values["version"],
        )
    except FileNotFoundError as err:
        raise CheckpointError(f"{err.filename}: no such file; a probe is a .npz and a .json") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as err:
        raise CheckpointError(f"{numbers}: not a probe, or damaged: {err}") from err
    num_classes, dim = len(labels), values.get("feature_dim")
    shapes = [a.shape for a in (mean, scale, weights, bias)]
    if shapes != [(dim,), (dim,), (num_classes, dim), (num_classes,)]:
        raise CheckpointError(f"{numbers}: arrays of {shapes} for {num_classes} labels and {dim} features")
    if not all(np.isfinite(a).all() for a in (mean, scale, weights, bias)):
        raise CheckpointError(f"{numbers}: holds values that are not finite")
    return probe


class _Watch:
    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))


def _rows(
    train: LabelledClips, classes: Sequence[str], fit_on: FitOn
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """(rows [N,D], their classes [N], the videos they belong to [N])."""
    of_video = np.array([classes.index(label) for label in train.labels])
    if fit_on == "videos":
        return train.video_features(), of_video, np.arange(len(of_video))
    return train.features, of_video[train.samples], train.samples


def _cross_validate(
    rows: NDArray[np.float32],
    targets: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_classes: int,
    strengths: Sequence[float],
    folds: int,
    seed: int,
    watch: _Watch,
    manifest: Manifest,
) -> tuple[tuple[float, float], ...]:
    """Mean accuracy of the held-out rows for each strength. Clips of one video are never on both sides."""
    videos_of_class = np.bincount(targets[np.unique(groups, return_index=True)[1]], minlength=num_classes)
    folds = min(folds, int(videos_of_class.max()))
    if folds < 2 or np.count_nonzero(videos_of_class > 1) < 2:
        raise DatasetError(
            f"{manifest.source}: too few training videos to choose C by cross-validation (at most "
            f"{videos_of_class.max()} of a class); give one C, or more videos"
        )
    with warnings.catch_warnings():
        # It warns of classes with fewer videos than folds; they are still spread as evenly as they can be.
        warnings.simplefilter("ignore", UserWarning)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        splits = list(splitter.split(rows, targets, groups))
    right = np.zeros(len(strengths))
    for fit, held in splits:
        for i, strength in enumerate(strengths):
            if len(np.unique(targets[fit])) > 1:
                fitted, _ = _fit(rows[fit], targets[fit], num_classes, strength)
                right[i] += np.sum(_logits(rows[held], fitted).argmax(axis=1) == targets[held])
            watch.tick()
    return tuple((float(c), float(r / len(rows))) for c, r in zip(strengths, right, strict=True))


def _fit(
    rows: NDArray[np.float32], targets: NDArray[np.int64], num_classes: int, strength: float
) -> tuple[dict[str, Any], bool]:
    """(mean, scale, weights and bias of a Probe; whether the solver converged)."""
    mean = rows.mean(axis=0, dtype=np.float64)
    scale = rows.std(axis=0, dtype=np.float64)
    scale[scale < 1e-8 * np.maximum(1, np.abs(mean))] = 1.0  # a feature that never varies tells nothing apart
    regression = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        regression.fit((rows - mean) / scale, targets)
    weights, bias = np.zeros((num_classes, rows.shape[1])), np.full(num_classes, -np.inf)
    if len(regression.classes_) == 2:
        # scikit-learn gives one sigmoid; a softmax of plus and minus half of it is the same.
        weights[regression.classes_] = np.stack([-regression.coef_[0] / 2, regression.coef_[0] / 2])
        bias[regression.classes_] = [-regression.intercept_[0] / 2, regression.intercept_[0] / 2]
    else:
        weights[regression.classes_], bias[regression.classes_] = regression.coef_, regression.intercept_
    arrays = {"mean": mean, "scale": scale, "weights": weights, "bias": bias}
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return {name: array.astype(np.float32) for name, array in arrays.items()}, converged


def _logits(rows: NDArray[np.float32], fitted: dict[str, Any]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = (rows - fitted["mean"]) / fitted["scale"] @ fitted["weights"].T + fitted["bias"]
    return logits


def _scores(probe: Probe, train: LabelledClips, test: LabelledClips) -> dict[str, Score]:
    index = {label: i for i, label in enumerate(probe.labels)}
    truth = np.array([index.get(label, -1) for label in test.labels])  # -1: a class that training never saw
    of_clips = probe.probabilities(test.features)
    frequent = np.bincount([index[label] for label in train.labels], minlength=len(index)).astype(np.float32)
    return {
        "mean_features": _score(probe.probabilities(test.video_features()), truth),
        "mean_probabilities": _score(mean_by_group(of_clips, test.samples, len(test.names)), truth),
        "clips": _score(of_clips, truth[test.samples]),
        "chance": _score(np.tile(frequent, (len(truth), 1)), truth),
    }


def _score(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Score:
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = order[:, :5] == truth[:, None]
    return Score(top1_correct=int(hits[:, 0].sum()), top5_correct=int(hits.any(axis=1).sum()), total=len(truth))


def _paths(path: Path | str) -> tuple[Path, Path]:
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".npz", ".json") else path
    return stem.with_name(stem.name + ".npz"), stem.with_name(stem.name + ".json")
