"""The images, built for real by buildah, are what the Dockerfile and the manifests say.

    python -m tests.soak.image [--python-image IMAGE] [--targets batch server]

Each target is built twice without a cache: both have the same layers, byte for byte. It is run as its pod is (with a
read-only root where runc is installed): the batch client says its commands, the server passes its health check,
predicts on both runtimes and ends with exit code 0 after SIGTERM. The bill of materials in it names every package that
is installed, with the hashes of the locks, and is valid. Without --python-image, a base of Debian's packages is made,
as root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tenclip_client import Client
from tests.benchmarks.bench_image import certificates, free_port, wait_until_healthy
from tests.image.base import TAG as BASE
from tests.image.base import make_base
from tests.image.container import running
from tests.image.engine import Build, buildah, mounted, read_sbom, run_build
from tests.tenclip_serving.helpers import make_bundle, make_video

# A constant, so that a commit between two builds changes nothing.
_EPOCH = "1700000000"


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python-image", default=os.environ.get("PYTHON_IMAGE", ""))
    parser.add_argument("--targets", nargs="*", default=["batch", "server"])
    options = parser.parse_args(argv)
    if not options.python_image and not has_image(BASE):
        make_base()
    failures: list[str] = []
    seconds = {}
    for target in options.targets:
        started = time.monotonic()
        tags = [build(target, options.python_image or BASE, f"localhost/tenclip-proof-{target}:{i}") for i in "ab"]
        if layers(tags[0]) != layers(tags[1]):
            failures.append(f"{target}: two builds have different layers")
        failures += check_image(tags[0], target)
        seconds[target] = round(time.monotonic() - started)
    print("\n".join(failures) or "all as it should be")
    what = " and ".join(options.targets)
    summary = f"{what} built twice by buildah, equal byte for byte, and run: {len(failures)} failures"
    return {"passed": not failures, "summary": summary, "failures": failures, "seconds": seconds}


def has_image(tag: str) -> bool:
    return subprocess.run(["buildah", "images", "--quiet", tag], capture_output=True).returncode == 0


def build(target: str, python_image: str, tag: str, *, cache: bool = False) -> str:
    more = (*certificates(), *(() if cache else ("--no-cache",)), "--build-arg", f"SOURCE_DATE_EPOCH={_EPOCH}")
    run_build("buildah", Build(tag=tag, target=target, python_image=python_image, more=more), quiet=True)
    return tag


def layers(tag: str) -> list[str]:
    """Digests of the layers, uncompressed."""
    found = json.loads(buildah("inspect", "--type", "image", tag))["OCIv1"]["rootfs"]["diff_ids"]
    return [str(digest) for digest in found]


def check_image(tag: str, target: str) -> list[str]:
    """What is wrong with an image."""
    return [f"{target}: {problem}" for problem in (*check_sbom(tag), *check_files(tag), *RUNS[target](tag))]


def check_sbom(tag: str) -> list[str]:
    from tenclip_image.sbom import normalise, validate

    text = read_sbom("buildah", tag)
    try:
        validate(text)
    except SystemExit as error:
        return [str(error)]
    components = json.loads(text)["components"]
    python = {
        normalise(c["name"]): c
        for c in components
        if c.get("purl", "").startswith(("pkg:pypi/", "pkg:generic/tenclip"))
    }
    with mounted(tag) as root:
        folders = (root / "opt/tenclip").glob("lib/python*/site-packages/*.dist-info")
        installed = {normalise(folder.name.partition("-")[0]) for folder in folders}
    differences = sorted(set(python) ^ installed)
    problems = [f"installed or in the bill, but not both: {differences}"] if differences else []
    for name, component in python.items():
        if name != "tenclip" and not (component.get("hashes") and component.get("licenses") and component["version"]):
            problems.append(f"the bill lacks a hash or a licence of {name}")
    return problems + ([] if any(c["purl"].startswith("pkg:deb/") for c in components if "purl" in c) else ["no dpkg"])


def check_files(tag: str) -> list[str]:
    """No pip, no torch, bytecode for every module that does not look at times, nothing that others may write."""
    problems = []
    with mounted(tag) as root:
        environment = root / "opt/tenclip"
        (site_packages,) = environment.glob("lib/python*/site-packages")
        problems += [f"{name} is in it" for name in ("pip", "torch") if (site_packages / name).exists()]
        for path in environment.rglob("*"):
            status = path.lstat()
            if not path.is_symlink() and status.st_mode & 0o022:
                problems.append(f"others may write {path.relative_to(root)}")
            if path.suffix == ".pyc" and int.from_bytes(path.read_bytes()[4:8], "little") != 1:
                problems.append(f"{path.relative_to(root)} is looked at for its time")  # PEP 552
        if not list(site_packages.glob("tenclip_client/__pycache__/*.pyc")):
            problems.append("no bytecode")
    return problems


def run_batch(tag: str) -> list[str]:
    with running(tag, "--help") as container:
        code = container.process.wait(60)
        return [] if code == 0 and "features" in container.log else [f"--help ends with {code}: {container.log}"]


def run_server(tag: str) -> list[str]:
    return [problem for runtime in ("onnxruntime", "openvino") for problem in serve(tag, runtime)]


def serve(tag: str, runtime: str) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        models = Path(name) / "models"
        make_bundle(models)
        for path in [Path(name), *models.rglob("*"), models]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        video = make_video(Path(name) / "video.mp4")
        target = f"127.0.0.1:{free_port()}"
        arguments = ("--port", target.rpartition(":")[2], "--metrics-port", "0", "--runtime", runtime)
        with running(tag, *arguments, "--shutdown-delay-seconds", "0", models=models) as container:
            wait_until_healthy(container, target, time.perf_counter())
            with Client(target) as client:
                label = client.predict(str(video)).top[0].label
            code = container.stop()
            if code or not label or not re.search(runtime, container.log):
                return [f"on {runtime}: exit code {code}, label {label!r}: {container.log}"]
    return []


RUNS = {"batch": run_batch, "server": run_server}


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
