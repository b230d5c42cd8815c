"""Linear probes: how much of a label set is in frozen features (IG-65M, "fc-only"). Nearest neighbours beside them.

L2-regularised logistic regression on standardised features, or votes of the nearest training rows (`knn`). The strength
of the regularisation, or k, is chosen by cross-validation over the training videos, or on a part of them. Three ways to
count:

    fit_probe              one split is fitted on, another is counted on
    average_splits         the same for several manifests of one data set (UCF-101, HMDB-51), averaged
    cross_validate_probe   every video is held out once; no split is needed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest
from tenclip_data.samples import place
from tenclip_features.folds import group_folds, group_numbers, strata_of
from tenclip_features.join import LabelledClips, label_clips, mean_by_group
from tenclip_features.knn import KnnClassifier, KnnSettings, knn_grid_scores, unit_rows
from tenclip_features.linear import Probe, fit_linear
from tenclip_features.probe_results import FitOn, ProbeResult, ProbeRuns
from tenclip_features.scores import Predictions, Score, score
from tenclip_features.table import FeatureTable
from tenclip_features.tuning import grid_scores, tuning_folds

# Inverse strengths of the regularisation that cross-validation tries.
STRENGTHS = tuple(10.0**e for e in (-4, -3, -2, -1, 0, 1, 2))

# Called with (fits done, fits in all).
OnFit = Callable[[int, int], None]


def fit_probe(
    table: FeatureTable,
    manifest: Manifest,
    *,
    train_split: str = "train",
    test_split: str = "test",
    fit_on: FitOn = "videos",
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    tune_on: float | None = None,
    seed: int = 0,
    group_column: str | None = None,
    multi_label: bool | None = None,
    knn: KnnSettings | None = None,
    progress: OnFit | None = None,
) -> ProbeResult:
    """Fit on one split, count on the other.

    strengths: values of C; of one alone nothing is chosen. folds: of the cross-validation that chooses. tune_on: choose
    on this part of the training videos instead, held out once (IG-65M, section 4: a tenth); the probe is then fitted on
    all of them. group_column: the column of the manifest that says
    which videos belong together (of one source, one person): these are never on both sides of a fold, and it is an
    error where they are in both splits. multi_label: None where the manifest decides (some video has several labels).
    knn: votes of the nearest training rows in the place of a linear probe; k is chosen in the place of C.
    Raises DatasetError when a split has no features, the training split has fewer than two classes or too few videos to
    cross-validate, and ValueError for settings that make no sense.

    ::

        table = read_feature_table(["f.parquet"])
        result = fit_probe(table, read_manifest("labels.csv"), test_split="val")
        print(result.mean_features.top1, result.strength)
    """
    task = _task(manifest, fit_on, strengths, folds, tune_on, seed, multi_label, knn)
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
    tune_on: float | None = None,
    seed: int = 0,
    group_column: str | None = None,
    multi_label: bool | None = None,
    knn: KnnSettings | None = None,
    progress: OnFit | None = None,
) -> ProbeRuns:
    """Hold every video out once, in `cv` folds; then fit a probe on all of them.

    split: use the videos of this split alone. Within each fold C is chosen by cross-validation of the videos that are
    fitted on (`folds`), so that no held-out video has a say in it. For the other arguments and errors see `fit_probe`.
    """
    if cv < 2:
        raise ValueError(f"cross-validation needs 2 folds or more, got {cv}")
    task = _task(manifest, fit_on, strengths, folds, tune_on, seed, multi_label, knn)
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
    tune_on: float | None
    seed: int
    multi_label: bool
    knn: KnnSettings | None = None

    @property
    def num_fits(self) -> int:
        each = self.folds if self.tune_on is None else 1
        return 1 if len(self.strengths) == 1 else 1 + each * len(self.strengths)


def _task(
    manifest: Manifest,
    fit_on: FitOn,
    strengths: Sequence[float],
    folds: int,
    tune_on: float | None,
    seed: int,
    multi_label: bool | None,
    knn: KnnSettings | None,
) -> _Task:
    if knn is not None:
        strengths = [float(k) for k in knn.neighbours]
    if fit_on not in get_args(FitOn):
        raise ValueError(f"fit_on {fit_on!r} is not one of {get_args(FitOn)}")
    if not strengths or not all(0 < c < np.inf for c in strengths):
        raise ValueError(f"C must be positive and finite, got {list(strengths)}")
    if tune_on is not None and not 0 < tune_on <= 0.5:
        raise ValueError(f"tune_on is a part of the training videos above 0 and up to 0.5, got {tune_on}")
    if tune_on is None and folds < 2 and len(strengths) > 1:
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
        tune_on=tune_on,
        seed=seed,
        multi_label=multi_label,
        knn=None if knn is None else replace(knn, neighbours=tuple(sorted(set(knn.neighbours)))),
    )


def _fit_and_count(
    table: FeatureTable, task: _Task, train: LabelledClips, test: LabelledClips, watch: _Watch, *, where: str
) -> ProbeResult:
    classes = _classes(task, train, where)
    rows, targets, groups = _rows(train, classes, task.fit_on)
    grid: tuple[tuple[float, float], ...] = ()
    strength = task.strengths[0]
    tuned_on = None
    if len(task.strengths) > 1:
        folds = tuning_folds(
            *(targets, groups), folds=task.folds, tune_on=task.tune_on, seed=task.seed, source=task.manifest.source
        )
        tuned_on = None if task.tune_on is None else len(folds[0][1])
        if task.knn is None:
            grid = grid_scores(rows, targets, folds, task.strengths, multi_label=task.multi_label, tick=watch.tick)
        else:
            grid = knn_grid_scores(rows, targets, folds, task.knn, multi_label=task.multi_label, tick=watch.tick)
        # Of equally good ones the strongest regularisation, or the fewest neighbours.
        strength = max(grid, key=lambda entry: (entry[1], -entry[0]))[0]
    probe, converged = _fit(table, classes, rows, targets, strength, task)
    watch.tick()
    probabilities = probe.probabilities(test.video_features())
    scores = _scores(probe, probabilities, train, test)
    return ProbeResult(
        probe=probe,
        strength=strength,
        cross_validation=grid,
        tuned_on=tuned_on,
        converged=converged,
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


def _fit(
    table: FeatureTable,
    classes: tuple[str, ...],
    rows: NDArray[np.float32],
    targets: NDArray[np.bool_],
    strength: float,
    task: _Task,
) -> tuple[Probe | KnnClassifier, bool]:
    """(the classifier, whether its solver converged)."""
    made_for = {"model": table.model, "version": table.version, "model_weights": table.weights}
    if task.knn is not None:
        knn = KnnClassifier(
            labels=classes,
            rows=unit_rows(rows),
            targets=targets,
            k=int(strength),
            temperature=task.knn.temperature,
            multi_label=task.multi_label,
            **made_for,
        )
        return knn, True
    fitted = fit_linear(rows, targets, strength, multi_label=task.multi_label)
    probe = Probe(
        labels=classes,
        mean=fitted.mean,
        scale=fitted.scale,
        weights=fitted.weights,
        bias=fitted.bias,
        multi_label=task.multi_label,
        **made_for,
    )
    return probe, fitted.converged


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


def _scores(
    probe: Probe | KnnClassifier, probabilities: NDArray[np.float32], train: LabelledClips, test: LabelledClips
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
