"""What importing the client brings along: the reason why it starts fast and installs anywhere."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "av", "cv2", "onnxruntime", "openvino", "pyarrow", "sklearn", "pandas"}
CLI = {"typer", "click", "rich"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that `code` loads in a fresh interpreter."""
    program = f"import sys\n{code}\nimport json\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_client_alone() -> None:
    loaded = modules_after("import tenclip_client")
    assert loaded & (HEAVY | CLI) == set()
    ours = {m for m in loaded if m.startswith("tenclip")}
    assert ours == {"tenclip_api", "tenclip_client", "tenclip_data"}


def test_help_of_the_root_loads_no_command() -> None:
    code = (
        "from tenclip_client.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not [m for m in sys.modules if m.endswith('.commands')], sys.modules"
    )
    loaded = modules_after(code)
    assert loaded & HEAVY == set()
    assert {m for m in loaded if m.startswith("tenclip")} <= {"tenclip_api", "tenclip_client", "tenclip_data"}


@pytest.mark.parametrize("command", ["predict", "models", "features", "bench", "similar", "index"])
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    code = f"from tenclip_client.cli.main import main\ntry: main(['{command}', '--help'])\nexcept SystemExit: pass"
    assert modules_after(code) & HEAVY == set()
