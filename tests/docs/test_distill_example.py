"""docs/distill.md from its first command on, in one shell, as a reader would type them.

The tests stop where fine-tuning begins: what follows trains two networks. `make soak ARGS=docs_examples` goes on.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .worked_example import SECONDS, run_page


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_the_worked_example_runs_up_to_fine_tuning(tmp_path: Path) -> None:
    # Networks this small gain nothing from more than one thread.
    run_page("distill.md", tmp_path, until="## Fine-tune", OMP_NUM_THREADS="1")
    check_first_half(tmp_path)


def check_first_half(folder: Path) -> None:
    """A student that learns from a teacher."""
    history = [json.loads(line) for line in (folder / "student" / "history.jsonl").read_text().splitlines()]
    assert [h["train_clips"] for h in history] == [32] * 3
    assert history[-1]["loss"] < history[0]["loss"]
    assert [t["name"] for t in json.loads((folder / "student" / "teachers.json").read_text())] == ["objects"]
    assert list((folder / "student" / "teacher-outputs" / "objects").glob("part-*.parquet"))


def check_second_half(folder: Path, output: str) -> None:
    """Fine-tuned, compared with a network from scratch, and looked at."""
    assert "its classifier begins anew with 4 classes: the checkpoint names none" in output.replace("\n", " ")
    for run in ("tuned", "scratch"):
        assert json.loads((folder / run / "test" / "evaluation.json").read_text())["videos_decoded"] == 16
    page = (folder / "page.html").read_text()
    assert page.count("<circle") == 32
