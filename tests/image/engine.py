"""The images, by Docker's buildx or by buildah: one command line for both, with what makes builds repeatable.

BUILDAH_ISOLATION=chroot builds where no namespaces are to be had; CONTAINERS_STORAGE_CONF and STORAGE_DRIVER say where
buildah keeps images.
"""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.conftest import PROJECT

TARGETS = ("server", "batch", "train")
SBOM = "/opt/tenclip/sbom.cdx.json"
ENGINES = {"docker": ["docker", "buildx", "version"], "buildah": ["buildah", "version"]}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class NotPinned(Exception):
    """A base image without a digest, in a build for release."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build. platforms: as `linux/arm64`; none is this machine's own. more: words for the engine as they are."""

    tag: str
    target: str = "server"
    extra: str = ""
    platforms: tuple[str, ...] = ()
    python_image: str = ""
    source: str = ""
    release: bool = False
    more: tuple[str, ...] = ()

    def check_pinned(self) -> str:
        """A warning, empty where there is nothing to warn of. Raises NotPinned."""
        if "@sha256:" in self.python_image:
            return ""
        got = self.python_image or "the Dockerfile's default, which has no digest"
        say = f"PYTHON_IMAGE is not pinned by digest (NAME@sha256:...): {got}"
        if self.release:
            raise NotPinned(say)
        return f"{say}; another build may have another base. RELEASE=1 refuses this."


def own_platform() -> str:
    return f"linux/{_MACHINES.get(platform.machine(), platform.machine())}"


def find_engine(wanted: str = "") -> str:
    """`docker` where its buildx answers, else `buildah`. Raises SystemExit where there is neither."""
    for name, probe in ENGINES.items():
        if wanted in ("", name) and shutil.which(name) and subprocess.run(probe, capture_output=True).returncode == 0:
            return name
    raise SystemExit(
        f"no {wanted or 'docker with buildx, and no buildah'} here; Debian has buildah (apt-get install buildah)"
    )


def commit() -> tuple[str, int]:
    """(revision, its time in seconds since 1970) of the source; `-dirty` where files differ from the commit.

    ("", 0) where it is no git repository.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    revision, seconds = git("rev-parse", "HEAD"), git("log", "-1", "--format=%ct")
    dirty = bool(revision) and bool(git("status", "--porcelain", "--untracked-files=no"))
    return revision + "-dirty" * dirty, int(seconds or 0)


def build_command(engine: str, build: Build) -> list[str]:
    revision, seconds = commit()
    created = datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    arguments = {
        "PYTHON_IMAGE": build.python_image,
        "EXTRA": build.extra,
        "RELEASE": "1" if build.release else "",
        "SOURCE": build.source,
        "REVISION": revision,
        "CREATED": created if revision else "",
        "SOURCE_DATE_EPOCH": str(seconds),
    }
    if engine == "buildah":
        # HEALTHCHECK is not of the OCI's format. BUILDPLATFORM is left alone: given it, buildah 1.28 takes the base of
        # that platform for all stages. Without, it warns, and builds the wheel on the target's base.
        command = ["buildah", "build", "--format", "docker", "--layers", "--timestamp", str(seconds)]
    else:
        command = ["docker", "buildx", "build"]
    command += [word for k, v in arguments.items() if v for word in ("--build-arg", f"{k}={v}")]
    command += ["--target", build.target]
    if build.platforms:
        command += ["--platform", ",".join(build.platforms)]
    several = len(build.platforms) > 1
    command += ["--manifest" if several and engine == "buildah" else "--tag", build.tag]
    if engine == "docker" and not several and not {"--output", "--push"} & set(build.more):
        command.append("--load")
    return [*command, *build.more, str(PROJECT)]


def run_build(engine: str, build: Build, *, quiet: bool = False) -> None:
    """quiet: the engine's messages are shown only if it fails. Raises NotPinned and CalledProcessError."""
    if warning := build.check_pinned():
        print(f"WARNING: {warning}", file=sys.stderr)
    command = build_command(engine, build)
    print(shlex.join(command), flush=True)
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(command, text=True, stdout=output, stderr=subprocess.STDOUT if quiet else None)
    if done.returncode and quiet:
        print(done.stdout, file=sys.stderr)
    done.check_returncode()


def read_sbom(engine: str, tag: str) -> str:
    """The bill of materials out of an image that is here. Raises CalledProcessError."""
    if engine == "docker":
        command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", tag, SBOM]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with mounted(tag) as root:
        return (root / SBOM.lstrip("/")).read_text()


def buildah(*words: str | Path) -> str:
    """What it printed. Raises CalledProcessError with its messages in `stderr`."""
    done = subprocess.run(["buildah", *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def mounted(tag: str) -> Iterator[Path]:
    """The root file system of an image in buildah's storage, writable and thrown away."""
    container = buildah("from", "--pull-never", tag)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)
