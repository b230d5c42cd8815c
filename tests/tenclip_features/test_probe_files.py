"""Files of probes, and of their predictions."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
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
    fails(r"p\.npz: not a probe, or damaged: it is not the file that p\.json was written with")
    del good_facts["npz_sha256"]  # as earlier versions wrote it
    facts.write_text(json.dumps(good_facts))
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


def test_numbers_never_pass_with_the_labels_of_another_probe(tmp_path: Path) -> None:
    """As a run leaves them that is killed between the two files."""
    result = fit(tmp_path)
    assert isinstance(result.probe, Probe)
    turned = dataclasses.replace(result.probe, labels=("c", "b", "a"), weights=result.probe.weights[::-1].copy())
    new = dataclasses.replace(result, probe=turned)
    earlier, later = save_probe(tmp_path / "earlier", result), save_probe(tmp_path / "later", new)
    for numbers, facts in ((later[0], earlier[1]), (earlier[0], later[1])):
        (tmp_path / "p.npz").write_bytes(numbers.read_bytes())
        (tmp_path / "p.json").write_bytes(facts.read_bytes())
        with pytest.raises(CheckpointError, match=r"p\.npz: .*not the file that p\.json was written with"):
            load_probe(tmp_path / "p")


def test_probes_of_earlier_versions_load(tmp_path: Path) -> None:
    _, facts = save_probe(tmp_path / "p", fit(tmp_path))
    values = json.loads(facts.read_text())
    del values["npz_sha256"]
    facts.write_text(json.dumps(values))
    assert load_probe(tmp_path / "p").labels == ("a", "b", "c")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tenclip_api.errors import TenclipError
from tests.tenclip_features.test_probe_files import fit, save_probe, some_predictions, write_predictions

folder, largest = Path(sys.argv[1]), int(sys.argv[2])
result = fit(folder)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes beyond it fail then, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
for write in (
    lambda: save_probe(folder / "p", result),
    lambda: write_predictions(folder / "p.csv", some_predictions(2000)),
    lambda: write_predictions(folder / "p.parquet", some_predictions(2000)),
):
    try:
        write()
    except TenclipError as err:
        print(err.message)
"""


def test_what_was_there_outlives_a_full_disk(tmp_path: Path) -> None:
    numbers, facts = save_probe(tmp_path / "p", fit(tmp_path))
    files = [numbers, facts, tmp_path / "p.csv", tmp_path / "p.parquet"]
    write_predictions(files[2], some_predictions(1))
    write_predictions(files[3], some_predictions(1))
    before = [f.read_bytes() for f in files]
    assert numbers.stat().st_size < facts.stat().st_size, "so that the limit is met by the second file"
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(facts.stat().st_size - 50)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert [line.partition(": cannot be written: ")[0] for line in done.stdout.splitlines()] == [
        str(numbers), str(files[2]), str(files[3])
    ]  # fmt: skip
    assert [f.read_bytes() for f in files] == before
    assert not list(tmp_path.glob(".*")), "no drafts are left"


def some_predictions(videos: int) -> list[Predictions]:
    one = Predictions(
        names=tuple(f"{i * 7919 % 104729}.mp4" for i in range(videos)),
        truth=(("x",),) * videos,
        labels=("x",),
        probabilities=np.random.default_rng(0).random((videos, 1), np.float32),
        fold="",
    )
    return [one]


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
