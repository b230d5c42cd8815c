"""torch: an exported program on a GPU, or on the CPU where there is none. Nothing else under serving/ imports torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import BundleError, MissingDependency
from tenclip_serving.runtimes.base import Clips, Outputs, check_clips


class TorchRuntime:
    """A program of `torch.export.save` that takes uint8 clips. Its precision is its own; see `Variant.name`.

    Clips lie in memory as (B,T,H,W,C), which is channels-last; weights are put in channels-last memory too, so that
    nothing is reordered between layers. float32 stays float32: TensorFloat-32 is off.
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

    def run(self, clips: Clips) -> Outputs:
        check_clips(clips)
        torch = self._torch
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = torch.from_numpy(np.ascontiguousarray(clips)).to(self._device)
            logits, features = self._module(batch)
            return Outputs(logits.float().cpu().numpy(), features.float().cpu().numpy())
