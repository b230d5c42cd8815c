"""A device whose memory is full: the batch is halved and runs again, and the server goes on.

How much a batch takes is known only when it runs: it depends on the shape of clips, on the kernels that are chosen, and
on what else is on the device. So nothing is reserved beforehand; a batch that does not fit runs in parts.
"""

from __future__ import annotations

import logging

import numpy as np

from tenclip_api.errors import DeviceMemoryFull
from tenclip_serving.runtimes.base import Clips, Outputs, Runtime
from tenclip_serving.telemetry.logs import log

# After so many calls that were split, the whole batch is tried again: what took the memory may have gone.
RETRY_EVERY = 1000
# What CUDA, cuDNN, cuBLAS, ONNX Runtime's arena, TensorRT and torch say. In lower case.
_SAYINGS = (
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "failed to allocate memory",
    "cudaerrormemoryallocation",
    "smaller than requested bytes",  # ONNX Runtime, at gpu_mem_limit
    "status_alloc_failed",  # CUDNN_ and CUBLAS_
)


def is_out_of_memory(err: BaseException) -> bool:
    """Does an exception of a runtime say that memory ran out? Their classes are of no help: most are RuntimeError."""
    if isinstance(err, MemoryError):
        return True
    text = f"{type(err).__name__}: {err}".lower()
    return any(saying in text for saying in _SAYINGS)


class SplittingRuntime:
    """A runtime on a GPU, whose batches are halved as long as its memory is full.

    The size that fits is kept for each shape of clips, and tried again at full size once in `RETRY_EVERY` calls.
    num_splits: times that a batch was halved.
    """

    on_gpu = True

    def __init__(self, runtime: Runtime) -> None:
        self.inner = runtime
        self.num_splits = 0
        self._fits: dict[tuple[int, ...], int] = {}
        self._limited_calls: dict[tuple[int, ...], int] = {}

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def batch_size(self) -> int:
        return self.inner.batch_size

    def run(self, clips: Clips) -> Outputs:
        """Outputs of all clips, whatever parts they ran in. Raises DeviceMemoryFull where one clip is too much."""
        shape = clips.shape[1:]
        size = self._size(shape, len(clips))
        parts: list[Outputs] = []
        done = 0
        while done < len(clips) or not parts:
            part = clips[done : done + size]
            try:
                parts.append(self.inner.run(part))
            except Exception as err:  # a runtime's own kinds
                if not is_out_of_memory(err):
                    raise
                self._halve(part, err)
                size = self._fits[shape]
            else:
                done += len(part)
                if len(part) > self._fits.get(shape, len(part)):
                    self._fits[shape] = len(part)
        if len(parts) == 1:
            return parts[0]
        return Outputs(np.concatenate([p.logits for p in parts]), np.concatenate([p.features for p in parts]))

    def _size(self, shape: tuple[int, ...], wanted: int) -> int:
        fits = self._fits.get(shape)
        if fits is None or wanted <= fits:
            return max(1, wanted)
        calls = self._limited_calls[shape] = self._limited_calls.get(shape, 0) + 1
        return wanted if calls % RETRY_EVERY == 0 else fits

    def _halve(self, clips: Clips, err: Exception) -> None:
        first_line = str(err).strip().partition("\n")[0]
        shape = "x".join(map(str, clips.shape[1:4]))
        if len(clips) <= 1:
            raise DeviceMemoryFull(f"a clip of {shape} does not fit into the GPU's memory now: {first_line}") from err
        # A power of two, so that sizes agree with those that batching learns.
        half = 1 << ((len(clips) - 1).bit_length() - 1)
        self._fits[clips.shape[1:]] = half
        self.num_splits += 1
        message = f"the GPU's memory is full: {len(clips)} clips of {shape} run in parts of {half} from now on"
        log(logging.WARNING, message, runtime=self.name, reason=first_line)


def uses_gpu(runtime: Runtime) -> bool:
    """Does it run on a GPU? Models there share one device, and those on the CPU another."""
    return bool(getattr(runtime, "on_gpu", False))


def num_splits(runtime: Runtime) -> int:
    """Times that a batch of it was halved for lack of memory."""
    return runtime.num_splits if isinstance(runtime, SplittingRuntime) else 0
