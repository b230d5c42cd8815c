"""Programs of Kubernetes' tools: those beside this Python first, for wheels put them there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest


def find_program(name: str) -> str | None:
    """Its path; None where it is not installed."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


def kserve_python() -> str:
    """The Python of the environment with KServe's client and storage initializer. Skips where it is not there."""
    environment = Path(sys.prefix) / "kserve"
    if not (environment / ".ready").is_file():
        pytest.skip("no KServe client: make kserve-client")
    return str(environment / "bin" / "python")
