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

from tenclip_api.errors import CheckpointError, DatasetError
from tenclip_data.manifest import Manifest, read_manifest
from tenclip_features.probe import Probe, ProbeResult, fit_probe, load_probe, save_probe
from tenclip_features.table import COLUMNS, label_clips, mean_by_group, read_features

DIM = 6
SCHEMA = pyarrow.schema(
    [
        ("video", pyarrow.string()),
        ("clip_index", pyarrow.int32()),
        ("start_seconds", pyarrow.float64()),
        ("end_seconds", pyarrow.float64()),
        ("features", pyarrow.list_(pyarrow.float32())),
        ("model", pyarrow.string()),
        ("version", pyarrow.string()),
    ]
)


def row(video: str, clip: int, features: Any, **changes: Any) -> dict[str, Any]:
    values = {
        "video": video,
        "clip_index": clip,
        "start_seconds": float(clip),
        "end_seconds": clip + 1.0,
        "features": np.asarray(features, np.float32).tolist(),
        "model": "demo",
        "version": "1",
    }
    return values | changes


def write_table(path: Path, rows: list[dict[str, Any]], schema: pyarrow.Schema = SCHEMA) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)
    return path


def write_labels(path: Path, rows: list[tuple[str, str, str]]) -> Manifest:
    path.write_text("path,label,split\n" + "".join(f"{','.join(r)}\n" for r in rows))
    return read_manifest(path, missing="keep")


def clusters(
    tmp_path: Path, *, classes: int = 3, train: int = 8, test: int = 4, noise: float = 0.5, clips: int = 2
) -> tuple[Path, Manifest]:
    """Videos whose features lie around a centre of their class, on very different scales."""
    rng = np.random.default_rng(0)
    centers, scale = rng.normal(size=(classes, DIM)) * 2, 10.0 ** np.arange(-3, DIM - 3)
    rows, labels = [], []
    for c in range(classes):
        for i in range(train + test):
            name = f"{'abcdef'[c]}/{i}.mp4"
            labels.append((name, "abcdef"[c], "train" if i < train else "test"))
            rows += [row(name, k, (centers[c] + rng.normal(size=DIM) * noise) * scale + 5) for k in range(clips)]
    rng.shuffle(rows)
    return write_table(tmp_path / "f.parquet", rows), write_labels(tmp_path / "m.csv", labels)


def fit(tmp_path: Path, **settings: Any) -> ProbeResult:
    path, manifest = clusters(tmp_path)
    return fit_probe(read_features([path]), manifest, **settings)


# -- tables --


