"""Running a page of the documentation from its first command to its last, in one shell, as a reader would type them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT

from .pages import blocks

# Long ones take about a minute and a half on two idle cores, and several times that on busy ones.
SECONDS = 900.0


def run_page(name: str, folder: Path, *, until: str = "", **environment: str) -> str:
    """What the commands of docs/`name` print, which must all succeed. They run in `folder`; nothing outlives them.

    until: the heading before which to stop.
    """
    page = PROJECT / "docs" / name
    lines = page.read_text(encoding="utf-8").splitlines()
    end = lines.index(until) + 1 if until else len(lines)
    shown = (block.text for block in blocks(page) if block.language == "sh" and block.line <= end)
    script = "set -euo pipefail -m\n" + "".join(shown)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS - 30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output[-6000:]
    return output
