"""How the torch runtime uses a GPU: a stream of its own, pinned buffers, a CUDA graph for each shape of clips.

torch is handed in: the server never imports it unless this runtime was chosen.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tenclip_serving.runtimes.base import Clips, Outputs
from tenclip_serving.runtimes.out_of_memory import is_out_of_memory
from tenclip_serving.telemetry.logs import log

# The most CUDA graphs: they share their memory, but each has its own input and outputs.
MAX_GRAPHS = 8
# One capture at a time: it waits for the device first, which would break another thread's.
_CAPTURE = threading.Lock()
_WARM_UP_RUNS = 3  # cuDNN chooses its kernels in the first ones, which cannot be captured

Program = Callable[[Any], tuple[Any, Any]]  # uint8 [B,T,H,W,3] on the device -> logits, features


class CudaProgram:
    """Runs a module on one GPU. Instances have streams of their own: one copies its clips while another computes.

    Clips go through one buffer of pinned memory, which the copy engine reads beside kernels; outputs come back the same
    way. The host waits once a batch, without Python's lock.
    device: "cuda" or "cuda:1". memory_mb: most MiB that this process takes of the GPU; 0: no ceiling.
    """

    def __init__(self, torch: Any, module: Any, device: str, *, memory_mb: int = 0) -> None:
        self._torch, self._module, self._device = torch, module, device
        if memory_mb:
            _limit_memory(torch, device, memory_mb)
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._staging: Any = torch.empty(0, dtype=torch.uint8)
        self._graphs: dict[tuple[int, ...], Program] = {}

    @property
    def captured(self) -> set[tuple[int, ...]]:
        """Shapes of clips that have a CUDA graph."""
        return {shape for shape, run in self._graphs.items() if run != self._eager}

    def run(self, clips: Clips) -> Outputs:
        """uint8 [B,T,H,W,3]. Raises what `is_out_of_memory` knows where it does not fit, all graphs given up."""
        try:
            return self._run(clips)
        except RuntimeError as err:  # torch's OutOfMemoryError is one; cuDNN and cuBLAS have no class for it
            if not is_out_of_memory(err):
                raise
        # Outside of the handler: the error's traceback would hold the tensors of the batch that failed.
        self._give_back()
        return self._run(clips)

    def _run(self, clips: Clips) -> Outputs:
        torch = self._torch
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            batch = self._to_pinned(clips)
            logits, features = self._runner(tuple(clips.shape))(batch)
            results = [self._to_host(logits), self._to_host(features)]
        self._stream.synchronize()
        return Outputs(*(result.numpy().copy() for result in results))

    def _to_pinned(self, clips: Clips) -> Any:
        """A copy of the clips in the pinned buffer, which grows and never shrinks."""
        torch = self._torch
        if self._staging.numel() < clips.nbytes:
            self._staging = torch.empty(clips.nbytes, dtype=torch.uint8, pin_memory=True)
        pinned = self._staging[: clips.nbytes].view(clips.shape)
        np.copyto(pinned.numpy(), clips)
        return pinned

    def _to_host(self, values: Any) -> Any:
        values = values.float()
        pinned = self._torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return pinned.copy_(values, non_blocking=True)

    def _runner(self, shape: tuple[int, ...]) -> Program:
        if shape not in self._graphs and len(self._graphs) < MAX_GRAPHS:
            try:
                with _CAPTURE:
                    self._graphs[shape] = self._capture(shape)
            except RuntimeError as err:
                if is_out_of_memory(err):
                    raise
                log(logging.WARNING, f"no CUDA graph for clips {shape}, running without: {err}")
                self._graphs[shape] = self._eager
        return self._graphs.get(shape, self._eager)

    def _eager(self, batch: Any) -> tuple[Any, Any]:
        logits, features = self._module(batch.to(self._device, non_blocking=True))
        return logits, features

    def _capture(self, shape: tuple[int, ...]) -> Program:
        """A CUDA graph for one shape. What it returns is overwritten by the next graph that runs: they share memory."""
        torch = self._torch
        batch = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        for _ in range(_WARM_UP_RUNS):
            self._module(batch)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other instances may allocate and launch meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            logits, features = self._module(batch)

        def replay(clips: Any) -> tuple[Any, Any]:
            batch.copy_(clips, non_blocking=True)
            graph.replay()
            return logits, features

        return replay

    def _give_back(self) -> None:
        """Give up graphs and cached blocks: they hold memory that the batch may need."""
        self._stream.synchronize()
        self._graphs.clear()
        self._pool = self._torch.cuda.graph_pool_handle()
        self._torch.cuda.empty_cache()


def _limit_memory(torch: Any, device: str, memory_mb: int) -> None:
    """A ceiling to what this process takes of a GPU, in MiB. Of "cuda" it is the current one: torch wants a number."""
    index = torch.device(device).index
    if index is None:
        index = torch.cuda.current_device()
    _, total = torch.cuda.mem_get_info(index)
    torch.cuda.set_per_process_memory_fraction(min(1.0, memory_mb * 2**20 / total), index)
