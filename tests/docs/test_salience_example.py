"""docs/salience.md from its first command on, in one shell, as a reader would type them.

The tests stop where a sampler is trained, which other tests do in small. `make soak ARGS=docs_examples` goes on.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenclip_data.manifest import read_manifest
from tenclip_video.bundle import read_bundle

from .worked_example import SECONDS, run_page


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_the_worked_example_runs_up_to_the_sampler(tmp_path: Path) -> None:
    # Networks this small gain nothing from more than one thread.
    run_page("salience.md", tmp_path, until="## Train a sampler", OMP_NUM_THREADS="1")
    check_first_half(tmp_path)


def check_first_half(folder: Path) -> None:
    """A bundle of a network, and untrimmed videos."""
    assert read_bundle(folder / "models" / "objects" / "1").info.sampler is None
    assert len(read_manifest(folder / "raw" / "manifest.csv").samples) == 22 + 34


def check_second_half(folder: Path, output: str) -> None:
    """A sampler, and a bundle with it."""
    values = json.loads((folder / "sampler" / "metrics.json").read_text())
    assert values["videos"]["train"] == 22
    assert values["videos"]["select"] + values["videos"]["held_out"] == 34
    assert values["metrics"]["annotated_videos"] == values["videos"]["held_out"]
    assert "adaptive (default), error bound 0.3: stops at a margin of" in output
    after = read_bundle(folder / "models" / "objects" / "2").info
    assert after.sampler is not None
    assert after.sampler.stopping is not None
    assert after.default_protocol == "salient-clips"
