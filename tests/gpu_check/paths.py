"""Where the packages are on a machine on which nothing is installed. Only Python's own modules are imported here."""

from __future__ import annotations

import importlib.util
import os
import sys
import tomllib
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("training", "export", "serving", "clients")
WHEELS = PROJECT / ".gpu-wheels"
# What the check imports beside torch and numpy; with the name of the package that brings it.
NEEDED = {
    "av": "av",
    "cv2": "opencv-python-headless",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "google.protobuf": "protobuf",
    "ml_dtypes": "ml-dtypes",
    "msgspec": "msgspec",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "PIL": "pillow",
    "prometheus_client": "prometheus-client",
    "psutil": "psutil",
    "pyarrow": "pyarrow",
    "rich": "rich",
    "typer": "typer",
}


def prepare_paths(folder: Path, wheels: Path = WHEELS) -> None:
    """Make the project's packages and the carried wheels importable, here and in processes that this one starts.

    folder: the wheels are unpacked below it. They come before what is installed: they were chosen for this tree.
    """
    site = folder / "site"
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    paths = [str(site), str(PROJECT)]
    if importlib.util.find_spec("tenclip_training") is None:
        paths += [str(PROJECT / room) for room in ROOMS]
        _write_metadata(site)
    sys.path[:0] = paths
    importlib.invalidate_caches()
    earlier = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *([earlier] if earlier else [])])


def _write_metadata(site: Path) -> None:
    """What tells the project's version, as an installation would have."""
    about = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = site / f"{about['name']}-{about['version']}.dist-info"
    folder.mkdir(parents=True)
    lines = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    (folder / "METADATA").write_text(lines, encoding="utf-8")


def missing_packages() -> list[str]:
    """Packages of `NEEDED` that cannot be imported."""
    return [package for module, package in NEEDED.items() if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
