"""`tenclip curate duplicates` as users run it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of, rows_of


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


def test_a_set_of_which_nothing_can_be_read_is_an_error_and_keeps_nothing(run: Run, web: Path, tmp_path: Path) -> None:
    """Relative paths of a table that was moved: nothing was compared, so nothing is clean."""
    moved = tmp_path / "moved.csv"
    moved.write_text("path,label\nelsewhere/a.mp4,x\nelsewhere/b.mp4,x\n")
    kept = tmp_path / "kept.csv"
    arguments = ("--against", web / "target", "--out", tmp_path / "report", "--kept", kept)
    said = error_of(run("duplicates", moved, *arguments))
    assert "no source video of 2 could be read" in said
    assert "elsewhere/a.mp4" in said
    assert not kept.exists()
