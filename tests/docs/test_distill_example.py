"""docs/distill.md from its first command to its last, in one shell, as a reader would type them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT

from .pages import blocks


def test_the_worked_example_runs(tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + "".join(
        block.text for block in blocks(PROJECT / "docs" / "distill.md") if block.language == "sh"
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",  # networks this small gain nothing from more
    }
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=280)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    assert process.returncode == 0, output[-6000:]

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
