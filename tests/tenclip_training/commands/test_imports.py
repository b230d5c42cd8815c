"""What a command's help costs: no command of training loads torch before it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = (
    *("train", "grid", "distill", "train-sampler", "add-sampler", "evaluate", "recipes"),
    *("omni", "shards", "curate", "labels", "synth"),
)
CODE = """
import sys
from importlib.metadata import entry_points
(entry_points(group="tenclip.commands")[sys.argv[1]]).load()
print([m for m in ("torch", "pyarrow", "openvino", "sklearn", "duckdb") if m in sys.modules])
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_loaded_without_what_it_works_with(command: str) -> None:
    out = subprocess.run([sys.executable, "-c", CODE, command], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
