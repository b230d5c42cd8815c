"""What executes a bundle's graph. `create_runtime` makes one by name; base.py says what all of them do."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tenclip_serving.runtimes.base import Clips, Outputs, Runtime, check_clips
from tenclip_serving.runtimes.onnx import OnnxRuntime
from tenclip_serving.runtimes.openvino import OpenVinoRuntime

__all__ = ["Clips", "Outputs", "Runtime", "check_clips", "RUNTIMES", "available_runtimes", "create_runtime"]

# Name -> (formats of `Variant.format` that it reads, the one it likes best first). In the order of preference where
# a bundle has no measured speeds.
RUNTIMES: dict[str, tuple[str, ...]] = {"openvino": ("openvino", "onnx"), "onnxruntime": ("onnx",)}


def available_runtimes() -> tuple[str, ...]:
    """Names of the runtimes that are installed here, the preferred one first."""
    return tuple(name for name in RUNTIMES if importlib.util.find_spec(name) is not None)


def create_runtime(name: str, path: Path, *, threads: int = 0) -> Runtime:
    """The runtime `name` over the graph in `path`.

    Raises ValueError for an unknown name, MissingDependency where it is not installed, BundleError for a graph that
    does not load.
    """
    if name == "openvino":
        return OpenVinoRuntime(path, threads=threads)
    if name == "onnxruntime":
        return OnnxRuntime(path, threads=threads)
    raise ValueError(f"runtime {name!r} is not one of {', '.join(RUNTIMES)}")
