"""The network as a torch program (`torch.export`), for the torch runtime: bfloat16 and channels-last on GPUs.

Residual networks are padded and fused (`tenclip_training.models.fusion`): batch norms are gone, and every
convolution writes once, with `tenclip::conv2d_relu` of the torch runtime.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from tenclip_api.errors import BundleError
from tenclip_export.onnx_graph import ServedModel
from tenclip_training.models import VideoModel
from tenclip_training.models.fusion import for_inference
from tenclip_video.spec import ClipSpec

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Names of what lies behind the pool.
HEADS = ("hidden", "fc")


class HalfTrunk(nn.Module):
    """`network`, changed in place, with its feature map in another precision; the head stays in float32, as in the ONNX
    graphs."""

    def __init__(self, network: VideoModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype)
        for name in HEADS:
            part = getattr(network, name, None)
            if isinstance(part, nn.Module):
                part.float()
        compute = network.feature_map

        def feature_map(clips: Tensor) -> Tensor:
            return compute(clips.to(dtype)).float()

        network.feature_map = feature_map  # type: ignore[method-assign]

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.network(clips)
        return logits, features


def served_program(model: VideoModel, spec: ClipSpec, *, precision: str = "fp32") -> ServedModel:
    """What `write_program` exports: the fastest form of the network in torch, in float32, float16 or bfloat16.

    uint8 [B,T,H,W,3] -> float32 [B,K,P], [B,D]. `model` itself stays as it is.
    """
    network = for_inference(copy.deepcopy(model).cpu().eval())
    return ServedModel(HalfTrunk(network, DTYPES[precision]), spec).eval()


def write_program(model: VideoModel, spec: ClipSpec, path: Path, *, precision: str = "fp32") -> tuple[Path, ...]:
    """`model` (eval mode) with the normalisation of `spec` as a program: uint8 clips in, float32 outputs.

    Raises BundleError for a model that cannot be exported.
    """
    served = served_program(model, spec, precision=precision)
    example = torch.zeros((2, spec.num_frames, spec.crop, spec.crop + 2, 3), dtype=torch.uint8)
    sides = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(served, (example,), dynamic_shapes=(sides,))
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine
            torch.export.save(program, path)
    except Exception as err:  # the exporter raises whatever the traced code raises
        raise BundleError(f"the model cannot be exported as a torch program: {err}") from err
    return (path,)
