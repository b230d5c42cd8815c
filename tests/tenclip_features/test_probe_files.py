"""Files of probes, and of their predictions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_features.linear import Probe
from tenclip_features.probe import cross_validate_probe, fit_probe
from tenclip_features.probe_files import load_probe, save_probe, write_predictions
from tenclip_features.probe_results import ProbeResult
from tenclip_features.scores import Predictions
from tenclip_features.table import read_feature_table

from .tables import DIM, clusters


def fit(tmp_path: Path) -> ProbeResult:
    path, manifest = clusters(tmp_path)
    return fit_probe(read_feature_table([path]), manifest, strengths=[0.1, 1.0])


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


def test_the_probe_of_a_cross_validation_is_fitted_on_all_videos(tmp_path: Path) -> None:
    path, manifest = clusters(tmp_path)
    table = read_feature_table([path])
    runs = cross_validate_probe(table, manifest, cv=3, strengths=[1.0])
    loaded = load_probe(save_probe(tmp_path / "p", runs)[1])
    assert isinstance(runs.final, Probe)
    np.testing.assert_array_equal(loaded.weights, runs.final.weights)
    assert json.loads((tmp_path / "p.json").read_text())["C"] == 1.0


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


@pytest.fixture
def predictions() -> list[Predictions]:
    one = Predictions(
        names=("a, b.mp4", "ü.mp4"),
        truth=(("x",), ("y", "new")),
        labels=("x", "y"),
        probabilities=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        fold="fold 1 of 2",
    )
    other = Predictions(
        names=("caf\udce9.mp4",),
        truth=(("x",),),
        labels=("x",),
        probabilities=np.ones((1, 1), np.float32),
        fold="fold 2 of 2",
    )
    return [one, other]


def test_predictions_as_csv(tmp_path: Path, predictions: list[Predictions]) -> None:
    assert write_predictions(tmp_path / "new" / "p.csv", predictions) == 3
    with (tmp_path / "new" / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["video", "fold", "labels", "predicted", "score", "correct", "p:x", "p:y"]
    assert list(rows[0].values()) == ["a, b.mp4", "fold 1 of 2", "x", "x", "0.75", "True", "0.75", "0.25"]
    assert (rows[1]["labels"], rows[1]["predicted"], rows[1]["correct"]) == ("y;new", "x", "False")
    assert (rows[2]["video"], rows[2]["p:y"]) == ("caf\\xe9.mp4", "")


def test_predictions_as_parquet(tmp_path: Path, predictions: list[Predictions]) -> None:
    write_predictions(tmp_path / "p.parquet", predictions)
    rows = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert [r["correct"] for r in rows] == [True, False, True]
    assert [r["p:y"] for r in rows] == [0.25, 0.5, None]


def test_predictions_that_cannot_be_written(tmp_path: Path, predictions: list[Predictions]) -> None:
    with pytest.raises(InvalidRequest, match=r"p\.xlsx: predictions are written as \.csv or \.parquet"):
        write_predictions(tmp_path / "p.xlsx", predictions)
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(DatasetError, match=r"p\.csv: cannot be written: "):
        write_predictions(tmp_path / "p.csv", predictions)
