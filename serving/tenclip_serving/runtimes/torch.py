"""torch: an exported program on a GPU, or on the CPU where there is none. Nothing else under serving/ imports torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import BundleError, MissingDependency
from tenclip_serving.runtimes.base import Clips, Outputs, check_clips
from tenclip_serving.telemetry.logs import log

# The most CUDA graphs: each keeps its activations in the GPU's memory.
MAX_GRAPHS = 8
_WARM_UP_RUNS = 3  # cuDNN chooses its kernels in the first ones, which cannot be captured


class TorchRuntime:
    """A program of `torch.export.save` that takes uint8 clips. Its precision is its own; see `Variant.name`.

    Clips lie in memory as (B,T,H,W,C), which is channels-last; weights are put in channels-last memory too, so that
    nothing is reordered between layers. float32 stays float32: TensorFloat-32 is off.
    On a GPU each shape of clips is captured once as a CUDA graph and replayed, which spares the hundreds of launches of
    a network; the first `MAX_GRAPHS` shapes are, and what cannot be captured runs as it is, with a line in the log.
    threads: on the CPU; 0 lets torch choose. device: None takes the GPU where there is one.
    Raises MissingDependency without torch, and BundleError for a program that does not load.
    """

    name = "torch"

    def __init__(self, path: Path, *, threads: int = 0, device: str | None = None) -> None:
        try:
            import torch
        except ModuleNotFoundError as err:
            raise MissingDependency("the torch runtime needs torch, which is not installed: pip install torch") from err
        self._torch: Any = torch
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.batch_size = 8 if self._device.startswith("cuda") else 1
        if threads:
            torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Its guards fix which sides of maps may be 1, which the pooled size breaks harmlessly: parity is
                # checked at every size that is served.
                module = torch.export.load(path).module(check_guards=False)
                self._module = module.to(self._device)
        except Exception as err:  # zipfile's, pickle's, json's and torch's own
            raise BundleError(f"{path}: torch cannot load it as an exported program: {err}") from err
        for parameter in self._module.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        self._graphs: dict[tuple[int, ...], Callable[[Any], tuple[Any, Any]]] = {}

    def run(self, clips: Clips) -> Outputs:
        check_clips(clips)
        torch = self._torch
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = torch.from_numpy(np.ascontiguousarray(clips))
            logits, features = self._runner(batch.shape)(batch)
            return Outputs(logits.float().cpu().numpy(), features.float().cpu().numpy())

    def _runner(self, shape: tuple[int, ...]) -> Callable[[Any], tuple[Any, Any]]:
        """The function that takes a batch of this shape on the CPU to (logits, features) on the device."""
        if not self._device.startswith("cuda"):
            return self._eager
        if shape not in self._graphs and len(self._graphs) < MAX_GRAPHS:
            try:
                self._graphs[shape] = _capture(self._torch, self._module, shape, self._device)
            except RuntimeError as err:
                log(logging.WARNING, f"no CUDA graph for clips {tuple(shape)}, running without: {err}")
                self._graphs[shape] = self._eager
        return self._graphs.get(shape, self._eager)

    def _eager(self, batch: Any) -> tuple[Any, Any]:
        logits, features = self._module(batch.to(self._device))
        return logits, features


def _capture(torch: Any, module: Any, shape: tuple[int, ...], device: str) -> Callable[[Any], tuple[Any, Any]]:
    """A CUDA graph of `module` for one shape. What it returns is overwritten by its next call."""
    batch = torch.zeros(shape, dtype=torch.uint8, device=device)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_RUNS):
            module(batch)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits, features = module(batch)

    def replay(clips: Any) -> tuple[Any, Any]:
        batch.copy_(clips)
        graph.replay()
        return logits, features

    return replay
