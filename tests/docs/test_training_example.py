"""docs/training.md from its first command to its last, in one shell, as a reader would type them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import PROJECT

from .pages import blocks


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_the_worked_example_runs(tmp_path: Path) -> None:
    script = "set -euo pipefail -m\n" + "".join(
        block.text for block in blocks(PROJECT / "docs" / "training.md") if block.language == "sh"
    )
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TENCLIP_PORT": str(port),
        "TENCLIP_SERVER": f"127.0.0.1:{port}",
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
        output, _ = process.communicate(timeout=560)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    assert process.returncode == 0, output[-6000:]

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
    assert (tmp_path / "probe.npz").exists()
