"""`tenclip curate`: its sub-commands as users run them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_client.cli.main import main
from tenclip_data.manifest import read_manifest
from tests.tenclip_training.curation.helpers import smooth_frames, smooth_video, write_frames

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`tenclip curate ARGUMENTS`; gives (exit code, stdout, stderr)."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["curate", *map(str, arguments)])
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return invoke


def json_of(result: tuple[int, str, str]) -> Any:
    code, out, err = result
    assert code == 0, err
    return json.loads(out)


def error_of(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code in (1, 2), out
    assert "Traceback" not in err
    return err


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """100 files that are there, 80 of one class; 20 are for testing."""
    (tmp_path / "v").mkdir()
    lines = ["path,label,split,duration"]
    for i in range(100):
        (tmp_path / "v" / f"{i}.mp4").write_bytes(str(i).encode())
        label = "head" if i < 80 else "middle" if i < 95 else "tail"
        lines.append(f"v/{i}.mp4,{label},{'test' if i % 5 == 0 else 'train'},{3 if i % 2 else 57}")
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "all.csv"


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """source/: a copy of a target, one that holds 2 s of it within 12, two strangers, one that is no video."""
    target = smooth_frames(1, 4.0)
    write_frames(tmp_path / "target" / "test.mp4", target)
    smooth_video(tmp_path / "target" / "other.mp4", 2, 2.0)
    source = tmp_path / "source"
    write_frames(source / "web" / "copy.mp4", smooth_frames(1, 4.0, height=144, width=112), crf=35)
    around = smooth_frames(3, 10.0)
    write_frames(source / "web" / "within.mp4", np.concatenate([around[:120], target[24:72], around[120:]]))
    smooth_video(source / "web" / "a.mp4", 4, 2.0)
    smooth_video(source / "web" / "b.mp4", 5, 2.0)
    (source / "web" / "text.mp4").write_text("no video")
    return tmp_path


# -- subset --


def test_a_subset_is_a_manifest(run: Run, table: Path) -> None:
    out = table.with_name("half.csv")
    summary = json_of(run("subset", table, "--out", out, "--fraction", "0.5", "--json"))
    assert (summary["videos"], summary["of_videos"], summary["other_splits_videos"]) == (40, 80, 20)
    manifest = read_manifest(out)
    assert len(manifest.split("train").samples) == 40
    assert len(manifest.split("test").samples) == 20
    only = json_of(run("subset", table, "--out", out, "--fraction", "0.5", "--only", "--json"))
    assert only["other_splits_videos"] == 0
    assert len(read_manifest(out).samples) == 40


def test_kinds_of_subsets(run: Run, table: Path) -> None:
    out = table.with_name("o.parquet")
    tail = json_of(run("subset", table, "--out", out, "--kind", "tail-preserving", "--num-videos", "30", "--json"))
    assert tail["classes"] == {"head": 14, "middle": 12, "tail": 4}
    instances = json_of(run("subset", table, "--out", out, "--kind", "instances", "--fraction", "0.1", "--json"))
    assert instances["classes"] == {"head": 7, "middle": 2, "tail": 1}
    classes = json_of(run("subset", table, "--out", out, "--kind", "classes", "--fraction", "0.3", "--json"))
    (label,) = classes["classes"]
    assert set(read_manifest(out).labels) == {label}  # of the other splits, too
    assert len(classes["classes_without_videos"]) == 2
    minutes = json_of(run("subset", table, "--out", out, "--minutes", "5", "--json"))
    assert 4 < minutes["minutes"] <= 5


def test_short_and_long_sets_match(run: Run, table: Path) -> None:
    sets = {}
    for kind in ("short", "long", "long-center"):
        out = table.with_name(f"{kind}.csv")
        sets[kind] = json_of(run("subset", table, "--out", out, "--kind", kind, "--num-videos", "20", "--json"))
    assert sets["short"]["classes"] == sets["long"]["classes"] == sets["long-center"]["classes"]
    assert sets["long-center"]["minutes"] == pytest.approx(20 * 4 / 60, abs=0.001)
    row = next(r for r in rows_of(table.with_name("long-center.csv")) if r["split"] == "train")
    assert (row["start_seconds"], row["end_seconds"]) == ("26.5", "30.5")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fraction", "0.5", "--num-videos", "3"], "give one budget"),
        ([], "give one budget"),
        (["--kind", "classes", "--num-videos", "3"], "takes a --fraction"),
        (["--fraction", "0"], "above 0, got 0"),
        (["--num-videos", "1000"], "a budget of 1000 videos, where there are 80"),
        (["--fraction", "0.5", "--split", "dev"], "no video in split 'dev'"),
        (["--fraction", "0.5", "--label-column", "verb"], "no column 'verb'"),
        (["--kind", "short", "--short", "5"], "--short is from-to in seconds"),
        (["--kind", "short", "--long", "100-200"], "no video of 100 to 200 s for the long set"),
    ],
)
def test_subsets_that_cannot_be(run: Run, table: Path, arguments: list[str], says: str) -> None:
    err = error_of(run("subset", table, "--out", table.with_name("o.csv"), *arguments))
    assert says in err
    assert not table.with_name("o.csv").exists()


def test_files_that_are_gone(run: Run, table: Path) -> None:
    (table.parent / "v" / "7.mp4").unlink()
    out = table.with_name("o.csv")
    assert "line 9 (v/7.mp4): no such file" in error_of(run("subset", table, "--out", out, "--fraction", "1"))
    assert json_of(run("subset", table, "--out", out, "--fraction", "1", "--keep-missing", "--json"))["videos"] == 80


# -- merge --


def test_merged_label_spaces(run: Run, table: Path) -> None:
    other = table.parent / "w"
    for label in ("Head", "new"):
        (other / label).mkdir(parents=True)
        (other / label / "a.mp4").write_bytes(label.encode())
    out = table.with_name("m.csv")
    summary = json_of(run("merge", f"A={table}", f"B={other}", "--out", out, "--json"))
    assert (summary["videos"], summary["classes"]) == (102, 5)
    assert summary["collisions"] == [{"name": "head", "classes": ["A/head", "B/Head"], "one_class": False}]
    labels = Path(summary["labels"])
    assert labels.read_text().splitlines() == ["A/head", "A/middle", "A/tail", "B/Head", "B/new"]
    assert read_manifest(out, labels=labels).labels[3] == "B/Head"
    code, printed, _ = run("merge", f"A={table}", f"B={other}", "--out", out, "--unify")
    assert code == 0
    assert "merged: 102 videos, 4 classes" in printed
    assert "same name: A/head, B/Head (one class)" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["all.csv"], "is not NAME=PATH"),
        (["A=all.csv"], "two or more; got 1"),
        (["A=all.csv", "A=all.csv"], "two datasets are called 'A'"),
        (["A=all.csv", "B=none.csv"], "none.csv: no such manifest"),
        (["A=all.csv", "B=all.csv", "--videos", "C=."], "no dataset is called 'C'"),
    ],
)
def test_merges_that_cannot_be(
    run: Run, table: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    assert says in error_of(run("merge", *arguments, "--out", "m.csv"))


# -- duplicates --


def test_duplicates_end_to_end(run: Run, web: Path) -> None:
    arguments = ("duplicates", web / "source", "--against", web / "target", "--out", web / "report")
    kept = web / "clean.csv"
    found = json_of(run(*arguments, "--kept", kept, "--json"))
    assert [(p["source"], p["target"]) for p in found["pairs"]] == [
        ("web/copy.mp4", "test.mp4"),
        ("web/within.mp4", "test.mp4"),
    ]
    whole, part = found["pairs"]
    assert whole["source_share"] > 0.95
    assert part["source_share"] == pytest.approx(2 / 12, abs=0.02)
    for name, seconds in (("source_from", 5), ("source_to", 7), ("target_from", 1), ("target_to", 3)):
        assert part[name] == pytest.approx(seconds, abs=0.2)
    assert found["source"]["failures"][0]["reason"] == "NOT_A_VIDEO"
    assert Path(found["report"]).is_file()
    assert [r["path"].rpartition("/")[2] for r in rows_of(kept)] == ["a.mp4", "b.mp4", "text.mp4"]
    # A person has looked at the second pair.
    rows = (web / "report" / "duplicates.csv").read_text().splitlines()
    (web / "fine.csv").write_text(f"{rows[0]}\n{rows[2]}\n")
    code, printed, _ = run(*arguments, "--reviewed", web / "fine.csv")
    assert code == 0
    assert "1 of 4 source videos are suspected duplicates (2 pairs with 2 target videos)" in printed
    assert "web/within.mp4" in printed
    assert "reviewed" in printed
    assert "not readable, so not compared: 1 source videos, 0 target videos" in printed


def test_duplicates_of_manifests_and_within_one_set(run: Run, web: Path) -> None:
    (web / "s.csv").write_text(
        "path,label,start_seconds,end_seconds\nsource/web/within.mp4,x,4,8\nsource/web/a.mp4,x,,\n"
    )
    (web / "t.txt").write_text("target/test.mp4\n")
    found = json_of(run("duplicates", web / "s.csv", "--against", web / "t.txt", "--out", web / "r", "--json"))
    (pair,) = found["pairs"]
    assert pair["source"] == "source/web/within.mp4[4:8]"
    assert pair["source_from"] == pytest.approx(5, abs=0.2)  # of the file, not of the part
    assert pair["source_share"] == pytest.approx(0.5, abs=0.05)
    within = json_of(run("duplicates", web, "--within", "--out", web / "r2", "--json"))
    assert {(p["source"], p["target"]) for p in within["pairs"]} == {
        ("source/web/copy.mp4", "source/web/within.mp4"),
        ("source/web/copy.mp4", "target/test.mp4"),
        ("source/web/within.mp4", "target/test.mp4"),
    }


def test_a_target_that_equals_the_source_is_said(run: Run, web: Path) -> None:
    err = error_of(run("duplicates", web / "target", "--against", web / "target", "--out", web / "r"))
    assert "are the same 2 videos" in err
    assert "--within" in err
    assert not (web / "r").exists()
    os.link(web / "target" / "test.mp4", web / "source" / "web" / "linked.mp4")
    _, _, said = run("duplicates", web / "source", "--against", web / "target", "--out", web / "r")
    assert "1 of 6 source videos are files of the target set" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "either --against TARGET or --within"),
        (["--against", "target", "--within"], "either --against TARGET or --within"),
        (["--against", "none"], "none: No such file"),
        (["--against", "empty"], "empty: holds no videos"),
        (["--against", "target", "--radius", "20"], "radius must lie within 0..16"),
        (["--against", "target", "--min-share", "0"], "min_share must lie above 0"),
        (["--against", "target", "--reviewed", "none.csv"], "none.csv: No such file"),
        (["--against", "target", "--kept", "k.csv"], "target"),  # a folder without class folders
    ],
)
def test_duplicates_that_cannot_be(
    run: Run, web: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (web / "empty").mkdir()
    monkeypatch.chdir(web)
    source = "target" if "--kept" in arguments else "source"
    assert says in error_of(run("duplicates", source, *arguments, "--out", "r"))
    assert not (web / "r").exists()


# -- scan --


def test_a_scan_says_what_can_be_used(run: Run, web: Path) -> None:
    ledger, kept = web / "l.jsonl", web / "readable.csv"
    code, printed, _ = run("scan", web / "source", "--out", ledger, "--kept", kept)
    assert code == 0
    assert "coverage 80.00%: 4 of 5 videos can be used, 0 of them damaged; 5 looked at now" in printed
    assert "NOT_A_VIDEO: 1" in printed
    assert [Path(r["path"]).name for r in rows_of(kept)] == ["a.mp4", "b.mp4", "copy.mp4", "within.mp4"]
    again = json_of(run("scan", web / "source", "--out", ledger, "--json"))
    assert (again["scanned_now"], again["coverage"]) == (0, 0.8)
    (web / "notes.txt").write_text("path,label\n")
    assert "lists no videos" in error_of(run("scan", web / "notes.txt", "--out", web / "x.jsonl"))
    assert "is no line of a ledger" in error_of(run("scan", web / "source", "--out", web / "notes.txt"))


def test_a_scan_that_is_killed_goes_on(web: Path) -> None:
    """kill -9 in the middle: the ledger has whole lines of what was done."""
    for i in range(30):
        smooth_video(web / "source" / "web" / f"more{i}.mp4", 10 + i, 1.0)
    ledger = web / "l.jsonl"
    command = [sys.executable, "-m", "tenclip_client", "curate", "scan", str(web / "source"), "--out", str(ledger)]
    command += ["--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while process.poll() is None and (not ledger.exists() or ledger.read_bytes().count(b"\n") < 3):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    known = ledger.read_bytes().count(b"\n")
    done = subprocess.run([*command, "--json"], capture_output=True, check=True)
    summary = json.loads(done.stdout)
    assert summary["videos"] == 35
    assert summary["scanned_now"] == 35 - known < 35


def test_the_group_imports_no_torch() -> None:
    modules = ", ".join(
        f"tenclip_training.curation.{m}" for m in ("report", "scan", "duplicates", "manifests", "merging")
    )
    code = f"import sys, tenclip_training.commands.curate, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
