"""The version that evidence names is that of the code which was run."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tenclip_findings import version as module


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_checkout_names_its_commit_and_whether_there_are_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, docs = tmp_path / "package", tmp_path / "docs"
    package.mkdir()
    docs.mkdir()
    code, page = package / "version.py", docs / "findings.md"
    code.write_text("1")
    page.write_text("1")
    monkeypatch.setattr(module, "__file__", str(code))
    assert module.code_version() == version("tenclip"), "no repository"
    git(tmp_path, "init", "-q")
    assert module.code_version() == version("tenclip"), "a repository of something else"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert module.code_version() == f"{version('tenclip')} ({commit})"
    page.write_text("2")
    assert module.code_version() == f"{version('tenclip')} ({commit})"
    code.write_text("2")
    assert module.code_version() == f"{version('tenclip')} ({commit}+)"
