"""docs/salience.md from its first command to its last, in one shell, as a reader would type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenclip_video.bundle import read_bundle

from .worked_example import SECONDS, run_page


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_the_worked_example_runs(tmp_path: Path) -> None:
    # Networks this small gain nothing from more than one thread.
    output = run_page("salience.md", tmp_path, OMP_NUM_THREADS="1")

    values = json.loads((tmp_path / "sampler" / "metrics.json").read_text())
    assert values["videos"]["train"] == 22
    assert values["videos"]["select"] + values["videos"]["held_out"] == 34
    assert values["metrics"]["annotated_videos"] == values["videos"]["held_out"]
    assert "adaptive (default), error bound 0.3: stops at a margin of" in output
    before, after = (read_bundle(tmp_path / "models" / "objects" / v).info for v in ("1", "2"))
    assert before.sampler is None
    assert after.sampler is not None
    assert after.sampler.stopping is not None
    assert after.default_protocol == "salient-clips"
