"""Linear probes: how much of a label set is in frozen features (IG-65M, "fc-only").

L2-regularised logistic regression on standardised features; its strength is chosen by cross-validation over the
training videos. Three ways to count:

    fit_probe              one split is fitted on, another is counted on
    average_splits         the same for several manifests of one data set (UCF-101, HMDB-51), averaged
    cross_validate_probe   every video is held out once; no split is needed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest
from tenclip_data.samples import place
from tenclip_features.folds import group_folds, group_numbers, strata_of
from tenclip_features.join import LabelledClips, label_clips, mean_by_group
from tenclip_features.linear import Linear, Probe, fit_linear
from tenclip_features.scores import Confusion, Predictions, Score, confusion, mean_average_precision, score
from tenclip_features.table import FeatureTable

# Inverse strengths of the regularisation that cross-validation tries.
STRENGTHS = tuple(10.0**e for e in (-4, -3, -2, -1, 0, 1, 2))

# What a probe is fitted on: each video's mean features, or each of its clips.
FitOn = Literal["videos", "clips"]
# Called with (fits done, fits in all).
OnFit = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeResult:
    """A fitted probe and how well it does on the test split.

    mean_features: the probe on each video's mean features; mean_probabilities: the mean of its probabilities for each
    clip; clips: each clip by itself; chance: always the training split's most frequent class.
    Denominators: the split has `test_videos_asked` videos in the manifest, `test_videos` of them have features, the
    others are in `without_features`. cross_validation: (C, mean score over the folds) for each C tried, the score being
    top-1 accuracy of the held-out rows, with several labels a video mean average precision.
    predictions: of the mean features of each test video. name: the fold or the manifest, where there are several.
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
    predictions: Predictions
    label_space: tuple[str, ...]
    name: str = ""

    @property
    def confusion(self) -> Confusion | None:
        """Of the mean features; None where videos have several labels."""
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
            "feature_dim": len(self.probe.mean),
            "C": self.strength,
            "cross_validation": [{"C": c, metric: v} for c, v in self.cross_validation],
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
    final: Probe | None = None
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
            **({} if self.final_strength is None else {"C": self.final_strength}),
            **({} if self.confusion is None else {"confusion": self.confusion.to_dict()}),
        }

    def _values(self, which: str, metric: str) -> list[float]:
        return [getattr(getattr(r, which), metric) for r in self.runs]


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
    group_column: str | None = None,
    multi_label: bool | None = None,
    progress: OnFit | None = None,
) -> ProbeResult:
    """Fit on one split, count on the other.

    strengths: values of C; of one alone nothing is cross-validated. group_column: the column of the manifest that says
    which videos belong together (of one source, one person): these are never on both sides of a fold, and it is an
    error where they are in both splits. multi_label: None where the manifest decides (some video has several labels).
    Raises DatasetError when a split has no features, the training split has fewer than two classes or too few videos to
    cross-validate, and ValueError for settings that make no sense.

    ::

        table = read_feature_table(["f.parquet"])
        result = fit_probe(table, read_manifest("labels.csv"), test_split="val")
        print(result.mean_features.top1, result.strength)
    """
    task = _task(manifest, fit_on, strengths, folds, seed, multi_label)
    train = label_clips(table, manifest, train_split, group_column=group_column)
    test = label_clips(table, manifest, test_split, group_column=group_column)
    if group_column is not None:
        _check_groups_apart(manifest, train, test, (train_split, test_split))
    watch = _Watch(progress, task.num_fits)
    return _fit_and_count(table, task, train, test, watch, where=f"split {train_split!r}")


def average_splits(
    table: FeatureTable,
    manifests: Sequence[Manifest],
    *,
    test_splits: Sequence[str],
    progress: OnFit | None = None,
    **settings: Any,
) -> ProbeRuns:
    """`fit_probe` for each manifest, e.g. the three lists of UCF-101. `settings` are its other arguments."""
    runs = []
    for number, (manifest, test_split) in enumerate(zip(manifests, test_splits, strict=True)):

        def tick(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, len(manifests) * total)

        result = fit_probe(table, manifest, test_split=test_split, progress=tick, **settings)
        runs.append(_named(result, str(manifest.source)))
    without = dict.fromkeys(name for r in runs for name in r.without_features)
    return ProbeRuns(kind="splits", runs=tuple(runs), without_features=tuple(without))


