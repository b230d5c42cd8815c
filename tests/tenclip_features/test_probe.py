"""Linear probes: fitted, counted, averaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, read_manifest
from tenclip_features.join import label_clips
from tenclip_features.linear import Probe, fit_linear
from tenclip_features.probe import average_splits, cross_validate_probe, fit_probe
from tenclip_features.probe_files import load_probe, save_probe
from tenclip_features.probe_results import ProbeResult
from tenclip_features.scores import MeanAveragePrecision, Predictions, confusion, score
from tenclip_features.table import FeatureTable, read_feature_table
from tenclip_features.tuning import tuning_folds

from .tables import DIM, clusters, row, write_labels, write_table


def fit(tmp_path: Path, **settings: Any) -> ProbeResult:
    path, manifest = clusters(tmp_path)
    return fit_probe(read_feature_table([path]), manifest, **settings)


@pytest.mark.parametrize("fit_on", ["videos", "clips"])
def test_a_probe_tells_clusters_apart(tmp_path: Path, fit_on: str) -> None:
    seen: list[tuple[int, int]] = []
    result = fit(tmp_path, fit_on=fit_on, progress=lambda d, t: seen.append((d, t)))
    assert result.converged
    assert result.mean_features.top1 == result.mean_probabilities.top1 == 1
    assert result.clips.top1 > 0.9
    assert (result.mean_features.total, result.clips.total) == (12, 24)
    assert (result.chance.top1_correct, result.chance.total) == (4, 12)
    assert (result.train_videos, result.test_videos, result.without_features) == (24, 12, ())
    assert len(result.cross_validation) == 7
    assert seen[-1] == (36, 36)


def test_c_is_the_best_of_cross_validation_and_the_smallest_of_equals(tmp_path: Path) -> None:
    result = fit(tmp_path)
    scores = dict(result.cross_validation)
    best = max(scores.values())
    assert result.strength == min(c for c, v in scores.items() if v == best)
    assert scores[min(scores)] < best, "the strongest regularisation is too strong here"


def test_one_c_is_not_cross_validated(tmp_path: Path) -> None:
    result = fit(tmp_path, strengths=[0.3])
    assert (result.strength, result.cross_validation) == (0.3, ())


def test_two_classes_give_the_same_probabilities_as_scikit_learn(tmp_path: Path) -> None:
    path, manifest = clusters(tmp_path, classes=2, noise=2.0)
    table = read_feature_table([path])
    probe = fit_probe(table, manifest, strengths=[1.0]).probe
    train, test = (label_clips(table, manifest, s) for s in ("train", "test"))
    scaler = StandardScaler().fit(train.video_features())
    classes = [labels[0] for labels in train.labels]
    expected = LogisticRegression(C=1.0, max_iter=2000).fit(scaler.transform(train.video_features()), classes)
    np.testing.assert_allclose(
        probe.probabilities(test.video_features()),
        expected.predict_proba(scaler.transform(test.video_features())),
        atol=1e-3,
    )
    assert probe.labels == tuple(expected.classes_)


def test_features_without_any_meaning_stay_near_chance(tmp_path: Path) -> None:
    path, manifest = clusters(tmp_path, classes=2, train=40, test=100, noise=1000.0)
    result = fit_probe(read_feature_table([path]), manifest)
    assert 0.35 < result.mean_features.top1 < 0.65


def test_clips_of_one_video_are_never_on_both_sides_of_a_fold(tmp_path: Path) -> None:
    """Clips of a video are all alike here and say nothing of the class, so only a leak could score well."""
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for i in range(40):
        labels.append((f"{i}.mp4", "ab"[i % 2], "train" if i < 30 else "test"))
        fingerprint = rng.normal(size=60)
        rows += [row(f"{i}.mp4", k, fingerprint) for k in range(5)]
    table = read_feature_table([write_table(tmp_path / "f.parquet", rows)])
    result = fit_probe(table, write_labels(tmp_path / "m.csv", labels), fit_on="clips")
    assert max(v for _, v in result.cross_validation) < 0.8


def test_a_constant_feature_does_no_harm(tmp_path: Path) -> None:
    path, manifest = clusters(tmp_path)
    rows = pyarrow.parquet.read_table(path).to_pylist()
    for r in rows:
        r["features"] = [*r["features"], 7.0]
    result = fit_probe(read_feature_table([write_table(path, rows)]), manifest)
    assert isinstance(result.probe, Probe)
    assert np.isfinite(result.probe.weights).all()
    assert result.mean_features.top1 == 1


def test_test_videos_of_an_unknown_class_count_as_wrong(tmp_path: Path) -> None:
    path, _ = clusters(tmp_path)
    labels = [(f"{c}/{i}.mp4", c, "train" if i < 8 else "test") for c in "ab" for i in range(12)]
    manifest = write_labels(tmp_path / "m.csv", [*labels, ("c/0.mp4", "c", "test")])
    result = fit_probe(read_feature_table([path]), manifest)
    assert result.probe.labels == ("a", "b")
    assert result.mean_features.total == 9
    assert result.mean_features.top1_correct <= 8


def test_too_little_to_fit(tmp_path: Path) -> None:
    path, _ = clusters(tmp_path)
    table = read_feature_table([path])
    one = write_labels(tmp_path / "one.csv", [("a/0.mp4", "a", "train"), ("a/9.mp4", "a", "test")])
    with pytest.raises(DatasetError, match="has the class 'a' only; a probe needs two"):
        fit_probe(table, one)
    few = write_labels(
        tmp_path / "few.csv", [("a/0.mp4", "a", "train"), ("b/0.mp4", "b", "train"), ("a/9.mp4", "a", "test")]
    )
    with pytest.raises(DatasetError, match="too few training videos to choose C"):
        fit_probe(table, few)
    assert fit_probe(table, few, strengths=[1.0]).test_videos == 1
    for bad in ({"strengths": [0.0]}, {"strengths": [float("nan")]}, {"fit_on": "frames"}, {"folds": 1}):
        with pytest.raises(ValueError, match=r"must be positive|is not one of|2 folds or more"):
            fit_probe(table, few, **bad)


class TestGroups:
    """Clips of one source, which are all alike and say nothing of the class: only a leak could score well."""

    def made(self, tmp_path: Path, *, sources: int = 12) -> tuple[FeatureTable, Manifest]:
        rng = np.random.default_rng(1)
        rows, labels = [], []
        for i in range(sources * 5):
            source = i % sources
            name, label = f"{i}.mp4", "ab"[source % 2]
            labels.append((name, label, f"s{source}"))
            looks = np.random.default_rng(source).normal(size=60) * 3
            rows += [row(name, 0, looks + rng.normal(size=60) * 0.01)]
        table = read_feature_table([write_table(tmp_path / "f.parquet", rows)])
        return table, write_labels(tmp_path / "m.csv", labels, "path,label,source")

    def test_cross_validation_keeps_them_together(self, tmp_path: Path) -> None:
        table, manifest = self.made(tmp_path)
        leaking = cross_validate_probe(table, manifest, cv=4, strengths=[1.0])
        grouped = cross_validate_probe(table, manifest, cv=4, strengths=[1.0], group_column="source")
        assert leaking.mean("mean_features", "top1") > 0.95
        assert grouped.mean("mean_features", "top1") < 0.75
        sources = {s.key: s.extra["source"] for s in manifest.samples}
        held = [{sources[name] for name in r.predictions.names} for r in grouped.runs]
        assert sum(len(h) for h in held) == len(set().union(*held)) == 12
        assert sorted(n for r in grouped.runs for n in r.predictions.names) == sorted(sources), "each is held out once"

    def test_so_does_the_choice_of_c(self, tmp_path: Path) -> None:
        table, manifest = self.made(tmp_path)
        grouped = cross_validate_probe(table, manifest, cv=3, folds=3, group_column="source")
        assert max(v for r in grouped.runs for _, v in r.cross_validation) < 0.9

    def test_groups_on_both_sides_of_a_split_are_refused(self, tmp_path: Path) -> None:
        table, manifest = self.made(tmp_path)  # whose split is made by class alone
        with pytest.raises(
            DatasetError, match=r"group 's\d+' has videos in both 'train' \(\d+\.mp4\) and 'val'.*--cv N"
        ):
            fit_probe(table, manifest, test_split="val", group_column="source")

    def test_too_few_groups(self, tmp_path: Path) -> None:
        table, manifest = self.made(tmp_path, sources=4)
        with pytest.raises(
            DatasetError, match=r"4 groups of column 'source' are too few for 5 folds; give a smaller --cv"
        ):
            cross_validate_probe(table, manifest, cv=5, strengths=[1.0], group_column="source")
        with pytest.raises(ValueError, match="needs 2 folds or more, got 1"):
            cross_validate_probe(table, manifest, cv=1)

    def test_parts_of_one_file_stay_together(self, tmp_path: Path) -> None:
        path = tmp_path / "m.csv"
        lines = [f"{i // 4}.mp4,{'ab'[i % 2]},{i % 4},{i % 4 + 1}" for i in range(48)]
        path.write_text("path,label,start,end\n" + "\n".join(lines) + "\n")
        manifest = read_manifest(path, missing="keep")
        rng = np.random.default_rng(0)
        rows = [row(f"{i // 4}.mp4", i % 4, rng.normal(size=4)) for i in range(48)]
        table = read_feature_table([write_table(tmp_path / "f.parquet", rows)])
        runs = cross_validate_probe(table, manifest, cv=4, strengths=[1.0]).runs
        held = [{name.partition("[")[0] for name in r.predictions.names} for r in runs]
        assert sum(map(len, held)) == len(set().union(*held)) == 12


class TestSeveralRuns:
    def test_folds(self, tmp_path: Path) -> None:
        path, manifest = clusters(tmp_path, noise=3.0)
        table = read_feature_table([path])
        seen: list[tuple[int, int]] = []
        runs = cross_validate_probe(
            table, manifest, cv=3, strengths=[0.1, 1.0], progress=lambda d, t: seen.append((d, t))
        )
        assert [r.name for r in runs.runs] == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
        assert sum(r.test_videos for r in runs.runs) == 36, "all splits of the manifest"
        tops = [r.mean_features.top1 for r in runs.runs]
        assert 0.4 < np.mean(tops) < 1
        assert runs.mean("mean_features", "top1") == pytest.approx(np.mean(tops))
        assert runs.std("mean_features", "top1") == pytest.approx(np.std(tops, ddof=1))
        assert runs.confusion is not None
        assert runs.confusion.counts.sum() == 36
        assert int(np.trace(runs.confusion.counts)) == sum(r.mean_features.top1_correct for r in runs.runs)
        assert runs.final is not None
        assert runs.final_strength in (0.1, 1.0)
        assert seen[-1] == (44, 44)
        values = json.loads(json.dumps(runs.to_dict()))
        assert [f["name"] for f in values["folds"]] == [r.name for r in runs.runs]
        assert values["mean"]["video_mean_features"]["top1"] == runs.mean("mean_features", "top1")
        one = cross_validate_probe(table, manifest, cv=3, split="train", strengths=[1.0])
        assert sum(r.test_videos for r in one.runs) == 24

    def test_no_held_out_video_has_a_say_in_its_probe(self, tmp_path: Path) -> None:
        path, manifest = clusters(tmp_path, noise=3.0)
        table = read_feature_table([path])
        run = cross_validate_probe(table, manifest, cv=3, strengths=[1.0], seed=3).runs[1]
        clips = label_clips(table, manifest, None)
        kept = [i for i, name in enumerate(clips.names) if name not in run.predictions.names]
        train = clips.select(kept)
        targets = np.array([[labels[0] == c for c in "abc"] for labels in train.labels])
        expected = fit_linear(train.video_features(), targets, 1.0)
        assert isinstance(run.probe, Probe)
        np.testing.assert_allclose(run.probe.weights, expected.weights, rtol=1e-5, atol=1e-6)

    def test_splits_of_a_data_set(self, tmp_path: Path) -> None:
        """UCF-101's lists, as they are."""
        rng = np.random.default_rng(0)
        names = [f"{c}/v_{c}_g{g:02}_c01.avi" for c in ("Archery", "Bowling") for g in range(9)]
        (tmp_path / "classInd.txt").write_text("1 Archery\n2 Bowling\n")
        for k in (1, 2, 3):
            tests = [n for i, n in enumerate(names) if i % 3 == k - 1]
            (tmp_path / f"testlist0{k}.txt").write_text("".join(f"{n}\n" for n in tests))
            (tmp_path / f"trainlist0{k}.txt").write_text("".join(f"{n} 1\n" for n in names if n not in tests))
        rows = [row(n, 0, rng.normal(size=3) + 1.2 * (n[0] == "B")) for n in names]
        table = read_feature_table([write_table(tmp_path / "f.parquet", rows)])
        manifests = [read_manifest(tmp_path / f"trainlist0{k}.txt", missing="keep") for k in (1, 2, 3)]
        runs = average_splits(table, manifests, test_splits=["test"] * 3, strengths=[1.0])
        assert [r.name for r in runs.runs] == [str(m.source) for m in manifests]
        single = [fit_probe(table, m, strengths=[1.0]).mean_features for m in manifests]
        assert [r.mean_features for r in runs.runs] == single
        assert runs.mean("mean_features", "top1") == pytest.approx(np.mean([s.top1 for s in single]))
        assert runs.confusion is not None
        assert runs.confusion.labels == ("Archery", "Bowling")
        assert runs.confusion.counts.sum() == 18
        with pytest.raises(ValueError, match="each split has a probe of its own"):
            save_probe(tmp_path / "p", runs)


