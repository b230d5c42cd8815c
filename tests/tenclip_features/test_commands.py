"""`tenclip probe`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_features.commands import probe

from .tables import clusters, row, write_table

NAMES = [f"{i}.mp4" for i in range(16)]


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(probe)
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(a) for a in arguments], catch_exceptions=True)


def error_of(result: Result) -> BaseException:
    assert result.exception is not None
    return result.exception


def output_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.exception
    values: dict[str, Any] = json.loads(result.stdout)
    return values


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """One number that gives `speed` away, for every clip of 16 videos."""
    rows = [row(name, k, [float(i % 2) + 0.1 * k, 1.0]) for i, name in enumerate(NAMES) for k in range(2)]
    return write_table(tmp_path / "f.parquet", rows)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Labels that say nothing, a column `speed` that the features show, and sources of four videos."""
    lines = [
        f"{name},{'xy'[i // 2 % 2]},{('slow', 'fast')[i % 2]},s{i // 4},{'train' if i < 12 else 'test'}"
        for i, name in enumerate(NAMES)
    ]
    (tmp_path / "m.csv").write_text("path,label,speed,source,split\n" + "\n".join(lines) + "\n")
    return tmp_path / "m.csv"


def test_probe(features: Path, labels: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        features,
        "--labels",
        labels,
        "--label-column",
        "speed",
        "--out",
        tmp_path / "p",
        "-C",
        "1",
    ]
    values = output_of(run(*arguments, "--json"))
    assert values["video_mean_features"]["top1"] == 1
    assert values["clips"]["total"] == 8
    assert values["labels"] == ["fast", "slow"]
    assert values["files"] == [str(tmp_path / "p.npz"), str(tmp_path / "p.json")]
    assert values["confusion"] == {"labels": ["fast", "slow"], "rows_true_columns_predicted": [[2, 0], [0, 2]]}
    result = run(*arguments)
    assert "fitted on 12 of 12 videos, tested on 4 of 4" in result.stdout
    assert "confusion (rows: true, columns: predicted)" in result.stdout
    assert "saved" in result.stdout


def test_the_grid_is_printed(features: Path, labels: Path) -> None:
    result = run(features, "--labels", labels, "--label-column", "speed", "--folds", "3", "-C", "0.5", "-C", "2")
    assert result.exit_code == 0, result.exception
    assert "cross-validation of C: top-1 of held-out training videos" in result.stdout
    grid = [line.split("│")[1].strip() for line in result.stdout.splitlines() if line.count("│") == 3]
    assert {"0.5", "2"} <= set(grid)


def test_c_is_chosen_on_a_part(features: Path, labels: Path) -> None:
    result = run(features, "--labels", labels, "--label-column", "speed", "--tune-on", "0.25")
    assert result.exit_code == 0, result.exception
    assert "choice of C: top-1 of held-out training videos" in result.stdout
    assert "chosen on 3 of them held out (top-1" in " ".join(result.stdout.split())
    values = output_of(run(features, "--labels", labels, "--tune-on", "0.25", "--json"))
    assert (values["tuned_on"], len(values["cross_validation"])) == (3, 7)


