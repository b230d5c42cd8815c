from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_training.commands.options import print_json, usage_errors
from tests.tenclip_training.commands.helpers import run


@pytest.mark.parametrize("name", ["train", "evaluate", "synth"])
def test_help_has_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"tenclip {name}" in result.stdout


@pytest.mark.parametrize(
    ("name", "heavy"),
    [
        ("train", {"torch", "av", "sklearn", "pyarrow"}),
        ("evaluate", {"torch", "numpy", "av", "cv2", "sklearn", "pyarrow"}),
        ("synth", {"torch", "numpy", "av", "cv2", "sklearn", "pyarrow"}),
    ],
)
def test_help_imports_nothing_heavy(name: str, heavy: set[str]) -> None:
    code = f"import json, sys, tenclip_training.commands.{name}; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert not heavy & set(loaded)


def test_a_value_error_is_the_users_and_our_errors_stay_what_they_are() -> None:
    with pytest.raises(InvalidRequest, match="--scale"), usage_errors():
        raise ValueError("--scale 'x'")
    with pytest.raises(DatasetError, match="empty"), usage_errors():
        raise DatasetError("empty")


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        print_json({"loss": float("nan")})
