"""`tenclip curate subset` as users run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_data.manifest import read_manifest
from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of, rows_of


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
