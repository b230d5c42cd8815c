"""Runtimes, which execute a bundle's variants. `create_runtime` makes one by name; base.py has their interface."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tenclip_serving.runtimes import cuda
from tenclip_serving.runtimes.base import Clips, Outputs, Runtime, check_clips
from tenclip_serving.runtimes.onnx import PROVIDERS, OnnxRuntime, missing_provider
from tenclip_serving.runtimes.openvino import OpenVinoRuntime
from tenclip_serving.runtimes.out_of_memory import SplittingRuntime, uses_gpu
from tenclip_serving.runtimes.tensorrt import TensorRtRuntime, local_key

__all__ = [
    "Clips", "Outputs", "Runtime", "check_clips", "RUNTIMES", "GPU_RUNTIMES", "CHOSEN_ON_GPU", "available_runtimes",
    "create_runtime", "missing", "reads", "uses_gpu",
]  # fmt: skip

# Name -> (formats of `Variant.format` that it reads, the one it likes best first). In the order of preference where
# a bundle has no measured speeds.
RUNTIMES: dict[str, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "onnxruntime-cuda": ("onnx",),
    "openvino": ("openvino", "onnx"),
    "onnxruntime": ("onnx",),
    "onnxruntime-tensorrt": ("onnx",),
    "torch": ("torch",),
}
GPU_RUNTIMES = frozenset({"tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt"})
# Never chosen by themselves: torch takes gigabytes of memory and seconds to import, and ONNX Runtime's TensorRT
# provider minutes to build its engines at every start.
ON_REQUEST = frozenset({"torch", "onnxruntime-tensorrt"})
# What is chosen on a GPU, in the order of preference.
CHOSEN_ON_GPU = tuple(name for name in RUNTIMES if name in GPU_RUNTIMES - ON_REQUEST)


def missing(name: str) -> str | None:
    """The part that this machine lacks for the runtime `name`, None where nothing is missing. Imports nothing heavy."""
    if name not in RUNTIMES:
        raise ValueError(f"runtime {name!r} is not one of {', '.join(RUNTIMES)}")
    module = name.partition("-")[0]
    if importlib.util.find_spec(module) is None:
        return f"the package {module}"
    if name in GPU_RUNTIMES and cuda.gpu_name() is None:
        return "an NVIDIA GPU"
    return missing_provider(name) if name in PROVIDERS else None


def available_runtimes(*, on_request: bool = False) -> tuple[str, ...]:
    """Names of the runtimes that work here, the preferred one first; those that are never chosen by themselves only
    with `on_request`."""
    return tuple(name for name in RUNTIMES if (on_request or name not in ON_REQUEST) and missing(name) is None)


def reads(name: str, format: str, path: str) -> bool:
    """Does the runtime `name` execute, on this machine, a variant of `format` that lies at `path`?"""
    if format == "tensorrt" and Path(path).parent.name != local_key():
        return False
    return format in RUNTIMES[name]


def create_runtime(name: str, path: Path, *, threads: int = 0, gpu_memory_mb: int = 0) -> Runtime:
    """The runtime `name` over the graph, engine or program in `path`.

    On a GPU, batches for which its memory is too full run in parts (`SplittingRuntime`). gpu_memory_mb: a ceiling to
    what it takes there, in MiB; 0: none. It is one session's with ONNX Runtime and the process's with torch; an engine
    of TensorRT is refused if it needs more.
    Raises ValueError for an unknown name, MissingDependency where it is not installed or lacks its hardware,
    BundleError for a file that does not load.
    """
    runtime = _create(name, path, threads, gpu_memory_mb)
    return SplittingRuntime(runtime) if uses_gpu(runtime) else runtime


def _create(name: str, path: Path, threads: int, gpu_memory_mb: int) -> Runtime:
    if name == "openvino":
        return OpenVinoRuntime(path, threads=threads)
    if name in PROVIDERS:
        return OnnxRuntime(path, threads=threads, name=name, gpu_memory_mb=gpu_memory_mb)
    if name == "tensorrt":
        return TensorRtRuntime(path, threads=threads, gpu_memory_mb=gpu_memory_mb)
    if name == "torch":
        from tenclip_serving.runtimes.torch import TorchRuntime

        return TorchRuntime(path, threads=threads, gpu_memory_mb=gpu_memory_mb)
    raise ValueError(f"runtime {name!r} is not one of {', '.join(RUNTIMES)}")
