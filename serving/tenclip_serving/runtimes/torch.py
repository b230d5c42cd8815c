"""torch: an exported program on a GPU, or on the CPU where there is none. Nothing else under serving/ imports torch."""

from __future__ import annotations

import functools
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import BundleError, MissingDependency
from tenclip_serving.runtimes import cuda
from tenclip_serving.runtimes.base import Clips, Outputs, check_clips
from tenclip_serving.runtimes.torch_cuda import CudaProgram
from tenclip_serving.telemetry.logs import log


class TorchRuntime:
    """A program of `torch.export.save` that takes uint8 clips. Its precision is its own; see `Variant.name`.

    Clips lie in memory as (B,T,H,W,C), which is channels-last; weights are put in channels-last memory too, so that
    nothing is reordered between layers. float32 stays float32: TensorFloat-32 is off.
    On a GPU each shape of clips is captured once as a CUDA graph and replayed, which spares the hundreds of launches of
    a network, and clips are copied beside the kernels of other instances; see `CudaProgram`.
    threads: on the CPU; 0 lets torch choose. device: None takes the GPU where there is one; where torch cannot use it,
    the log says so once. gpu_memory_mb: most MiB that this process takes of it; 0: no ceiling.
    Raises MissingDependency without torch, and BundleError for a program that does not load.
    """

    name = "torch"

    def __init__(self, path: Path, *, threads: int = 0, device: str | None = None, gpu_memory_mb: int = 0) -> None:
        try:
            import torch
        except ModuleNotFoundError as err:
            raise MissingDependency("the torch runtime needs torch, which is not installed: pip install torch") from err
        from tenclip_serving.runtimes.torch_ops import conv2d_relu

        conv2d_relu()  # programs name it
        self._torch: Any = torch
        if device is None and (why := cuda.why_not_torch(torch)) is not None:
            _warn_once(why)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.on_gpu = device.startswith("cuda")
        self.batch_size = 8 if self.on_gpu else 1
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
                self._module = module.to(device)
        except Exception as err:  # zipfile's, pickle's, json's and torch's own
            raise BundleError(f"{path}: torch cannot load it as an exported program: {err}") from err
        layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in self._module.parameters():
            if parameter.dim() in layouts:
                parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.dim()])
        # What runs on a GPU; None on the CPU.
        self.cuda = CudaProgram(torch, self._module, device, memory_mb=gpu_memory_mb) if self.on_gpu else None

    def run(self, clips: Clips) -> Outputs:
        check_clips(clips)
        with self._torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.cuda is not None:
                return self.cuda.run(clips)
            logits, features = self._module(self._torch.from_numpy(np.ascontiguousarray(clips)))
            return Outputs(logits.float().numpy(), features.float().numpy())


@functools.cache
def _warn_once(why: str) -> None:
    """Once a process, however many models and instances there are."""
    log(logging.WARNING, why, runtime=TorchRuntime.name)
