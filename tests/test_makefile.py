"""The Makefile: extras that come later are installed, too, and stubs are those of their .proto files, all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy with what the targets below read."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    shutil.copytree(PROJECT / "clients" / "tenclip_api", tmp_path / "clients" / "tenclip_api")
    return tmp_path


def test_extras_that_are_asked_for_later_are_installed(tree: Path) -> None:
    def installs(*words: str) -> bool:
        return "pip install" in make(tree, "--dry-run", "setup", *words).stdout

    (tree / ".venv").mkdir()
    assert installs("EXTRAS=serve")
    (tree / ".venv" / ".ready-serve").touch()
    assert not installs("EXTRAS=serve")
    assert installs("EXTRAS=serve,otel")
    assert installs()


def test_kserves_client_is_installed_anew_when_its_pins_change(tree: Path) -> None:
    def installs() -> bool:
        return "-m pip install" in make(tree, "--dry-run", "kserve-client", f"READY={ready}").stdout

    ready, made = tree / "ready", tree / ".venv" / "kserve" / ".ready"
    pins = tree / "tests" / "k8s" / "kserve-client.txt"
    for path in (ready, pins, made):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert not installs()
    os.utime(made, (0, 0))
    assert installs()
    made.unlink()
    assert installs()


def check_stubs(tree: Path) -> subprocess.CompletedProcess[str]:
    ready = tree / "ready"
    ready.touch()
    # The packages of the process that runs this.
    return make(tree, "check-stubs", f"READY={ready}", f"BIN={Path(sys.executable).parent}")


def test_stubs_are_compared_with_their_files(tree: Path) -> None:
    good = check_stubs(tree)
    assert good.returncode == 0, good.stderr
    (stub, *_) = sorted((tree / "clients").rglob("*_pb2.py"))
    kept = stub.read_text()
    stub.write_text(kept + "\n")
    assert "run make stubs" in check_stubs(tree).stderr
    stub.unlink()
    missing = check_stubs(tree)
    assert missing.returncode != 0
    assert f"{stub.relative_to(tree)} is not what its .proto says" in missing.stderr
    stub.write_text(kept)
    stub.with_name("gone_pb2.py").touch()
    assert "gone_pb2.py is not what its .proto says" in check_stubs(tree).stderr
