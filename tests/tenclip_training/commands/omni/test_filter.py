"""`tenclip omni filter` as users run it, with a teacher that knows colours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tenclip_data.manifest import read_manifest
from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of
from tests.tenclip_training.omni.colors import write_images, write_video

# What was asked for, what it shows, the source: of 10 from "search" 6 are right, of 4 from "social" none is.
ROWS = [
    *[("red", "red", "search")] * 2,
    *[("green", "green", "search")] * 3,
    ("blue", "blue", "search"),
    *[("red", "green", "search")] * 2,
    *[("blue", "off_topic", "search")] * 2,
    *[("blue", "red", "social")] * 2,
    *[("green", "off_topic", "social")] * 2,
]


Filtered = Callable[..., Any]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores that tests share: a file is looked at once."""
    return tmp_path_factory.mktemp("scores")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("web"), ROWS)


@pytest.fixture
def teacher(color_teacher: Path) -> Path:
    return color_teacher


@pytest.fixture
def web(pictures: Path, tmp_path: Path) -> Path:
    """The manifest of `pictures` in a folder of its own."""
    lines = pictures.read_text().splitlines()
    rows = [f"{pictures.parent}/{line}" for line in lines[1:]]
    (tmp_path / "web.csv").write_text("\n".join([lines[0], *rows]) + "\n")
    return tmp_path / "web.csv"


@pytest.fixture
def filtered(run: Run, web: Path, teacher: Path, scores: Path) -> Filtered:
    """`tenclip omni filter web.csv --out kept.parquet`, with further arguments."""

    def invoke(*more: object, source: Path = web) -> Any:
        out = web.parent / "kept.parquet"
        arguments = ("omni", "filter", source, "--teacher", teacher, "--out", out, "--workers", 1, "--threads", 1)
        return json_of(run(*arguments, "--scores", scores, *more, "--json"))

    return invoke


