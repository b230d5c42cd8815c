"""TensorRT 10 and 11: engines that `tenclip export --format tensorrt` built for this GPU with this version.

An engine runs on the kind of GPU and the version of TensorRT that built it, so both are in its path:
`tensorrt/NVIDIA-A10G_trt11.4.1/fp16.plan`.
"""

from __future__ import annotations

import math
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import BundleError, MissingDependency
from tenclip_serving.runtimes import cuda
from tenclip_serving.runtimes.base import Clips, Outputs, check_clips, without_logits


def engine_key(gpu: str, tensorrt_version: str) -> str:
    """The name of the folder for a GPU and a version.

    >>> engine_key("NVIDIA A100-SXM4-40GB", "11.4.1.15")
    'NVIDIA-A100-SXM4-40GB_trt11.4.1.15'
    """
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', gpu).strip('-')}_trt{tensorrt_version}"


def local_key() -> str | None:
    """`engine_key` of this machine; None without a GPU or without TensorRT. TensorRT is not imported to find out."""
    gpu = cuda.gpu_name()
    try:
        return None if gpu is None else engine_key(gpu, version("tensorrt"))
    except PackageNotFoundError:
        return None


def load_tensorrt() -> Any:
    """The module, on a machine that has a GPU for it. Raises MissingDependency that says what is missing."""
    missing = [] if cuda.gpu_name() is not None else ["an NVIDIA GPU with its driver (libcuda.so.1)"]
    try:
        import tensorrt
    except (ModuleNotFoundError, ImportError) as err:
        missing.append(f"the tensorrt package ({err}): pip install 'tenclip[gpu]'")
    if missing:
        raise MissingDependency(f"TensorRT needs {' and '.join(missing)}")
    return tensorrt


def error_log(trt: Any) -> Any:
    """A logger that keeps errors for our own messages instead of printing them: `take()` gives and forgets them."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def take(self) -> str:
            said, self.errors = "; ".join(self.errors), []
            return said

    return Log()


def check_memory(engine: Any, path: Path, limit_mb: int) -> None:
    """Raises BundleError for an engine that takes more than `limit_mb` MiB of activations; 0 is no limit."""
    # TensorRT 10.1 renamed it; 11 has only the new name.
    size = getattr(engine, "device_memory_size_v2", None)
    needed = int(engine.device_memory_size if size is None else size)
    if limit_mb and needed > limit_mb << 20:
        raise BundleError(
            f"{path}: its activations take {needed >> 20} MiB of the GPU and {limit_mb} are allowed; build it for "
            "smaller batches"
        )


class TensorRtRuntime:
    """An engine with one execution context. Clips larger than its batch run in several goes.

    Clips and outputs go through pinned memory on a stream of its own: one instance copies while another computes.
    gpu_memory_mb: an engine whose activations take more MiB of the GPU is refused; 0: none is.
    Raises MissingDependency without TensorRT or a GPU, BundleError for an engine of another GPU or version.
    """

    name = "tensorrt"

    on_gpu = True

    def __init__(self, path: Path, *, threads: int = 0, gpu_memory_mb: int = 0) -> None:
        self._trt = load_tensorrt()
        here = local_key()
        if path.parent.name != here:
            raise BundleError(f"{path}: an engine of {path.parent.name}; this machine is {here}: export it here")
        self._device = cuda.Device()
        self._log = error_log(self._trt)
        with self._device:
            self._runtime = self._trt.Runtime(self._log)
            self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
            if self._engine is None:
                said = self._log.take() or "export it again on this machine"
                raise BundleError(f"{path}: TensorRT cannot load this engine: {said}")
            check_memory(self._engine, path, gpu_memory_mb)
            self._context = self._engine.create_execution_context()
            if self._context is None:
                raise BundleError(f"{path}: no room for this engine's activations: {self._log.take()}")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._outputs = [name for name in ("logits", "features") if name in names]
        # Profile 0 has the largest batch; see `tensorrt_engine.PROFILE`.
        _, optimal, largest = self._engine.get_tensor_profile_shape("clips", 0)
        self.batch_size, self._max_batch = int(optimal[0]), int(largest[0])

    def run(self, clips: Clips) -> Outputs:
        check_clips(clips)
        with self._device:
            parts = [self._run(clips[i : i + self._max_batch]) for i in range(0, len(clips), self._max_batch)]
        return Outputs(np.concatenate([p.logits for p in parts]), np.concatenate([p.features for p in parts]))

    def _run(self, clips: Clips) -> Outputs:
        if not self._context.set_input_shape("clips", clips.shape):
            raise ValueError(f"the engine was built for other clips than {clips.shape}")
        address = self._device.buffer("clips", clips.nbytes)
        self._context.set_tensor_address("clips", address)
        pinned = self._device.pinned("clips", clips.shape, np.uint8)
        np.copyto(pinned, clips)
        self._device.upload(address, pinned)
        results: dict[str, NDArray[np.float32]] = {}
        addresses: dict[str, int] = {}
        for name in self._outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            results[name] = self._device.pinned(name, shape, np.float32)
            addresses[name] = self._device.buffer(name, 4 * math.prod(shape))
            self._context.set_tensor_address(name, addresses[name])
        if not self._context.execute_async_v3(self._device.stream):
            raise BundleError(f"TensorRT could not run the engine: {self._log.take()}")
        for name, array in results.items():
            self._device.download(addresses[name], array)
        self._device.wait()
        results = {name: array.copy() for name, array in results.items()}
        if "logits" not in results:
            return without_logits(results["features"])
        return Outputs(results["logits"], results["features"])
