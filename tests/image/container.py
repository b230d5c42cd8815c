"""Runs an image out of buildah's storage, as a pod of k8s/base does: read-only root, no rights, /tmp in memory.

By runc, where it is installed; else in a chroot by buildah, which neither makes the root read-only nor gives it a /tmp
of its own. The user is the image's, the network the machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from tests.image.engine import buildah

_STOP_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Container:
    """`process` is the runtime's; `log` is all that both sides wrote so far. `read_only`: whether the root is."""

    process: subprocess.Popen[bytes]
    log_path: Path
    read_only: bool
    words: tuple[str, ...]

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM to its first process; the exit code. SIGKILL where it does not go in time."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            # The runtime's own helpers are not told: the first process of the image is its entry point.
            if self.words[0] in " ".join(process.cmdline()) and "buildah" not in process.name():
                process.send_signal(signal.SIGTERM)
                break
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextmanager
def running(
    tag: str, *arguments: str, models: Path | None = None, entry_point: tuple[str, ...] = ()
) -> Iterator[Container]:
    """The image's entry point, or another, with arguments; ended whatever happens. models: a folder for /models."""
    container = buildah("from", "--pull-never", tag)
    try:
        config = json.loads(buildah("inspect", container))["Docker"]["config"]
        words = (*(entry_point or config["Entrypoint"]), *arguments)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            read_only = shutil.which("runc") is not None
            if read_only:
                root = Path(buildah("mount", container))
                (folder / "config.json").write_text(json.dumps(runc_config(root, config, words, models)))
                command = [
                    "runc",
                    "--root",
                    f"{folder}/state",
                    "run",
                    "--bundle",
                    str(folder),
                    f"tenclip-{os.getpid()}",
                ]
            else:
                volume = ["--volume", f"{models}:/models:ro"] if models else []
                command = [
                    "buildah",
                    "run",
                    "--isolation",
                    "chroot",
                    "--user",
                    config["User"],
                    *volume,
                    container,
                    "--",
                    *words,
                ]
            with (folder / "log").open("wb") as log:
                yield from _run(command, log, folder / "log", read_only, words)
    finally:
        buildah("rm", container)


def _run(
    command: list[str], log: IO[bytes], log_path: Path, read_only: bool, words: tuple[str, ...]
) -> Iterator[Container]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    container = Container(process=process, log_path=log_path, read_only=read_only, words=words)
    try:
        yield container
    finally:
        if process.poll() is None:
            container.stop()


def runc_config(root: Path, config: dict[str, Any], words: tuple[str, ...], models: Path | None) -> dict[str, Any]:
    """A bundle's config.json of the OCI's runtime specification 1.0. config: the image's own."""
    user, _, group = config["User"].partition(":")
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
    ]
    if models:
        mounts.append(
            {"destination": "/models", "type": "bind", "source": str(models.resolve()), "options": ["rbind", "ro"]}
        )
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": int(user), "gid": int(group)},
            "args": list(words),
            "env": config["Env"],
            "cwd": config["WorkingDir"],
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }
