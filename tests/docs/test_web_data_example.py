"""docs/web-data.md from its first command on, in one shell, as a reader would type them.

The tests stop where a teacher filters: what follows trains four networks. `make soak ARGS=docs_examples` goes on.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tenclip_training.omni.motion import read_motion
from tests.conftest import PROJECT

from .worked_example import SECONDS, run_page


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_the_first_half_of_the_worked_example_runs(tmp_path: Path) -> None:
    check_first_half(tmp_path, run_page("web-data.md", tmp_path, until="## A teacher filters"))


def check_first_half(folder: Path, output: str) -> None:
    """Scanned, without duplicates, as clips, and trained on."""
    assert "61 of 63 files can be used" in output
    assert "1 of 61 source files are suspected duplicates" in output
    with (folder / "web" / "clean.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert len(paths) == 60
    assert not any("repost" in p or "gone" in p or "half" in p for p in paths)
    assert read_motion(folder / "motion.json").overall.count > 150
    assert (folder / "run" / "best.pt").exists()
    with Image.open(folder / "clips.webp") as made, Image.open(PROJECT / "docs" / "web-clips.webp") as shown:
        assert made.size == shown.size
    assert (PROJECT / "docs" / "web-clips.webp").stat().st_size < 60_000


def check_second_half(folder: Path, output: str) -> None:
    """Filtered by a teacher, cut from long videos, trained on together, and compared."""
    found = json.loads((folder / "kept-filter" / "filter.json").read_text())
    truth = found["truth"]
    assert truth["precision_before"] == 0.5
    assert truth["precision"] > 0.7
    assert found["kept"] == 24
    assert (PROJECT / "docs" / "web-filter.jpg").stat().st_size < 60_000
    untrimmed = json.loads((folder / "snippets-untrimmed" / "untrimmed.json").read_text())
    assert untrimmed["rows"] >= 3
    facts = [json.loads(line)["facts"] for line in (folder / "student" / "history.jsonl").read_text().splitlines()]
    assert [[f[f"{name} clips"] for name in ("target", "kept", "snippets")] for f in facts] == [[24, 12, 12]] * 2
    mixes = json.loads((folder / "mixes" / "mixes.json").read_text())
    size = mixes["size"]
    assert mixes["sets"] == {
        "search": {"search": size},
        "social": {"social": size},
        "mixed": {"search": size - size // 2, "social": size // 2},
    }
    for run, name in (("one", "search"), ("both", "mixed")):
        history = [json.loads(line) for line in (folder / run / "history.jsonl").read_text().splitlines()]
        assert [[h["facts"][f"{source} clips"] for source in ("target", name)] for h in history] == [[24, 12]] * 2
    assert "over 12 videos that both have scored" in output.replace("\n", " ")