def rows(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


def test_the_teachers_classes_are_kept_and_scored_against_the_truth(filtered: Filtered, web: Path) -> None:
    found = filtered("--threshold", 0.6)
    kept = rows(web.parent / "kept.parquet")
    shown = {r["path"]: r["true_label"] for r in kept}
    assert len(kept) >= 10
    assert all(r["label"] == [shown[r["path"]]] for r in kept if shown[r["path"]] != "off_topic")
    assert all(r["kept"] and r["reason"] == "" and r["confidence"] >= 0.6 for r in kept)
    assert {r["source"] for r in kept} == {"search", "social"}
    assert {r["query_label"] for r in kept} <= {"red", "green", "blue"}
    truth = found["truth"]
    assert (truth["files"], truth["claimed_right"], truth["relevant"]) == (14, 6, 10)
    assert truth["precision_before"] == pytest.approx(6 / 14)
    assert truth["recall"] == 1.0
    assert truth["precision"] == truth["kept_right"] / len(kept)
    # What is kept is what `tenclip train` reads.
    manifest = read_manifest(web.parent / "kept.parquet", held_out=None, images=True)
    assert manifest.labels == ("blue", "green", "red")
    report = web.parent / "kept-filter"
    assert len(rows(report / "scored.parquet")) == 14
    assert json.loads((report / "filter.json").read_text())["kept"] == len(kept)
    page = (report / "report.html").read_text()
    assert "pictures/row-0000-0.jpg" in page
    assert (report / "pictures" / "row-0000-0.jpg").stat().st_size > 300


def test_shares_are_of_each_source(filtered: Filtered, web: Path) -> None:
    found = filtered("--keep-share", 0.5)
    by_source = {s["source"]: s for s in found["sources"]}
    assert (by_source["search"]["kept"], by_source["social"]["kept"]) == (5, 2)
    assert by_source["search"]["chosen"] == "keeps 50%"
    # The default share is a quarter.
    again = filtered()
    assert [s["kept"] for s in again["sources"]] == [2, 1]


def test_agreement_with_what_was_asked_for(
    filtered: Filtered, run: Run, web: Path, teacher: Path, scores: Path
) -> None:
    found = filtered("--pseudo-label", "agree", "--threshold", 0.5)
    assert found["sources_without_survivors"] == ["social"]
    kept = rows(web.parent / "kept.parquet")
    assert sum(r["true_label"] != "off_topic" for r in kept) == 6
    assert all(r["label"] == [r["query_label"]] for r in kept)
    scored = rows(web.parent / "kept-filter" / "scored.parquet")
    assert {r["reason"] for r in scored} >= {"", "not what was asked for"}
    code, printed, _ = run(
        *("omni", "filter", web, "--teacher", teacher, "--out", web.parent / "k.csv", "--pseudo-label", "agree"),
        *("--workers", 1, "--scores", scores, "--threshold", "0.5", "--pictures", 0),
    )
    assert code == 0
    assert "nothing is left of: social" in printed
    assert "42.9% (6 of 14) came with the right one" in printed


def test_the_query_label_by_the_teachers_score_of_it(filtered: Filtered, web: Path) -> None:
    filtered("--pseudo-label", "query", "--threshold", 0.5)
    kept = rows(web.parent / "kept.parquet")
    assert all(r["label"] == [r["query_label"]] for r in kept)
    assert sum(r["true_label"] == r["query_label"] for r in kept) == 6


def test_thresholds_by_precision_on_held_out_data(filtered: Filtered, tmp_path: Path) -> None:
    for split, names in (("train", ["red"]), ("val", ["red", "green", "blue"])):
        for name in names:
            write_video(tmp_path / "target" / f"{split}-{name}.mp4", [name])
    lines = [f"{split}-{name}.mp4,{name},{split}" for split, name in
             [("train", "red"), ("val", "red"), ("val", "green"), ("val", "blue")]]  # fmt: skip
    target = tmp_path / "target" / "m.csv"
    target.write_text("\n".join(["path,label,split", *lines]) + "\n")
    found = filtered("--precision", 0.9, "--calibrate", target)
    assert {s["chosen"] for s in found["sources"]} == {"precision 0.9 on held-out target data"}
    assert {s["held_out"] for s in found["sources"]} == {1.0}
    assert len({s["threshold"] for s in found["sources"]}) == 1


def test_files_that_cannot_be_read_are_counted_and_unlabelled_ones_read(
    filtered: Filtered, web: Path, tmp_path: Path
) -> None:
    source = write_images(tmp_path / "other", ROWS[:4])
    images = source.parent / "images"
    (images / "000.png").write_text("<html>404</html>")
    (images / "001.png").unlink()
    found = filtered("--threshold", 0.5, source=source)
    assert [s["failed"] for s in found["sources"]] == [2]
    assert {f["reason"] for f in found["failures"]} == {"NOT_AN_IMAGE", "VIDEO_NOT_FOUND"}
    assert len((web.parent / "kept-filter" / "failures.jsonl").read_text().splitlines()) == 2
    found = filtered("--threshold", 0.5, "--unlabelled", source=images)
    assert [s["source"] for s in found["sources"]] == ["images"]
    assert (found["files"], found["truth"]) == (3, None)
    (images / "002.png").write_text("")
    (images / "003.png").write_text("")
    assert "none of the 3 files can be read; the first: " in str(filtered_error(filtered, images))


def test_unlabelled_rows_keep_their_columns(filtered: Filtered, web: Path) -> None:
    found = filtered("--threshold", 0.6, "--threshold", "social=0.99", "--unlabelled")
    sources = {s["source"]: s for s in found["sources"]}
    assert {name: s["threshold"] for name, s in sources.items()} == {"search": 0.6, "social": 0.99}
    assert (found["truth"]["files"], found["truth"]["relevant"]) == (14, 10)
    scored = rows(web.parent / "kept-filter" / "scored.parquet")
    assert all(r["query_label"] is None for r in scored)


def filtered_error(filtered: Filtered, source: Path) -> str:
    with pytest.raises(AssertionError) as caught:
        filtered("--unlabelled", source=source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--threshold", "1"], "nothing is kept of 14 files: the highest confidence is 0."),
        (["--threshold", "serach=0.5"], "no source serach; there are search, social"),
        (["--threshold", "2"], "write a confidence from 0 to 1"),
        (["--threshold", "0.5", "--keep-share", "0.5"], "decides about all sources"),
        (["--precision", "0.9"], "name them with --calibrate"),
        (["--precision", "0.9", "--calibrate", "split.csv"], "says nothing of its precision"),
        (["--precision", "0.9", "--keep-share", "0.1", "--calibrate", "web.csv"], "leave one out"),
        (["--pseudo-label", "best"], "'best' is not one of teacher, agree, query"),
        (["--pseudo-label", "agree", "--unlabelled"], "no --unlabelled"),
        (["--protocol", "none"], "protocol 'none' is not one of"),
        (["--teacher", "nothing.pt"], "neither a bundle's folder nor a checkpoint"),
    ],
)
def test_what_cannot_be(
    run: Run,
    web: Path,
    teacher: Path,
    scores: Path,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(web.parent)
    Path("split.csv").write_text("path,label,split\na.mp4,green,train\n")
    if "--teacher" not in arguments:
        arguments = [*arguments, "--teacher", str(teacher)]
    given = ("--out", "k.csv", "--workers", 1, "--threads", 1, "--scores", scores)
    message = error_of(run("omni", "filter", "web.csv", *given, *arguments))
    assert says in message
    assert not (web.parent / "k.csv").exists()


def test_labels_that_the_teacher_does_not_know(run: Run, web: Path, teacher: Path, scores: Path) -> None:
    web.write_text(web.read_text().replace(",green,", ",violet,", 1))
    out = web.parent / "k.csv"
    arguments = ("omni", "filter", web, "--teacher", teacher, "--out", out, "--threads", 1, "--scores", scores)
    assert "does not know the labels violet" in error_of(run(*arguments, "--pseudo-label", "agree"))
    found = json_of(run(*arguments, "--threshold", 0.5, "--json"))
    assert {c["label"]: c["after"] for c in found["classes"]}["violet"] == 0
