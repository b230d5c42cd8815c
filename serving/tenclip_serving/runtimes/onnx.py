"""ONNX Runtime: on the CPU the portable one, and on NVIDIA GPUs through its CUDA and TensorRT providers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import BundleError, MissingDependency
from tenclip_serving.runtimes import cuda
from tenclip_serving.runtimes.base import Clips, Outputs, check_clips, without_logits

OUTPUTS = ["logits", "features"]
# TensorFloat-32 is off: it moves logits by 1e-3, which is not what a float32 variant promises.
# Its arena grows by what is asked for, not to the next power of two: memory that it took it never gives back.
CUDA = ("CUDAExecutionProvider", {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"})
# The two providers read options by rules of their own: TensorRT's takes True and False as Python writes them, not 1.
# Its timing cache is a file in the working directory, where that can be written.
TENSORRT = ("TensorrtExecutionProvider", {"trt_timing_cache_enable": "True"})
CPU: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
# Runtime -> providers with their options. Nodes that one does not take go to the next.
PROVIDERS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "onnxruntime": [CPU],
    "onnxruntime-cuda": [CUDA, CPU],
    "onnxruntime-tensorrt": [TENSORRT, CUDA, CPU],
}


def providers(name: str, gpu_memory_mb: int = 0) -> list[tuple[str, dict[str, str]]]:
    """`PROVIDERS[name]` with a ceiling to the memory that they take of a GPU, in MiB; 0: none.

    >>> providers("onnxruntime-cuda", 512)[0][1]["gpu_mem_limit"]
    '536870912'
    """
    limits = {
        "CUDAExecutionProvider": {"gpu_mem_limit": str(gpu_memory_mb << 20)},
        "TensorrtExecutionProvider": {"trt_max_workspace_size": str(gpu_memory_mb << 20)},
    }
    return [(p, {**options, **(limits.get(p, {}) if gpu_memory_mb else {})}) for p, options in PROVIDERS[name]]


def missing_provider(name: str) -> str | None:
    """The provider that the runtime `name` needs and that the installed ONNX Runtime was built without, or None."""
    wanted = PROVIDERS[name][0][0]
    if name == "onnxruntime":
        return None
    import onnxruntime as ort

    return None if wanted in ort.get_available_providers() else f"ONNX Runtime's {wanted} (package onnxruntime-gpu)"


class OnnxRuntime:
    """An ONNX Runtime session over `model.onnx`. `name` says with which providers, see `PROVIDERS`.

    threads: of one operator; 0 lets ONNX Runtime choose (one for each physical core). `spin`: its threads wait busily
    for the next operator. That is a little faster alone on a machine, and burns the cores that decoding needs; so it
    is off. gpu_memory_mb: most MiB of this session's arena on a GPU; 0: no ceiling.
    Raises MissingDependency without ONNX Runtime, its provider or the GPU for it; BundleError for a graph that does not
    load or has other inputs and outputs than a bundle's.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        spin: bool = False,
        name: str = "onnxruntime",
        gpu_memory_mb: int = 0,
    ) -> None:
        self.name = name
        self.on_gpu = name != "onnxruntime"
        self.batch_size = 1 if name == "onnxruntime" else 8
        try:
            import onnxruntime as ort
        except ModuleNotFoundError as err:
            raise MissingDependency("ONNX Runtime is not installed: pip install 'tenclip[serve]'") from err
        _check_provider(name)
        if self.on_gpu:
            _load_libraries(name)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; its warnings are about graph rewrites that nobody can act on
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        try:
            # No fallback: it would go on with other providers after an error, at its start and in the midst of running.
            self._session: Any = ort.InferenceSession(
                str(path), options, providers=providers(name, gpu_memory_mb), enable_fallback=0
            )
        except Exception as err:  # its exceptions share no base class but Exception
            # What is wrong with a graph has a class of its own.
            if self.on_gpu and isinstance(err, RuntimeError | ValueError):
                raise _not_started(name, _first_line(err)) from err
            raise BundleError(f"{path}: ONNX Runtime cannot load it: {_first_line(err)}") from err
        # All the same it leaves out a provider whose libraries are not found, without a word.
        if (wanted := PROVIDERS[name][0][0]) not in (got := self._session.get_providers()):
            raise _not_started(name, f"it left {wanted} out and would run on {got[0]}")
        inputs = [i.name for i in self._session.get_inputs()]
        outputs = [o.name for o in self._session.get_outputs()]
        if inputs != ["clips"] or "features" not in outputs:
            raise BundleError(f"{path}: inputs {inputs} and outputs {outputs}; a bundle has ['clips'] and {OUTPUTS}")
        self._classifies = "logits" in outputs

    def run(self, clips: Clips) -> Outputs:
        check_clips(clips)
        inputs = {"clips": np.ascontiguousarray(clips)}
        if not self._classifies:
            return without_logits(self._session.run(["features"], inputs)[0])
        logits, features = self._session.run(OUTPUTS, inputs)
        return Outputs(logits, features)


def _check_provider(name: str) -> None:
    lacking = missing_provider(name)
    if lacking is None and name != "onnxruntime" and cuda.gpu_name() is None:
        lacking = "an NVIDIA GPU with its driver (libcuda.so.1)"
    if lacking is not None:
        raise MissingDependency(f"{name} needs {lacking}; it is not here, so take onnxruntime or openvino")


def _load_libraries(name: str) -> None:
    """CUDA, cuDNN and TensorRT as Python packages lie where no loader looks; what is loaded already is found."""
    import onnxruntime as ort

    ort.preload_dlls()
    if name == "onnxruntime-tensorrt":
        # Its libraries may also be the system's, without the Python package.
        with contextlib.suppress(ImportError):
            import tensorrt  # noqa: F401


def _not_started(name: str, why: str) -> MissingDependency:
    libraries = "CUDA, cuDNN and TensorRT" if name == "onnxruntime-tensorrt" else "CUDA and cuDNN"
    return MissingDependency(
        f"{name}: ONNX Runtime could not start {PROVIDERS[name][0][0]}: {why}; it needs {libraries} in the versions "
        "that it was built for, as pip install 'tenclip[gpu]' brings them"
    )


def _first_line(err: Exception) -> str:
    return str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