class TestMultiLabel:
    """Class k is seen in feature k alone."""

    def made(self, tmp_path: Path, *, noise: float = 0.3) -> tuple[FeatureTable, Manifest]:
        rng = np.random.default_rng(0)
        rows, labels = [], []
        for i in range(120):
            has = rng.random(4) < (0.5, 0.4, 0.3, 0.2)
            has[rng.integers(4)] = True
            labels.append(
                (f"{i}.mp4", ";".join(c for c, h in zip("abcd", has, strict=True) if h), "train" if i < 80 else "test")
            )
            rows += [row(f"{i}.mp4", k, has + rng.normal(size=4) * noise) for k in range(2)]
        table = read_feature_table([write_table(tmp_path / "f.parquet", rows)])
        return table, write_labels(tmp_path / "m.csv", labels)

    def test_the_mean_average_precision(self, tmp_path: Path) -> None:
        table, manifest = self.made(tmp_path)
        result = fit_probe(table, manifest)
        assert result.probe.multi_label
        assert result.mean_features.mean_average_precision is not None
        assert result.chance.mean_average_precision is not None
        assert result.mean_features.mean_average_precision > 0.95
        truth = np.array([[c in labels for c in "abcd"] for labels in result.predictions.truth])
        assert result.chance.mean_average_precision == pytest.approx(truth.mean(axis=0).mean())
        expected = [
            average_precision_score(t, p) for t, p in zip(truth.T, result.predictions.probabilities.T, strict=True)
        ]
        assert result.mean_features.mean_average_precision == pytest.approx(np.mean(expected))
        assert result.confusion is None
        assert all(0 < v <= 1 for _, v in result.cross_validation)
        values = result.to_dict()
        assert values["video_mean_features"]["mAP"] == pytest.approx(np.mean(expected))
        assert "mAP" in values["cross_validation"][0]

    def test_one_regression_for_each_class(self, tmp_path: Path) -> None:
        table, manifest = self.made(tmp_path, noise=2.0)
        probe = fit_probe(table, manifest, strengths=[0.1]).probe
        train, test = (label_clips(table, manifest, s) for s in ("train", "test"))
        scaler = StandardScaler().fit(train.video_features())
        for k, label in enumerate(probe.labels):
            expected = LogisticRegression(C=0.1).fit(
                scaler.transform(train.video_features()), [label in labels for labels in train.labels]
            )
            np.testing.assert_allclose(
                probe.probabilities(test.video_features())[:, k],
                expected.predict_proba(scaler.transform(test.video_features()))[:, 1],
                atol=1e-3,
            )

    def test_by_folds(self, tmp_path: Path) -> None:
        table, manifest = self.made(tmp_path)
        runs = cross_validate_probe(table, manifest, cv=3, strengths=[1.0])
        assert runs.mean("mean_features", "mean_average_precision") > 0.9
        assert runs.confusion is None

    def test_it_can_be_asked_for_and_refused(self, tmp_path: Path) -> None:
        table, manifest = self.made(tmp_path)
        with pytest.raises(DatasetError, match=r"line \d+ \(\d+\.mp4\): has labels .*; a probe of single labels"):
            fit_probe(table, manifest, multi_label=False)
        path, single = clusters(tmp_path, train=8)
        result = fit_probe(read_feature_table([path]), single, multi_label=True, strengths=[1.0])
        assert result.mean_features.mean_average_precision == 1
        loaded = load_probe(save_probe(tmp_path / "p", result)[0])
        assert loaded.multi_label
        rows = np.zeros((2, DIM), np.float32)
        np.testing.assert_array_equal(loaded.probabilities(rows), result.probe.probabilities(rows))

    def test_classes_of_all_videos_and_of_test_videos_only(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        labels = [
            (f"{i}.mp4", f"all;{'ab'[i % 2]}{';new' if i > 38 else ''}", "train" if i < 30 else "test")
            for i in range(40)
        ]
        rows = [row(f"{i}.mp4", 0, [i % 2 + 0.1 * rng.normal(), 1]) for i in range(40)]
        table = read_feature_table([write_table(tmp_path / "f.parquet", rows)])
        result = fit_probe(table, write_labels(tmp_path / "m.csv", labels), strengths=[1.0])
        assert result.probe.labels == ("a", "all", "b")
        # a, all and b are right everywhere; of `new` chance is all that can be said: one of ten.
        assert result.mean_features.mean_average_precision == pytest.approx((3 + 0.1) / 4)
        assert (result.probe.probabilities(np.zeros((1, 2), np.float32))[0, 1]) > 0.9


def test_confusion(tmp_path: Path) -> None:
    result = fit(tmp_path)
    assert result.confusion is not None
    assert result.confusion.labels == ("a", "b", "c")
    assert result.confusion.counts.tolist() == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    two = Predictions(
        names=("v", "w", "x"),
        truth=(("a",), ("new",), ("b",)),
        labels=("a", "b"),
        probabilities=np.array([[0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32),
    )
    counted = confusion([two, two], ["new", "a", "never", "b"])
    assert counted.labels == ("new", "a", "b")
    assert counted.counts.tolist() == [[0, 2, 0], [0, 0, 2], [0, 0, 2]]


def test_folding_the_standardisation_into_the_weights(tmp_path: Path) -> None:
    probe = fit(tmp_path).probe
    assert isinstance(probe, Probe)
    rows = (np.random.default_rng(1).normal(size=(5, DIM)) * 10.0 ** np.arange(-3, DIM - 3) + 5).astype(np.float32)
    weights, bias = probe.folded()
    np.testing.assert_allclose(rows.astype(np.float64) @ weights.T + bias, probe.logits(rows), rtol=1e-3, atol=1e-3)


def test_probabilities() -> None:
    probe = Probe(
        labels=("a", "b"),
        mean=np.array([1, 1], np.float32),
        scale=np.array([2, 1], np.float32),
        weights=np.array([[1, 0], [0, 1]], np.float32),
        bias=np.array([0, 1], np.float32),
        model="m",
        version="1",
    )
    expected = np.exp([1.0, 3.0]) / np.exp([1.0, 3.0]).sum()
    np.testing.assert_allclose(probe.probabilities(np.array([[3, 3]], np.float32))[0], expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"takes \[N,2\], got \[1, 3\]"):
        probe.probabilities(np.zeros((1, 3), np.float32))


def test_probing_needs_no_torch() -> None:
    code = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "av", "cv2"):
            raise ModuleNotFoundError(f"no {name} here", name=name)

sys.meta_path.insert(0, NoTorch())
import tenclip_features.probe, tenclip_features.table, tenclip_features.commands, tenclip_features.console
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class TestTuneOn:
    """C is chosen on a part of the training videos that is held out once (IG-65M: a tenth)."""

    def test_it_is_chosen_on_a_tenth(self, tmp_path: Path) -> None:
        path, manifest = clusters(tmp_path, train=20, noise=3.0)
        table = read_feature_table([path])
        seen: list[tuple[int, int]] = []
        result = fit_probe(table, manifest, tune_on=0.1, progress=lambda d, t: seen.append((d, t)))
        assert result.train_videos == 60
        assert result.tuned_on == 6, "two of each class of 20"
        assert seen[-1] == (8, 8), "a fit for each C, and the last one on all of them"
        scores = dict(result.cross_validation)
        assert all(v * 6 == pytest.approx(round(v * 6)) for v in scores.values()), "shares of the six videos"
        assert result.strength == min(c for c, v in scores.items() if v == max(scores.values()))
        whole = fit_probe(table, manifest, strengths=[result.strength])
        assert isinstance(result.probe, Probe)
        assert isinstance(whole.probe, Probe)
        np.testing.assert_array_equal(result.probe.weights, whole.probe.weights)
        assert result.to_dict()["tuned_on"] == 6
        assert "tuned_on" not in whole.to_dict()

    def test_the_part_is_of_the_training_split_and_stratified(self) -> None:
        targets = np.repeat(np.eye(3, dtype=bool), [50, 30, 20], axis=0)
        groups = np.arange(100)
        ((fit, held),) = tuning_folds(targets, groups, folds=5, tune_on=0.1, seed=0, source=Path("m.csv"))
        assert targets[held].sum(axis=0).tolist() == [5, 3, 2]
        assert sorted([*fit, *held]) == list(range(100))
        ((_, other),) = tuning_folds(targets, groups, folds=5, tune_on=0.1, seed=1, source=Path("m.csv"))
        assert set(other) != set(held)

    def test_a_group_is_never_on_both_sides(self) -> None:
        targets = np.tile(np.eye(2, dtype=bool), (30, 1))
        groups = np.repeat(np.arange(20), 3)
        ((fit, held),) = tuning_folds(targets, groups, folds=5, tune_on=0.25, seed=0, source=Path("m.csv"))
        assert not set(groups[fit]) & set(groups[held])
        assert len(held) == 15

    def test_several_labels(self, tmp_path: Path) -> None:
        table, manifest = TestMultiLabel().made(tmp_path, noise=1.0)
        result = fit_probe(table, manifest, tune_on=0.1)
        assert result.tuned_on == 8
        assert all(0 < v <= 1 for _, v in result.cross_validation)
        score = result.mean_features.average_precision
        assert score is not None
        assert (score.classes_counted, score.classes_left_out, score.rows) == (4, 0, 40)

    @pytest.mark.parametrize("part", [0.0, -0.1, 0.6, 1.0])
    def test_parts_that_are_none(self, tmp_path: Path, part: float) -> None:
        with pytest.raises(ValueError, match=r"tune_on is a part of the training videos above 0 and up to 0\.5"):
            fit(tmp_path, tune_on=part)

    def test_too_few_videos(self, tmp_path: Path) -> None:
        path, manifest = clusters(tmp_path, train=1)
        with pytest.raises(DatasetError, match="too few training videos to choose C"):
            fit_probe(read_feature_table([path]), manifest, tune_on=0.1)


def test_worked_example_of_mean_average_precision() -> None:
    """Rows of labels 101, 010, 110, 000: average precisions 5/6, 1 and 1/2; a fourth class has no video."""
    truth = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    scores = np.array([[0.9, 0.2, 0.4, 0], [0.8, 0.6, 0.3, 0], [0.7, 0.9, 0.1, 0], [0.1, 0.4, 0.6, 0]], np.float32)
    found = score(scores, truth, multi_label=True)
    assert found.average_precision is not None
    assert found.mean_average_precision == pytest.approx(0.7778, abs=5e-5)
    assert (found.average_precision.classes_counted, found.average_precision.classes_left_out) == (3, 1)
    assert found.to_dict()["mAP_classes_counted"] == 3
    assert MeanAveragePrecision.of(np.array([np.nan]), rows=2).to_dict()["value"] is None
