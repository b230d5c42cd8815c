"""A base image from Debian's packages, where no registry can be reached: Debian bookworm with its Python 3.11.

It stands in for python:3.11-slim-bookworm in tests and measurements; the glibc and the version of Python are the same,
the build of Python is Debian's. Needs root, mmdebstrap and buildah; for a foreign architecture also qemu-user-static,
registered with binfmt_misc.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.image.engine import buildah, own_platform

TAG = "localhost/tenclip-base:bookworm"
PACKAGES = ("ca-certificates", "python-is-python3", "python3", "python3-pip", "python3-venv")


def make_base(tag: str = TAG, platforms: tuple[str, ...] = ()) -> None:
    """A list of images under one tag, one for each platform. Raises SystemExit for a missing program."""
    for program in ("mmdebstrap", "buildah"):
        if not shutil.which(program):
            raise SystemExit(f"no {program} here: apt-get install {program}")
    subprocess.run(["buildah", "manifest", "rm", tag], capture_output=True)
    subprocess.run(["buildah", "rmi", tag], capture_output=True)
    buildah("manifest", "create", tag)
    for platform in platforms or (own_platform(),):
        architecture = platform.removeprefix("linux/")
        single = f"{tag}-{architecture}"
        with tempfile.TemporaryDirectory() as folder:
            tar = Path(folder) / "root.tar"
            run_mmdebstrap(architecture, tar)
            container = buildah("from", "scratch")
            buildah("add", "--quiet", container, tar, "/")
        buildah("config", "--arch", architecture, "--os", "linux", "--cmd", "python3", container)
        buildah("commit", "--quiet", "--rm", container, single)
        buildah("manifest", "add", tag, single)
        print(f"{single}: Debian bookworm with Python 3.11")


def run_mmdebstrap(architecture: str, tar: Path) -> None:
    # fmt: off
    command = [
        "mmdebstrap", "--quiet", f"--architectures={architecture}", "--variant=minbase",
        f"--include={','.join(PACKAGES)}", '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        "bookworm", str(tar),
    ]
    # fmt: on
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mmdebstrap for {architecture}: {done.stderr.strip() or done.stdout.strip()}")
