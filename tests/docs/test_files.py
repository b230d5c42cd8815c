"""Files of the tests and of k8s/ that comments, docstrings and pages name are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT

NAMED = re.compile(r"(?<![\w/.-])(?:tests|k8s|docs)/[\w/.-]*\w\.(?:py|yaml|md|env|toml)\b")


def named_files(text: str) -> list[str]:
    return NAMED.findall(text)


def test_what_would_be_found() -> None:
    text = "see tests/k8s/test_tls.py, k8s/base/server.env and numpy/tests/test_lazy.py; ../docs/image.md"
    assert named_files(text) == ["tests/k8s/test_tls.py", "k8s/base/server.env"]
    assert not (PROJECT / "tests/k8s/test_tls.py").exists()


@pytest.mark.parametrize("folder", ["clients", "docs", "export", "k8s", "serving", "tests", "training"])
def test_files_that_are_named_exist(folder: str) -> None:
    listed = subprocess.run(["git", "ls-files", folder], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no checkout of git")
    paths = [PROJECT / line for line in listed.stdout.splitlines() if line.endswith((".py", ".md", ".yaml", ".toml"))]
    wrong = [f"{path.relative_to(PROJECT)}: {name}" for path in paths for name in missing(path)]
    assert wrong == []


def missing(path: Path) -> list[str]:
    if path == Path(__file__):
        return []
    found = named_files(path.read_text(encoding="utf-8"))
    return [name for name in found if not (PROJECT / name).exists() and not (PROJECT / "k8s" / name).exists()]
