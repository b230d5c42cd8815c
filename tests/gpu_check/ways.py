"""The ways to run a network, from plain torch to the program that the server runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenclip_export.variants.program import HalfTrunk
from tenclip_training.models import VideoModel
from tenclip_training.models.fusion import as_2d, for_inference, fused
from tenclip_training.models.padding import padded
from tests.gpu_check.context import channels_last

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


@dataclass(frozen=True)
class Way:
    """A network on a device. It takes clips [B,3,T,H,W] of its type in `layout`; logits and features are float32."""

    network: nn.Module
    dtype: torch.dtype
    layout: torch.memory_format

    def laid(self, clips: Tensor) -> Tensor:
        """The clips as this way wants them, which is no part of what is timed."""
        return clips.to(self.dtype).contiguous(memory_format=self.layout)

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.network(clips)
        return logits, features


def make(name: str, model: VideoModel, dtype: torch.dtype, device: torch.device) -> Way:
    """The network in the way of that name; its head computes in float32, as it is served."""
    build, last = WAYS[name]
    network = HalfTrunk(build(model), dtype).to(device).eval()
    return Way(network, dtype, torch.channels_last_3d if last else torch.contiguous_format)


def random_clips(batch: int, frames: int, crop: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normal values [B,3,T,H,W] in channels-last memory, as normalised clips are."""
    return torch.randn(batch, frames, crop, crop, 3, device=device).to(dtype).permute(0, 4, 1, 2, 3)
