"""Nearest neighbours as a classifier: the votes by plain arithmetic, and `tenclip probe --knn`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from tenclip_api.errors import InvalidRequest
from tenclip_features import knn
from tenclip_features.commands import probe
from tenclip_features.knn import KnnClassifier, KnnSettings, unit_rows, vote
from tenclip_features.probe import cross_validate_probe, fit_probe
from tenclip_features.probe_files import save_probe
from tenclip_features.table import read_feature_table

from .tables import clusters, row, write_labels, write_table


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(probe)
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(a) for a in arguments])


def by_hand(
    rows: NDArray[np.float32], targets: NDArray[np.bool_], one: NDArray[np.float32], k: int, temperature: float
) -> list[float]:
    """The shares of one row, one neighbour after the other."""
    near = sorted(range(len(rows)), key=lambda i: (-float(rows[i] @ one), i))[:k]
    weights = [math.exp(float(rows[i] @ one) / temperature) for i in near]
    classes = range(targets.shape[1])
    return [sum(w for w, i in zip(weights, near, strict=True) if targets[i, c]) / sum(weights) for c in classes]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any), st.integers(0, 2))
             , min_size=1, max_size=25),
    st.lists(st.integers(1, 30), min_size=1, max_size=3),
    st.sampled_from([0.07, 1.0]),
)  # fmt: skip
def test_votes(entries: list[tuple[list[int], int]], neighbours: list[int], temperature: float) -> None:
    rows = unit_rows(np.array([e[0] for e in entries], np.float32))
    targets = np.eye(3, dtype=bool)[[e[1] for e in entries]]
    asked = rows[:4]
    # Not np.float32 products of a matrix, whose last bits may order ties anew.
    scores = asked @ rows.T
    for k, shares in zip(neighbours, vote(rows, targets, asked, neighbours, temperature), strict=True):
        assert shares.sum(axis=1) == pytest.approx(1, abs=1e-5)
        for one, line, share in zip(asked, scores, shares, strict=True):
            # Where the k-th is as near as the next, either may vote.
            ordered = np.sort(line)[::-1]
            if k >= len(rows) or ordered[k - 1] - ordered[k] > 1e-6:
                assert share.tolist() == pytest.approx(by_hand(rows, targets, one, k, temperature), abs=1e-4)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, asked = (unit_rows(rng.normal(size=(n, 8)).astype(np.float32)) for n in (50, 33))
    targets = np.eye(4, dtype=bool)[rng.integers(0, 4, 50)]
    (whole,) = vote(rows, targets, asked, (7,), 0.07)
    monkeypatch.setattr(knn, "_BLOCK", 200)
    np.testing.assert_allclose(vote(rows, targets, asked, (7,), 0.07)[0], whole, atol=1e-6)


def test_the_length_of_features_says_nothing() -> None:
    made = {"labels": ("a", "b"), "targets": np.eye(2, dtype=bool), "k": 1, "temperature": 0.07}
    facts: dict[str, Any] = {"model": "demo", "version": "1"}
    classifier = KnnClassifier(rows=np.eye(2, 3, dtype=np.float32), **made, **facts)  # type: ignore[arg-type]
    shares = classifier.probabilities(np.array([[9, 1, 0], [0, 0.01, 0], [0, 0, 0]], np.float32))
    assert shares.argmax(axis=1).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=r"takes \[N,3\], got \[2, 4\]"):
        classifier.probabilities(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize("fit_on", ["videos", "clips"])
def test_k_is_chosen_on_the_training_split(tmp_path: Path, fit_on: Any) -> None:
    path, manifest = clusters(tmp_path, noise=0.1)
    table = read_feature_table([path])
    result = fit_probe(table, manifest, fit_on=fit_on, knn=KnnSettings(neighbours=(1, 3, 100)))
    assert result.chosen == "k"
    assert [k for k, _ in result.cross_validation] == [1, 3, 100]
    best = max(score for _, score in result.cross_validation)
    assert dict(result.cross_validation)[result.strength] == best
    assert result.mean_features.total == 12
    assert result.mean_features.top1 > result.chance.top1
    fixed = fit_probe(table, manifest, fit_on=fit_on, knn=KnnSettings(neighbours=(3,)))
    assert (fixed.strength, fixed.cross_validation) == (3, ())
    with pytest.raises(ValueError, match="only linear probes are saved"):
        save_probe(tmp_path / "p", result)
    folds = cross_validate_probe(table, manifest, cv=3, fit_on=fit_on, knn=KnnSettings(neighbours=(1, 3)))
    assert folds.to_dict()["k"] == folds.final_strength
    assert sum(r.mean_features.total for r in folds.runs) == 36


def test_several_labels(tmp_path: Path) -> None:
    rows = [row(f"{i}.mp4", 0, [float(i % 2), 1.0, float(i % 3)]) for i in range(12)]
    path = write_table(tmp_path / "f.parquet", rows)
    labels = [
        (f"{i}.mp4", ";".join(["odd" if i % 2 else "even"] + ["three"] * (i % 3 == 0)), "train" if i < 8 else "test")
        for i in range(12)
    ]
    manifest = write_labels(tmp_path / "m.csv", labels, header="path,labels,split")
    result = fit_probe(read_feature_table([path]), manifest, knn=KnnSettings(neighbours=(1,)))
    assert result.probe.multi_label
    assert result.mean_features.mean_average_precision == 1


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rows = [row(f"{i}.mp4", k, [float(i % 2) + 0.01 * k, 1.0]) for i in range(16) for k in range(2)]
    lines = [f"{i}.mp4,{('slow', 'fast')[i % 2]},{'train' if i < 12 else 'test'}" for i in range(16)]
    (tmp_path / "m.csv").write_text("path,label,split\n" + "\n".join(lines) + "\n")
    return [write_table(tmp_path / "f.parquet", rows), tmp_path / "m.csv"]


def test_the_command(files: list[Path], tmp_path: Path) -> None:
    features, labels = files
    result = run(features, "--labels", labels, "--knn", "--json", "--predictions", tmp_path / "p.csv")
    values = json.loads(result.stdout)
    assert (values["classifier"], values["temperature"], values["k"]) == ("knn", 0.07, 1)
    assert "C" not in values
    assert values["cross_validation"][0] == {"k": 1.0, "top1": 1.0}
    assert values["video_mean_features"]["top1"] == values["clips"]["top1"] == 1
    assert values["confusion"]["rows_true_columns_predicted"] == [[2, 0], [0, 2]]
    assert (tmp_path / "p.csv").read_text().count("\n") == 5
    shown = run(features, "--labels", labels, "--knn", "-k", "3", "--temperature", "0.1")
    assert "nearest neighbours of 2 classes" in shown.stdout
    assert "k = 3" in shown.stdout
    folds = run(features, "--labels", labels, "--knn", "--cv", "3")
    assert "the classifier of all videos takes k = 1" in folds.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--knn", "-C", "1"], "--knn has no regularisation"),
        (["--knn", "--out", "p"], "--knn saves nothing: .* `tenclip index build --labels`"),
        (["--neighbours", "5"], "are of --knn, which is not given"),
        (["--temperature", "5"], "are of --knn, which is not given"),
        (["--knn", "--temperature", "0"], "the temperature of votes must be positive, got 0"),
    ],
)
def test_options_that_do_not_go_together(files: list[Path], options: list[str], says: str) -> None:
    result = run(files[0], "--labels", files[1], *options)
    assert isinstance(result.exception, InvalidRequest)
    with pytest.raises(InvalidRequest, match=says):
        raise result.exception
