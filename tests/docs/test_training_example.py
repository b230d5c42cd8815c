"""docs/training.md from its first command to its last, in one shell, as a reader would type them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.ports import free_port

from .worked_example import SECONDS, run_page


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_the_worked_example_runs(tmp_path: Path) -> None:
    port = free_port()
    output = run_page(
        "training.md",
        tmp_path,
        TENCLIP_PORT=str(port),
        TENCLIP_METRICS_PORT="-1",
        TENCLIP_SERVER=f"127.0.0.1:{port}",
    )

    assert "suspected duplicates" in output
    paths = pq.read_table(tmp_path / "web" / "clean.parquet", columns=["path"])["path"].to_pylist()
    assert paths
    assert not any("reposted" in path for path in paths), "copies of target videos are out"
    chosen = pq.read_table(tmp_path / "web" / "chosen.parquet")
    assert chosen.num_rows <= 30
    assert "0.192" in output, "the plan of the paper's run on 128 GPUs"
    history = [json.loads(line) for line in (tmp_path / "pre" / "history.jsonl").read_text().splitlines()]
    assert [h["train_clips"] for h in history] == [64] * 4
    assert (tmp_path / "fine" / "best.pt").exists()
    assert re.search(r"on test: \d+ videos asked for, \d+ decoded, 0 skipped", output), "what `evaluate` counts"
    assert re.search(r"move_left_\d+\.mp4", output[output.index("on test: ") :]), "what `predict` says of each video"
    assert (tmp_path / "probe.npz").exists()
