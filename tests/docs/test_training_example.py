"""docs/training.md from its first command on, in one shell, as a reader would type them.

The tests stop where fine-tuning begins: what follows trains three networks. `make soak ARGS=docs_examples` goes on.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from .worked_example import SECONDS, run_page


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_the_worked_example_runs_up_to_fine_tuning(tmp_path: Path) -> None:
    # Networks this small gain nothing from more than one thread.
    check_first_half(tmp_path, run_page("training.md", tmp_path, until="## Fine-tune", OMP_NUM_THREADS="1"))


def check_first_half(folder: Path, output: str) -> None:
    """Labelled, chosen, cleaned, and trained on."""
    assert "suspected duplicates" in output
    paths = pq.read_table(folder / "web" / "clean.parquet", columns=["path"])["path"].to_pylist()
    assert paths
    assert not any("reposted" in path for path in paths), "copies of target videos are out"
    chosen = pq.read_table(folder / "web" / "chosen.parquet")
    assert chosen.num_rows <= 30
    assert "0.192" in output, "the plan of the paper's run on 128 GPUs"
    history = [json.loads(line) for line in (folder / "pre" / "history.jsonl").read_text().splitlines()]
    assert [h["train_clips"] for h in history] == [64] * 4


def check_second_half(folder: Path, output: str) -> None:
    """Fine-tuned, served and probed."""
    assert (folder / "fine" / "best.pt").exists()
    assert re.search(r"on test: \d+ videos asked for, \d+ decoded, 0 skipped", output), "what `evaluate` counts"
    assert re.search(r"move_left_\d+\.mp4", output[output.index("on test: ") :]), "what `predict` says of each video"
    assert (folder / "probe.npz").exists()
