"""The ways to run a network, from plain torch to the program that the server runs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from tenclip_export.variants.program import HalfTrunk
from tenclip_training.models import VideoModel
from tenclip_training.models.fusion import as_2d, for_inference, fused
from tenclip_training.models.padding import padded
from tests.gpu_check.context import channels_last

Run = Callable[[Tensor], tuple[Tensor, Tensor]]

# Name -> (network, whether clips lie in channels-last memory). The last one is what torch programs of a bundle hold.
WAYS: dict[str, tuple[Callable[[VideoModel], VideoModel], bool]] = {
    "eager": (copy.deepcopy, False),
    "channels-last": (lambda model: channels_last(copy.deepcopy(model)), True),
    "2D": (as_2d, True),
    "2D, padded": (lambda model: as_2d(padded(model)), True),
    "fused": (fused, True),
    "fused, padded": (for_inference, True),
}
BEST = "fused, padded"


def make(way: str, model: VideoModel, dtype: torch.dtype, device: torch.device) -> Run:
    """The network in that way on the device: clips of that type, [B,3,T,H,W] -> logits and features in float32."""
    build, last = WAYS[way]
    network = HalfTrunk(build(model), dtype).to(device).eval()
    layout = torch.channels_last_3d if last else torch.contiguous_format

    def run(clips: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = network(clips.contiguous(memory_format=layout))
        return logits, features

    return run


def random_clips(batch: int, frames: int, crop: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normal values [B,3,T,H,W] in channels-last memory, as normalised clips are."""
    return torch.randn(batch, frames, crop, crop, 3, device=device).to(dtype).permute(0, 4, 1, 2, 3)