def test_read_features(tmp_path: Path) -> None:
    a = write_table(tmp_path / "a.parquet", [row("v", 0, [1, 2]), row("v", 1, [3, 4])])
    b = write_table(tmp_path / "b.parquet", [row("w", 0, [5, 6])])
    table = read_features([a, b])
    assert table.videos == ("v", "v", "w")
    assert table.features.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert table.features.dtype == np.float32
    assert table.seconds.tolist() == [[0, 1], [1, 2], [0, 1]]
    assert (table.model, table.version) == ("demo", "1")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no clips"),
        ([row("v", 0, [])], "row 1: 0 features"),
        ([row("v", 0, [1, 2]), row("v", 1, [1])], "row 2: 1 features where the first row has 2"),
        ([row("v", 0, [1, 2]), row("v", 1, [1, np.nan])], "row 2: features that are not finite"),
        ([row("v", 0, [1]), row("w", 0, [1], version="2")], "demo version 1, demo version 2; .*cannot be mixed"),
        ([row("v", 0, [1]), row("v", 0, [1])], "clip 0 of v stands there twice"),
        ([row("v", 0, [1]), row("w", 0, [1]) | {"features": None}], "row 2: 0 features where the first row has 1"),
    ],
)
def test_bad_tables(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = write_table(tmp_path / "f.parquet", rows)
    with pytest.raises(DatasetError, match=rf"f\.parquet.*{message}"):
        read_features([path])


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    schema = pyarrow.schema([f for f in SCHEMA if f.name != column])
    rows = [{k: v for k, v in row("v", 0, [1]).items() if k != column}]
    with pytest.raises(DatasetError, match=f"no column '{column}'"):
        read_features([write_table(tmp_path / "f.parquet", rows, schema)])


def test_features_that_are_no_lists(tmp_path: Path) -> None:
    schema = SCHEMA.set(4, pyarrow.field("features", pyarrow.float32()))
    with pytest.raises(DatasetError, match="column 'features' holds float, not lists of numbers"):
        read_features([write_table(tmp_path / "f.parquet", [row("v", 0, [1]) | {"features": 1.0}], schema)])


@pytest.mark.parametrize("kind", [pyarrow.large_list(pyarrow.float64()), pyarrow.list_(pyarrow.float32(), 2)])
def test_other_kinds_of_lists(tmp_path: Path, kind: pyarrow.DataType) -> None:
    schema = SCHEMA.set(4, pyarrow.field("features", kind))
    path = write_table(tmp_path / "f.parquet", [row("v", 0, [1, 2]), row("v", 1, [3, 4])], schema)
    assert read_features([path]).features.tolist() == [[1, 2], [3, 4]]


def test_absent_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file; `tenclip features"):
        read_features([tmp_path / "f.parquet"])
    (tmp_path / "f.parquet").write_text("video\n")
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        read_features([tmp_path / "f.parquet"])
    a = write_table(tmp_path / "a.parquet", [row("v", 0, [1])])
    for name, other in (("b", row("w", 0, [1, 2])), ("c", row("w", 0, [1], model="x"))):
        with pytest.raises(DatasetError, match=rf"{name}\.parquet"):
            read_features([a, write_table(tmp_path / f"{name}.parquet", [other])])


# -- joining --


def test_clips_find_their_labels_by_file_by_name_or_by_ending(tmp_path: Path) -> None:
    labels = [("x/1.mp4", "a", "train"), ("x/2.mp4", "b", "train"), ("y/2.mp4", "a", "train"), ("z/3.mp4", "a", "test")]
    manifest = write_labels(tmp_path / "m.csv", labels)
    names = [str(tmp_path / "x/1.mp4"), "elsewhere/x/2.mp4", "2.mp4", "z/3.mp4", "other.mp4"]
    table = read_features([write_table(tmp_path / "f.parquet", [row(n, 0, [i]) for i, n in enumerate(names)])])
    train = label_clips(table, manifest, "train")
    # "2.mp4" could be two of them, so it is neither.
    assert train.names == ("x/1.mp4", "x/2.mp4")
    assert train.features[:, 0].tolist() == [0, 1]
    assert train.labels == ("a", "b")
    assert (train.videos_asked, train.without_features) == (3, ("y/2.mp4",))
    assert label_clips(table, manifest, "test").names == ("z/3.mp4",)


def test_clips_go_to_the_part_that_holds_their_middle(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("path,label,start,end,split\nv.mp4,a,0,2,train\nv.mp4,b,2,4,train\n")
    table = read_features([write_table(tmp_path / "f.parquet", [row("v.mp4", i, [i]) for i in range(6)])])
    clips = label_clips(table, read_manifest(path, missing="keep"), "train")
    assert clips.names == ("v.mp4[0:2]", "v.mp4[2:4]")
    assert clips.samples.tolist() == [0, 0, 1, 1]
    assert clips.video_features()[:, 0].tolist() == [0.5, 2.5]


def test_nothing_in_common(tmp_path: Path) -> None:
    manifest = write_labels(tmp_path / "m.csv", [("x.mp4", "a", "train")])
    table = read_features([write_table(tmp_path / "f.parquet", [row("y.mp4", 0, [1])])])
    with pytest.raises(DatasetError, match=r"none of its videos \(y\.mp4, \.\.\.\) is in split 'train'"):
        label_clips(table, manifest, "train")


def test_several_labels_are_refused(tmp_path: Path) -> None:
    manifest = write_labels(tmp_path / "m.csv", [("x.mp4", "a;b", "train")])
    table = read_features([write_table(tmp_path / "f.parquet", [row("x.mp4", 0, [1])])])
    with pytest.raises(DatasetError, match=r"line 2 \(x\.mp4\): has labels a, b"):
        label_clips(table, manifest, "train")


def test_mean_by_group() -> None:
    means = mean_by_group(np.array([[1, 2], [3, 4], [9, 9]], np.float32), np.array([1, 1, 0]), 2)
    assert means.tolist() == [[9, 9], [2, 3]]


# -- fitting --


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
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    path, manifest = clusters(tmp_path, classes=2, noise=2.0)
    table = read_features([path])
    probe = fit_probe(table, manifest, strengths=[1.0]).probe
    train, test = (label_clips(table, manifest, s) for s in ("train", "test"))
    scaler = StandardScaler().fit(train.video_features())
    expected = LogisticRegression(C=1.0, max_iter=2000).fit(scaler.transform(train.video_features()), train.labels)
    np.testing.assert_allclose(
        probe.probabilities(test.video_features()),
        expected.predict_proba(scaler.transform(test.video_features())),
        atol=1e-3,
    )
    assert probe.labels == tuple(expected.classes_)


def test_features_without_any_meaning_stay_near_chance(tmp_path: Path) -> None:
    path, manifest = clusters(tmp_path, classes=2, train=40, test=100, noise=1000.0)
    result = fit_probe(read_features([path]), manifest)
    assert 0.35 < result.mean_features.top1 < 0.65


def test_clips_of_one_video_are_never_on_both_sides_of_a_fold(tmp_path: Path) -> None:
    """Clips of a video are all alike here and say nothing of the class, so only a leak could score well."""
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for i in range(40):
        labels.append((f"{i}.mp4", "ab"[i % 2], "train" if i < 30 else "test"))
        fingerprint = rng.normal(size=60)
        rows += [row(f"{i}.mp4", k, fingerprint) for k in range(5)]
    table = read_features([write_table(tmp_path / "f.parquet", rows)])
    result = fit_probe(table, write_labels(tmp_path / "m.csv", labels), fit_on="clips")
    assert max(v for _, v in result.cross_validation) < 0.8


def test_a_constant_feature_does_no_harm(tmp_path: Path) -> None:
    path, manifest = clusters(tmp_path)
    rows = pyarrow.parquet.read_table(path).to_pylist()
    for r in rows:
        r["features"] = [*r["features"], 7.0]
    result = fit_probe(read_features([write_table(path, rows)]), manifest)
    assert np.isfinite(result.probe.weights).all()
    assert result.mean_features.top1 == 1


def test_test_videos_of_an_unknown_class_count_as_wrong(tmp_path: Path) -> None:
    path, _ = clusters(tmp_path)
    labels = [(f"{c}/{i}.mp4", c, "train" if i < 8 else "test") for c in "ab" for i in range(12)]
    manifest = write_labels(tmp_path / "m.csv", [*labels, ("c/0.mp4", "c", "test")])
    result = fit_probe(read_features([path]), manifest)
    assert result.probe.labels == ("a", "b")
    assert result.mean_features.total == 9
    assert result.mean_features.top1_correct <= 8


def test_too_little_to_fit(tmp_path: Path) -> None:
    path, _ = clusters(tmp_path)
    table = read_features([path])
    one = write_labels(tmp_path / "one.csv", [("a/0.mp4", "a", "train"), ("a/9.mp4", "a", "test")])
    with pytest.raises(DatasetError, match="has the class 'a' only; a probe needs two"):
        fit_probe(table, one)
    few = write_labels(
        tmp_path / "few.csv", [("a/0.mp4", "a", "train"), ("b/0.mp4", "b", "train"), ("a/9.mp4", "a", "test")]
    )
    with pytest.raises(DatasetError, match="too few training videos to choose C"):
        fit_probe(table, few)
    assert fit_probe(table, few, strengths=[1.0]).test_videos == 1
    for bad in ({"strengths": [0.0]}, {"fit_on": "frames"}):
        with pytest.raises(ValueError, match=r"must be positive|is not one of"):
            fit_probe(table, few, **bad)


# -- files --


def test_round_trip(tmp_path: Path) -> None:
    result = fit(tmp_path)
    files = save_probe(tmp_path / "new" / "speed.v2", result)
    assert [f.name for f in files] == ["speed.v2.npz", "speed.v2.json"]
    loaded = load_probe(tmp_path / "new" / "speed.v2")
    features = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32)
    np.testing.assert_array_equal(loaded.probabilities(features), result.probe.probabilities(features))
    assert (loaded.labels, loaded.model, loaded.version) == (("a", "b", "c"), "demo", "1")
    facts = json.loads(files[1].read_text())
    assert facts["video_mean_features"]["total"] == 12
    assert facts["C"] == result.strength
    assert load_probe(files[0]).labels == load_probe(files[1]).labels == loaded.labels


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


def test_damaged_probes(tmp_path: Path) -> None:
    numbers, facts = save_probe(tmp_path / "p", fit(tmp_path))
    good_numbers, good_facts = numbers.read_bytes(), json.loads(facts.read_text())

    def fails(message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            load_probe(tmp_path / "p")

    numbers.write_bytes(good_numbers[:100])
    fails(r"p\.npz: not a probe, or damaged")
    numbers.unlink()
    fails(r"p\.npz: no such file")
    numbers.write_bytes(good_numbers)
    for change, message in (
        ({"format": "other"}, "not a tenclip-probe"),
        ({"labels": ["a"]}, "for 1 labels and 6 features"),
        ({"feature_dim": 9}, "for 3 labels and 9 features"),
    ):
        facts.write_text(json.dumps(good_facts | change))
        fails(message)
    facts.write_text("[]")
    fails("not a probe, or damaged")
    facts.write_text(json.dumps(good_facts))
    with np.load(numbers) as arrays:
        values = dict(arrays)
    np.savez(numbers, **(values | {"bias": np.full(3, np.nan, np.float32)}))
    fails("not finite")
    np.savez(numbers, **(values | {"bias": np.array([object()] * 3)}))
    fails("not a probe, or damaged")


def test_probing_needs_no_torch() -> None:
    code = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "av", "cv2"):
            raise ModuleNotFoundError(f"no {name} here", name=name)

sys.meta_path.insert(0, NoTorch())
import tenclip_features.probe, tenclip_features.table, tenclip_training.commands.probe
"""
    subprocess.run([sys.executable, "-c", code], check=True)
