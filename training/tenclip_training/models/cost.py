"""Parameters and multiply-adds of a network, counted on torch's meta device, where nothing is computed."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tenclip_training.models.registry import create_model
from tenclip_training.models.video_model import VideoModel, eval_mode


def count_parameters(model: nn.Module) -> int:
    """Number of trained values; running statistics of batch norms are not counted."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: VideoModel, *, num_frames: int, crop: int) -> int:
    """Multiply-adds of convolutions and linear layers for one clip of `num_frames` x `crop` x `crop`.

    This is what the papers of these networks call FLOPs. Batch norm, activations and pools are not counted: they are
    below 1% together, and a batch norm disappears into the convolution before it.
    """
    total = 0

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv3d):
            total += output.numel() * math.prod(module.kernel_size) * module.in_channels // module.groups
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), eval_mode(model):
            model(torch.zeros(1, 3, num_frames, crop, crop, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return total


def cost(
    architecture: str, *, num_classes: int, num_frames: int, crop: int, made_for: int | None = None, **config: Any
) -> tuple[int, int]:
    """(parameters, multiply-adds of one clip) of an architecture, without making its weights.

    `made_for`: the crop that its head is made for, where that is not `crop`; above it the classifier has more
    positions.
    """
    with torch.device("meta"):
        made_for = made_for or crop
        model = create_model(architecture, num_classes=num_classes, num_frames=num_frames, crop=made_for, **config)
    parameters = count_parameters(model)
    # They count nothing and change no shape, and are most of the time on this device.
    for part in list(model.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.BatchNorm3d):
                setattr(part, name, nn.Identity())
    return parameters, count_macs(model, num_frames=num_frames, crop=crop)
