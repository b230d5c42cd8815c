"""Bills of materials of a real, small environment: complete, valid by the published schema, the same twice."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from tenclip_image import sbom
from tenclip_image.locks import ARCHITECTURES, LOCKS, read_lock
from tests.conftest import PROJECT

pytest.importorskip("cyclonedx", reason="needs cyclonedx-bom (extra dev)")
# One of each: a wheel for one architecture, a pure one, one whose licence is free text only.
PACKAGES = ("msgspec", "mdurl", "protobuf")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As /opt/tenclip is, with fewer packages: their files are copied from here."""
    folder = tmp_path_factory.mktemp("image") / "tenclip"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    for name in (*PACKAGES, "tenclip"):
        for file in distribution(name).files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts and not file.name.endswith(".pth"):
                target = site_packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    return folder


def write(environment: Path, out: Path) -> str:
    """By the command that the build runs; without dpkg, for this machine is no image."""
    command = [sys.executable, "-m", "tenclip_image.sbom", str(environment), "--out", str(out)]
    settings = {**os.environ, "PYTHONPATH": str(PROJECT / "k8s/image"), "PATH": "/nonexistent"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return out.read_text()


def test_it_lists_every_package_and_is_the_same_twice(environment: Path, tmp_path: Path) -> None:
    text = write(environment, tmp_path / "a.json")
    assert write(environment, tmp_path / "b.json") == text
    components: dict[str, dict[str, Any]] = {c["name"]: c for c in json.loads(text)["components"]}
    assert set(components) == {*PACKAGES, "tenclip", "python"}
    locked = {package.name: package for package in read_lock(LOCKS / "serve.lock")}
    for name in PACKAGES:
        component = components[name]
        assert component["version"] == locked[name].version
        assert component["purl"] == f"pkg:pypi/{name}@{locked[name].version}"
        assert component["licenses"]
        if platform.machine() in ARCHITECTURES:
            (digest,) = component["hashes"]
            file = next(file for file, value in locked[name].wheels.items() if value == digest["content"])
            assert file.endswith((f"{platform.machine()}.whl", "any.whl"))
    assert components["protobuf"]["licenses"][0]["license"]["name"] == "3-Clause BSD License"
    assert components["python"]["version"] == platform.python_version()


def test_it_names_the_image_and_what_it_is_made_of(environment: Path) -> None:
    bill = sbom.describe(environment)
    assert bill["metadata"]["component"]["type"] == "container"
    assert "timestamp" not in bill["metadata"]
    assert "serialNumber" not in bill
    (ours,) = [d for d in bill["dependencies"] if d["ref"] == "image"]
    assert len(ours["dependsOn"]) == len(bill["components"])


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no dpkg-query here")
def test_packages_of_debian_are_listed_with_their_versions() -> None:
    found = {c["name"]: c for c in sbom.debian_packages()}
    listing = ["dpkg-query", "--show", "--showformat", "${Version}", "base-files"]
    version = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    assert found["base-files"]["version"] == version
    assert found["base-files"]["purl"].startswith("pkg:deb/")
    components = list(found.values())[:5]
    sbom.validate(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}))


def test_what_the_schema_does_not_allow_is_refused() -> None:
    wrong = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [{"name": "a", "type": "no"}]}
    with pytest.raises(SystemExit, match=r"not CycloneDX 1\.6"):
        sbom.validate(json.dumps(wrong))


def test_an_environment_of_something_else_is_refused(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "other"], check=True)
    with pytest.raises(SystemExit, match="has no package tenclip"):
        sbom.describe(tmp_path / "other")
