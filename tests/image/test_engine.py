"""Command lines of both engines, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.image.__main__ import default_tag
from tests.image.container import runc_config
from tests.image.engine import Build, NotPinned, build_command, commit

PINNED = "python:3.11-slim-bookworm@sha256:" + "0" * 64


def pairs(command: list[str]) -> set[tuple[str, str]]:
    return set(pairwise(command))


@pytest.mark.parametrize("engine", ["docker", "buildah"])
def test_a_build_says_where_the_source_comes_from(engine: str) -> None:
    revision, seconds = commit()
    command = build_command(engine, Build(tag="t:1", extra="jobs", python_image=PINNED, source="https://example.com/t"))
    wanted = {f"PYTHON_IMAGE={PINNED}", "EXTRA=jobs", "SOURCE=https://example.com/t", f"SOURCE_DATE_EPOCH={seconds}"}
    assert {("--build-arg", word) for word in wanted} <= pairs(command)
    if revision:
        assert ("--build-arg", f"REVISION={revision}") in pairs(command)
        assert any(word.startswith("CREATED=20") and word.endswith("Z") for word in command)
    assert command[-1] == str(PROJECT)
    assert not any(word.startswith("RELEASE=") for word in command)


def test_several_platforms_make_one_list_of_images() -> None:
    build = Build(tag="t:1", platforms=("linux/amd64", "linux/arm64"), more=("--push",))
    docker, buildah = build_command("docker", build), build_command("buildah", build)
    assert ("--platform", "linux/amd64,linux/arm64") in pairs(docker) & pairs(buildah)
    assert ("--tag", "t:1") in pairs(docker)
    assert ("--manifest", "t:1") in pairs(buildah)
    assert "--load" not in docker  # the engine's own store takes one platform only
    assert docker[-2] == "--push"
    # Given it, buildah 1.28 would take the base of this machine for every platform.
    assert not any("BUILDPLATFORM" in word for word in buildah)


def test_a_release_needs_a_digest() -> None:
    for image in ("", "python:3.11-slim-bookworm", "registry.example.com:5000/python@latest"):
        assert "RELEASE=1" in Build(tag="t", python_image=image).check_pinned()
        with pytest.raises(NotPinned, match=r"@sha256"):
            Build(tag="t", python_image=image, release=True).check_pinned()
    assert Build(tag="t", python_image=PINNED, release=True).check_pinned() == ""
    assert "RELEASE=1" in build_command("buildah", Build(tag="t", python_image=PINNED, release=True))


def run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.image", *words]
    return subprocess.run(
        command, cwd=PROJECT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60
    )


def fake_engine(folder: Path) -> str:
    """A PATH with a `buildah` that answers to its version only."""
    program = folder / "buildah"
    program.write_text('#!/bin/sh\n[ "$1" = version ]\n')
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_the_command_line_refuses_before_anything_is_built(tmp_path: Path) -> None:
    refused = run("build", "--engine", "buildah", RELEASE="1", PATH=fake_engine(tmp_path), PYTHON_IMAGE="")
    assert refused.returncode == 1
    assert "RELEASE=1: PYTHON_IMAGE is not pinned by digest" in refused.stderr
    failed = run("build", "--engine", "buildah", PATH=fake_engine(tmp_path), PYTHON_IMAGE="")
    assert "WARNING: PYTHON_IMAGE is not pinned" in failed.stderr
    assert "buildah failed with exit code 1" in failed.stderr


def test_without_an_engine_it_says_where_to_get_one(tmp_path: Path) -> None:
    assert "Debian has buildah" in run("build", PATH=str(tmp_path)).stderr
    assert "apt-get install mmdebstrap" in run("base", PATH=str(tmp_path)).stderr


def test_images_are_named_as_the_manifests_name_them() -> None:
    names = {
        default_tag("server", ""),
        default_tag("batch", ""),
        default_tag("train", ""),
        default_tag("server", "jobs"),
    }
    assert {name.partition(":")[0] for name in names} == {"tenclip", "tenclip-batch", "tenclip-train", "tenclip-jobs"}
    assert default_tag("server", "gpu").endswith("-gpu")
    assert default_tag("server", "serve,http").endswith("-serve-http")


def test_containers_have_no_more_rights_than_their_pods(tmp_path: Path) -> None:
    config = {"User": "10001:10001", "Env": ["A=b"], "WorkingDir": "/tmp"}
    found = runc_config(tmp_path, config, ("tenclip",), tmp_path)
    assert found["root"]["readonly"]
    assert found["process"]["noNewPrivileges"]
    assert not any(found["process"]["capabilities"].values())
    assert found["process"]["user"] == {"uid": 10001, "gid": 10001}
