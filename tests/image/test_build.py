"""Real buildah on the real Dockerfile. The whole of it is `make soak ARGS=image`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.image.base import TAG as BASE
from tests.image.engine import Build, build_command
from tests.soak.image import build, check_image, has_image

if shutil.which("buildah") is None:
    pytest.skip("no buildah here: apt-get install buildah", allow_module_level=True)
if os.geteuid() != 0:
    pytest.skip("buildah as another user than root needs a setup of its own", allow_module_level=True)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings for buildah with images of its own, which are gone afterwards."""
    folder = tmp_path_factory.mktemp("storage")
    lines = ["[storage]", 'driver = "vfs"', f'graphroot = "{folder}/root"', f'runroot = "{folder}/run"']
    (folder / "storage.conf").write_text("\n".join(lines) + "\n")
    return {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "STORAGE_DRIVER": "vfs",
    }


@pytest.fixture(scope="module")
def shell_image(storage: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with a shell of this machine and nothing else."""
    root = tmp_path_factory.mktemp("shell")
    libraries = subprocess.run(["ldd", "/bin/sh"], check=True, capture_output=True, text=True).stdout
    for file in ["/bin/sh", *(word for word in libraries.split() if word.startswith("/"))]:
        target = root / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    made = subprocess.run(["buildah", "from", "scratch"], env=storage, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"buildah does not work here: {made.stderr.strip()}")
    container, tag = made.stdout.strip(), "localhost/shell:test"
    for words in (["add", "--quiet", container, str(root), "/"], ["commit", "--quiet", "--rm", container, tag]):
        subprocess.run(["buildah", *words], env=storage, check=True, capture_output=True)
    return tag


def test_a_build_for_release_on_a_base_without_digest_ends_with_the_reason(
    storage: dict[str, str], shell_image: str
) -> None:
    command = build_command("buildah", Build(tag="t", target="wheel", python_image=shell_image))
    command[-1:-1] = ["--build-arg", "RELEASE=1", "--network", "none"]
    done = subprocess.run(command, cwd=PROJECT, env=storage, capture_output=True, text=True, timeout=120)
    if "operation not permitted" in done.stderr:
        pytest.skip(f"buildah may not run commands here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode != 0
    assert f"RELEASE=1 needs PYTHON_IMAGE by digest, as NAME@sha256:...; got {shell_image}" in done.stdout + done.stderr


def test_without_release_the_build_goes_on_to_python(storage: dict[str, str], shell_image: str) -> None:
    command = build_command("buildah", Build(tag="t", target="wheel", python_image=shell_image))
    done = subprocess.run(command, cwd=PROJECT, env=storage, capture_output=True, text=True, timeout=120)
    if "operation not permitted" in done.stderr:
        pytest.skip(f"buildah may not run commands here: {done.stderr.strip().splitlines()[-1]}")
    assert "RELEASE" not in done.stderr
    assert "python: not found" in done.stdout + done.stderr  # the image has a shell only


@pytest.mark.slow
def test_the_batch_image_is_built_and_is_what_it_says(tmp_path: Path) -> None:
    if not has_image(BASE):
        pytest.skip(f"no {BASE} in buildah's storage: make image-base")
    tag = build("batch", BASE, "localhost/tenclip-batch:test", cache=True)
    assert check_image(tag, "batch") == []