def test_by_folds_of_groups(features: Path, labels: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        features,
        "--labels",
        labels,
        "--label-column",
        "speed",
        "--cv",
        "4",
        "--group-column",
        "source",
    ]
    arguments += ["-C", "1", "--predictions", tmp_path / "p.csv"]
    values = output_of(run(*arguments, "--json"))
    assert values["mean"]["video_mean_features"]["top1"] == 1
    assert values["std"]["video_mean_features"]["top1"] == 0
    assert [f["test_videos"] for f in values["folds"]] == [4, 4, 4, 4]
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(r["video"] for r in rows) == sorted(NAMES)
    groups: dict[str, set[int]] = {}
    for r in rows:
        groups.setdefault(r["fold"], set()).add(NAMES.index(r["video"]) // 4)
    assert sorted(map(sorted, groups.values())) == [[0], [1], [2], [3]]
    shown = run(*arguments, "--out", tmp_path / "p").stdout
    assert "fold 3 of 4" in shown
    assert "100.00% ± 0.00%" in shown
    assert (tmp_path / "p.npz").is_file()


def test_one_grid_for_all_folds(features: Path, labels: Path) -> None:
    arguments = ["--label-column", "speed", "--cv", "2", "-C", "0.5", "-C", "2", "--folds", "2"]
    shown = run(features, "--labels", labels, *arguments).stdout
    (header,) = [line for line in shown.splitlines() if "fold 1 of 2" in line and "fold 2 of 2" in line]
    assert header.split("┃")[1].strip() == "C"


def test_several_splits(features: Path, tmp_path: Path) -> None:
    """HMDB-51's lists, as they are."""
    for k in (1, 2):
        for c, label in enumerate(("slow", "fast")):
            lines = [f"{n} {1 + (i // 2 % 2 == k - 1)}\n" for i, n in enumerate(NAMES) if i % 2 == c]
            (tmp_path / f"{label}_test_split{k}.txt").write_text("".join(lines))
    lists = [x for k in (1, 2) for x in ("--labels", tmp_path / f"slow_test_split{k}.txt")]
    values = output_of(run(features, *lists, "-C", "1", "--json", "--predictions", tmp_path / "p.parquet"))
    assert [s["name"] for s in values["splits"]] == [str(p) for p in lists[1::2]]
    assert [s["test_videos"] for s in values["splits"]] == [8, 8]
    assert values["mean"]["video_mean_features"] == {"top1": 1, "top5": 1}
    result = run(features, *lists, "-C", "1")
    assert "mean ± std: videos, mean features" in result.stdout


def test_numbered_classes_in_a_list_without_a_header(features: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{n} {i % 2}\n" for i, n in enumerate(NAMES)))
    (tmp_path / "classes.txt").write_text("slow\nfast\n")
    values = output_of(
        run(features, "--labels", tmp_path / "list.txt", "--classes", tmp_path / "classes.txt", "-C", "1", "--json")
    )
    assert values["labels"] == ["slow", "fast"]
    assert values["video_mean_features"]["top1"] == 1


def test_folds_need_no_clean_splits(features: Path, tmp_path: Path) -> None:
    """Parts of one video in train and in test: an error, unless the splits are not used."""
    lines = [f"{n},{'ab'[i % 2]},{k},{k + 1},{('train', 'test')[k]}\n" for i, n in enumerate(NAMES) for k in range(2)]
    lines.append(f"./{NAMES[0]},a,0.5,1.5,test\n")
    (tmp_path / "m.csv").write_text("path,label,start,end,split\n" + "".join(lines))
    assert "is in two splits" in str(error_of(run(features, "--labels", tmp_path / "m.csv", "-C", "1")))
    values = output_of(run(features, "--labels", tmp_path / "m.csv", "-C", "1", "--cv", "4", "--json"))
    assert values["mean"]["video_mean_features"]["top1"] == 1


def test_several_labels_a_video(features: Path, tmp_path: Path) -> None:
    lines = [
        f"{n},{('slow', 'fast')[i % 2]};{'xy'[i // 2 % 2]},{'train' if i < 12 else 'test'}\n"
        for i, n in enumerate(NAMES)
    ]
    (tmp_path / "m.csv").write_text("path,label,split\n" + "".join(lines))
    values = output_of(run(features, "--labels", tmp_path / "m.csv", "-C", "1", "--json"))
    assert 0.5 < values["video_mean_features"]["mAP"] <= 1
    assert "confusion" not in values
    assert (values["video_mean_features"]["mAP_classes_counted"], values["chance"]["mAP_classes_left_out"]) == (4, 0)
    assert "mAP over 4 classes with a test video" in run(features, "--labels", tmp_path / "m.csv").stdout
    error = error_of(run(features, "--labels", tmp_path / "m.csv", "--single-label"))
    assert "a probe of single labels needs one for each video" in str(error)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["--fit-on", "frames"], InvalidRequest, "fit_on 'frames' is not one of"),
        (["--cv", "1"], InvalidRequest, "needs 2 folds or more"),
        (["--cv", "3", "--test-split", "test"], InvalidRequest, "--cv has no test split"),
        (["--cv", "3", "--labels", "other.csv"], InvalidRequest, "--cv .* takes one --labels"),
        (["--labels", "LABELS"], InvalidRequest, "is given twice"),
        (["--labels", "other.csv", "--out", "p"], InvalidRequest, "save one with --out"),
        (["--predictions", "p.txt"], InvalidRequest, r"written as \.csv or \.parquet"),
        (["--group-column", "person"], DatasetError, "no column 'person'"),
        (["--test-split", "dev"], DatasetError, "no video in split 'dev'"),
        (["-C", "0"], InvalidRequest, "C must be positive"),
        (["--tune-on", "0.9"], InvalidRequest, "tune_on is a part of the training videos"),
    ],
)
def test_refusals(features: Path, labels: Path, arguments: list[str], kind: type[Exception], message: str) -> None:
    arguments = [str(labels) if a == "LABELS" else a for a in arguments]
    error = error_of(run(features, "--labels", labels, *arguments))
    with pytest.raises(kind, match=message):
        raise error


def test_a_table_that_is_none(labels: Path) -> None:
    error = error_of(run(labels, "--labels", labels))
    assert isinstance(error, DatasetError)
    assert "cannot be read as Parquet" in str(error)


def test_nothing_is_held_out(features: Path, tmp_path: Path) -> None:
    lines = "".join(f"{n},{'ab'[i % 2]},train\n" for i, n in enumerate(NAMES))
    (tmp_path / "m.csv").write_text("path,label,split\n" + lines)
    error = error_of(run(features, "--labels", tmp_path / "m.csv"))
    assert "has neither a test nor a val split but train; name one with --test-split, or" in str(error)


def test_many_classes_are_not_a_matrix_on_a_screen(tmp_path: Path) -> None:
    rows, lines = [], []
    for i in range(66):
        rows.append(row(f"{i}.mp4", 0, [i % 22, (i % 22) ** 2]))
        lines.append(f"{i}.mp4,c{i % 22:02},{'test' if i >= 44 else 'train'}")
    table = write_table(tmp_path / "f.parquet", rows)
    (tmp_path / "m.csv").write_text("path,label,split\n" + "\n".join(lines) + "\n")
    result = run(table, "--labels", tmp_path / "m.csv", "-C", "1")
    assert "confusion of 22 classes: see --json or --predictions" in result.stdout


def test_help_has_examples() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert "tenclip probe" in result.stdout


def test_the_strengths_that_are_tried_by_default(tmp_path: Path) -> None:
    path, manifest = clusters(tmp_path)
    values = output_of(run(path, "--labels", manifest.source, "--json"))
    assert values["video_mean_features"]["top1"] == 1
    assert [c["C"] for c in values["cross_validation"]] == [1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100]
