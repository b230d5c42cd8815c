"""The server's image: its size by layer and by package, and how soon after its start it answers.

Built by buildah from the real Dockerfile, on PYTHON_IMAGE or, without one, on Debian's Python (tests/image/base.py);
run as its pod is, where runc is installed. Seconds count from the call of the runtime to the first health check that
succeeds and to the first prediction, on a bundle of random weights: once with files that the kernel was asked to drop
from memory, then with files that are there.

    python -m tests.benchmarks image
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tenclip_client import Client
from tenclip_serving.healthcheck import check_health
from tests.image.base import TAG as BASE
from tests.image.base import make_base
from tests.image.container import Container, running
from tests.image.engine import Build, buildah, mounted, run_build
from tests.tenclip_serving.helpers import make_video

SERVICE = "tenclip.v1.VideoRecognition"
_START_SECONDS = 300.0


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="", help="one that buildah has, instead of a build")
    parser.add_argument("--python-image", default=os.environ.get("PYTHON_IMAGE", ""))
    parser.add_argument("--extra", default="serve")
    parser.add_argument("--architecture", default="r2plus1d_18")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    console = Console(highlight=False)
    tag = options.image or build(options.python_image, options.extra)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the image's user reads the bundle
        sizes = measure_sizes(tag, folder)
        print_sizes(sizes, console)
        starts = measure_starts(tag, folder, options.architecture, options.rounds)
        print_starts(starts, console)
    return {"image": tag, "sizes": sizes, "starts": starts}


def build(python_image: str, extra: str) -> str:
    if not python_image:
        python_image = BASE
        if subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True).returncode:
            make_base()
    tag = f"localhost/tenclip-bench:{extra.replace(',', '-')}"
    run_build("buildah", Build(tag=tag, extra=extra, python_image=python_image, more=certificates()))
    return tag


def certificates() -> tuple[str, ...]:
    """This machine's authorities for the build, where it has a file of them of its own."""
    return ("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro") if Path("/etc/ssl/certs").is_dir() else ()


# -- size --------------------------------------------------------------------------------------------------------------


def measure_sizes(tag: str, folder: Path) -> dict[str, Any]:
    """Bytes: of each layer as a registry has it (gzip), and of files by folder, packages by name."""
    layout = folder / "oci"
    buildah("push", "--quiet", "--format", "oci", tag, f"oci:{layout}:image")
    (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
    layers = [layer["size"] for layer in json.loads(blob(layout, manifest["digest"]).read_text())["layers"]]
    with mounted(tag) as root:
        (site_packages,) = (root / "opt/tenclip").glob("lib/python*/site-packages")
        base = sum(count_files(child).total() for child in root.iterdir() if child.name not in ("opt", "proc", "sys"))
        packages = count_files(site_packages)
        environment = count_files(root / "opt").total()
    return {
        "compressed_layers": layers,
        "compressed": sum(layers),
        "base": base,
        "environment": environment,
        "packages": dict(packages.most_common(12)),
    }


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def count_files(folder: Path) -> Counter[str]:
    """Bytes of files below, by the first part of their path, a package's `.libs` with the package."""
    found: Counter[str] = Counter()
    paths = [folder] if not folder.is_dir() or folder.is_symlink() else folder.rglob("*")
    for path in paths:
        status = path.lstat()
        if path.is_symlink() or path.is_file():
            parts = path.relative_to(folder).parts
            found[parts[0].removesuffix(".libs") if parts else folder.name] += status.st_size
    return found


def print_sizes(sizes: dict[str, Any], console: Console) -> None:
    table = Table("what", "MB")
    for index, size in enumerate(sizes["compressed_layers"]):
        if size > 100_000:
            table.add_row(f"layer {index}, compressed", f"{size / 1e6:.1f}")
    table.add_row("all layers, compressed", f"{sizes['compressed'] / 1e6:.1f}")
    table.add_row("base, unpacked", f"{sizes['base'] / 1e6:.1f}")
    table.add_row("environment, unpacked", f"{sizes['environment'] / 1e6:.1f}")
    for name, size in sizes["packages"].items():
        table.add_row(f"  {name}", f"{size / 1e6:.1f}")
    console.print(table)


# -- start -------------------------------------------------------------------------------------------------------------


def measure_starts(tag: str, folder: Path, architecture: str, rounds: int) -> dict[str, Any]:
    models, video = folder / "models", make_video(folder / "video.mp4", num_frames=120, size=(320, 240))
    make_real_bundle(models, architecture)
    cold = one_start(tag, models, video) if drop_page_cache() else None
    warm = [one_start(tag, models, video) for _ in range(rounds)]
    # A bundle's share of a start: the same image without its loading.
    return {
        "architecture": architecture,
        "read_only_root": warm[0]["read_only_root"],
        "cold": cold,
        "healthy_seconds": median(start["healthy_seconds"] for start in warm),
        "predicted_seconds": median(start["predicted_seconds"] for start in warm),
        "second_prediction_seconds": median(start["second_prediction_seconds"] for start in warm),
        "rounds": warm,
    }


def make_real_bundle(models: Path, architecture: str) -> None:
    import torch

    from tenclip_export.bundle_writer import export_bundle
    from tenclip_training.models import create_model
    from tenclip_video.spec import ClipSpec

    torch.manual_seed(0)
    spec = ClipSpec(num_frames=8, crop=112, fully_convolutional_crop=None)
    export_bundle(
        create_model(architecture, num_classes=400, num_frames=8, crop=112).eval(), spec, models, name="bench"
    )
    for path in [models, *models.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def drop_page_cache() -> bool:
    """Whether the kernel let it."""
    os.sync()
    with suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def one_start(tag: str, models: Path, video: Path) -> dict[str, Any]:
    """Raises SystemExit, with the server's log, where it ends or does not answer in time, or SIGTERM ends it badly."""
    target = f"127.0.0.1:{free_port()}"
    arguments = ("--port", target.rpartition(":")[2], "--metrics-port", "0", "--shutdown-delay-seconds", "0")
    started = time.perf_counter()
    with running(tag, *arguments, models=models) as container:
        wait_until_healthy(container, target, started)
        healthy = time.perf_counter() - started
        with Client(target) as client:
            client.predict(str(video))
            predicted = time.perf_counter() - started
            client.predict(str(video))
            second = time.perf_counter() - started - predicted
        code = container.stop()
        if code != 0:
            raise SystemExit(f"the server ended with exit code {code} after SIGTERM: {container.log}")
        return {
            "healthy_seconds": healthy,
            "predicted_seconds": predicted,
            "second_prediction_seconds": second,
            "read_only_root": container.read_only,
        }


def wait_until_healthy(container: Container, target: str, started: float) -> None:
    while not check_health(target, service=SERVICE, timeout_seconds=1)[0]:
        if container.process.poll() is not None or time.perf_counter() - started > _START_SECONDS:
            raise SystemExit(f"the server did not become healthy: {container.log}")
        time.sleep(0.02)


def print_starts(starts: dict[str, Any], console: Console) -> None:
    rows = {"median": starts, "files not in memory": starts["cold"]}
    table = Table("start", "s to healthy", "s to the first prediction", "s of the second")
    for name, row in rows.items():
        if row:
            keys = ("healthy_seconds", "predicted_seconds", "second_prediction_seconds")
            table.add_row(name, *(f"{row[key]:.2f}" for key in keys))
    console.print(table)
    root = "read-only" if starts["read_only_root"] else "writable (no runc here)"
    console.print(f"{starts['architecture']}, random weights, 8 frames at 112; root file system {root}", markup=False)