def cross_validate_probe(
    table: FeatureTable,
    manifest: Manifest,
    *,
    cv: int = 5,
    split: str | None = None,
    fit_on: FitOn = "videos",
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    seed: int = 0,
    group_column: str | None = None,
    multi_label: bool | None = None,
    progress: OnFit | None = None,
) -> ProbeRuns:
    """Hold every video out once, in `cv` folds; then fit a probe on all of them.

    split: use the videos of this split alone. Within each fold C is chosen by cross-validation of the videos that are
    fitted on (`folds`), so that no held-out video has a say in it. For the other arguments and errors see `fit_probe`.
    """
    if cv < 2:
        raise ValueError(f"cross-validation needs 2 folds or more, got {cv}")
    task = _task(manifest, fit_on, strengths, folds, seed, multi_label)
    clips = label_clips(table, manifest, split, group_column=group_column)
    everything = _targets(clips.labels, _classes(task, clips, "the manifest"))
    try:
        splits = group_folds(strata_of(everything), group_numbers(clips.groups), cv, seed=seed)
    except ValueError as err:
        what = "videos" if group_column is None else f"groups of column {group_column!r}"
        raise DatasetError(f"{manifest.source}: {str(err).replace('groups', what, 1)}; give a smaller --cv") from None
    watch = _Watch(progress, (cv + 1) * task.num_fits)
    runs = []
    for number, (fitted, held) in enumerate(splits, start=1):
        where = f"fold {number} of {cv}"
        result = _fit_and_count(table, task, clips.select(fitted), clips.select(held), watch, where=where)
        runs.append(_named(result, where))
    # Counted on nothing new: what it is worth is what the folds say.
    final = _fit_and_count(table, task, clips, clips, watch, where="the manifest")
    return ProbeRuns(
        kind="folds",
        runs=tuple(runs),
        without_features=clips.without_features,
        final=final.probe,
        final_strength=final.strength,
    )


@dataclass(frozen=True, kw_only=True)
class _Task:
    manifest: Manifest
    fit_on: FitOn
    strengths: tuple[float, ...]
    folds: int
    seed: int
    multi_label: bool

    @property
    def num_fits(self) -> int:
        return 1 if len(self.strengths) == 1 else 1 + self.folds * len(self.strengths)


def _task(
    manifest: Manifest,
    fit_on: FitOn,
    strengths: Sequence[float],
    folds: int,
    seed: int,
    multi_label: bool | None,
) -> _Task:
    if fit_on not in get_args(FitOn):
        raise ValueError(f"fit_on {fit_on!r} is not one of {get_args(FitOn)}")
    if not strengths or not all(0 < c < np.inf for c in strengths):
        raise ValueError(f"C must be positive and finite, got {list(strengths)}")
    if folds < 2 and len(strengths) > 1:
        raise ValueError(f"choosing C by cross-validation needs 2 folds or more, got {folds}")
    if multi_label is None:
        multi_label = manifest.multi_label
    for sample in () if multi_label else manifest.samples:
        if len(sample.labels) != 1:
            raise DatasetError(
                f"{place(manifest.source, sample)}: has labels {', '.join(sample.labels)}; "
                "a probe of single labels needs one for each video"
            )
    return _Task(
        manifest=manifest,
        fit_on=fit_on,
        strengths=tuple(sorted(set(strengths))),
        folds=folds,
        seed=seed,
        multi_label=multi_label,
    )


def _fit_and_count(
    table: FeatureTable, task: _Task, train: LabelledClips, test: LabelledClips, watch: _Watch, *, where: str
) -> ProbeResult:
    classes = _classes(task, train, where)
    rows, targets, groups = _rows(train, classes, task.fit_on)
    grid: tuple[tuple[float, float], ...] = ()
    strength = task.strengths[0]
    if len(task.strengths) > 1:
        grid = _cross_validate(rows, targets, groups, task, watch)
        # Of equally good ones the strongest regularisation.
        strength = max(grid, key=lambda entry: (entry[1], -entry[0]))[0]
    fitted = fit_linear(rows, targets, strength, multi_label=task.multi_label)
    watch.tick()
    probe = _probe(table, classes, fitted, task.multi_label)
    probabilities = probe.probabilities(test.video_features())
    scores = _scores(probe, probabilities, train, test)
    return ProbeResult(
        probe=probe,
        strength=strength,
        cross_validation=grid,
        converged=fitted.converged,
        fit_on=task.fit_on,
        train_videos=len(train.names),
        train_videos_asked=train.videos_asked,
        test_videos=len(test.names),
        test_videos_asked=test.videos_asked,
        without_features=tuple(dict.fromkeys((*train.without_features, *test.without_features))),
        mean_features=scores["mean_features"],
        mean_probabilities=scores["mean_probabilities"],
        clips=scores["clips"],
        chance=scores["chance"],
        predictions=Predictions(names=test.names, truth=test.labels, labels=classes, probabilities=probabilities),
        label_space=task.manifest.labels,
    )


