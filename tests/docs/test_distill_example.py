"""docs/distill.md from its first command to its last, in one shell, as a reader would type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .worked_example import SECONDS, run_page


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_the_worked_example_runs(tmp_path: Path) -> None:
    # Networks this small gain nothing from more than one thread.
    output = run_page("distill.md", tmp_path, OMP_NUM_THREADS="1")

    history = [json.loads(line) for line in (tmp_path / "student" / "history.jsonl").read_text().splitlines()]
    assert [h["train_clips"] for h in history] == [32] * 3
    assert history[-1]["loss"] < history[0]["loss"]
    assert [t["name"] for t in json.loads((tmp_path / "student" / "teachers.json").read_text())] == ["objects"]
    assert list((tmp_path / "student" / "teacher-outputs" / "objects").glob("part-*.parquet"))
    assert "its classifier begins anew with 4 classes: the checkpoint names none" in output.replace("\n", " ")
    for run in ("tuned", "scratch"):
        assert json.loads((tmp_path / run / "test" / "evaluation.json").read_text())["videos_decoded"] == 16
    page = (tmp_path / "page.html").read_text()
    assert page.count("<circle") == 32
