"""`tenclip curate merge` as users run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_data.manifest import read_manifest
from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of


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