def _named(result: ProbeResult, name: str) -> ProbeResult:
    return replace(result, name=name, predictions=replace(result.predictions, fold=name))


def _classes(task: _Task, clips: LabelledClips, where: str) -> tuple[str, ...]:
    """The classes of the clips, in the order of the manifest's label space. Raises DatasetError for fewer than two."""
    present = {label for labels in clips.labels for label in labels}
    classes = tuple(label for label in task.manifest.labels if label in present)
    if len(classes) < 2:
        raise DatasetError(f"{task.manifest.source}: {where} has the class {classes[0]!r} only; a probe needs two")
    return classes


def _probe(table: FeatureTable, classes: tuple[str, ...], fitted: Linear, multi_label: bool) -> Probe:
    return Probe(
        labels=classes,
        mean=fitted.mean,
        scale=fitted.scale,
        weights=fitted.weights,
        bias=fitted.bias,
        model=table.model,
        version=table.version,
        model_weights=table.weights,
        multi_label=multi_label,
    )


def _targets(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> NDArray[np.bool_]:
    """[N,K]: which of the classes each sample has."""
    index = {label: k for k, label in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), bool)
    for row, names in enumerate(labels):
        targets[row, [index[name] for name in names if name in index]] = True
    return targets


def _rows(
    clips: LabelledClips, classes: Sequence[str], fit_on: FitOn
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    """(rows [N,D], their targets [N,K], the groups that they belong to [N])."""
    targets, groups = _targets(clips.labels, classes), group_numbers(clips.groups)
    if fit_on == "videos":
        return clips.video_features(), targets, groups
    return clips.features, targets[clips.samples], groups[clips.samples]


def _cross_validate(
    rows: NDArray[np.float32],
    targets: NDArray[np.bool_],
    groups: NDArray[np.int64],
    task: _Task,
    watch: _Watch,
) -> tuple[tuple[float, float], ...]:
    """The mean score of the held-out rows for each strength. A group is never on both sides."""
    groups_of_class = [len(np.unique(groups[of_class])) for of_class in targets.T]
    folds = min(task.folds, max(groups_of_class))
    if folds < 2 or sum(n > 1 for n in groups_of_class) < 2:
        raise DatasetError(
            f"{task.manifest.source}: too few training videos to choose C by cross-validation (at most "
            f"{max(groups_of_class)} of a class, counted by file or group); give one C, or more videos"
        )
    total = np.zeros(len(task.strengths))
    for fit, held in group_folds(strata_of(targets), groups, folds, seed=task.seed):
        enough = np.count_nonzero(targets[fit].any(axis=0)) > 1
        for i, strength in enumerate(task.strengths):
            if enough:
                fitted = fit_linear(rows[fit], targets[fit], strength, multi_label=task.multi_label)
                total[i] += _held_out_score(fitted.logits(rows[held]), targets[held], task.multi_label)
            watch.tick()
    return tuple((float(c), float(t / len(rows))) for c, t in zip(task.strengths, total, strict=True))


def _held_out_score(logits: NDArray[np.float32], truth: NDArray[np.bool_], multi_label: bool) -> float:
    """Top-1 accuracy or mean average precision, times the number of rows."""
    if multi_label:
        return mean_average_precision(logits, truth) * len(truth)
    return float(np.sum(truth[np.arange(len(truth)), logits.argmax(axis=1)]))


def _scores(
    probe: Probe, probabilities: NDArray[np.float32], train: LabelledClips, test: LabelledClips
) -> dict[str, Score]:
    unknown = {label for labels in test.labels for label in labels} - set(probe.labels)
    truth = _targets(test.labels, (*probe.labels, *sorted(unknown)))
    of_clips = probe.probabilities(test.features)
    frequent = _targets(train.labels, probe.labels).mean(axis=0, dtype=np.float32)

    def count(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> Score:
        return score(scores, truth, multi_label=probe.multi_label)

    return {
        "mean_features": count(probabilities, truth),
        "mean_probabilities": count(mean_by_group(of_clips, test.samples, len(test.names)), truth),
        "clips": count(of_clips, truth[test.samples]),
        "chance": count(np.tile(frequent, (len(truth), 1)), truth),
    }


def _check_groups_apart(manifest: Manifest, train: LabelledClips, test: LabelledClips, splits: tuple[str, str]) -> None:
    trained = dict(zip(train.groups, train.names, strict=True))
    for group, name in zip(test.groups, test.names, strict=True):
        if group in trained:
            raise DatasetError(
                f"{manifest.source}: group {group!r} has videos in both {splits[0]!r} ({trained[group]}) and "
                f"{splits[1]!r} ({name}); use splits that keep groups apart, or --cv N, which does"
            )


class _Watch:
    def __init__(self, progress: OnFit | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))
