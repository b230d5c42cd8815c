"""Small networks for tests: every architecture, narrow and short."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tenclip_training.models import ARCHITECTURES, VideoModel, create_model
from tenclip_training.models.registry import config_defaults

SMALL = {"width": 8, "num_frames": 8, "crop": 64}


def distinct_architectures() -> list[str]:
    """One name of each kind: with one block a layer, depths are alike."""
    kinds: dict[tuple[object, ...], str] = {}
    for name, architecture in sorted(ARCHITECTURES.items()):
        shape = {k: v for k, v in config_defaults(architecture).items() if k not in ("depth", "num_frames", "bn_eps")}
        deep = config_defaults(architecture).get("depth", 0) >= 50
        kinds.setdefault((architecture.factory, deep, tuple(map(str, shape.items()))), name)
    return sorted(kinds.values())


def small(architecture: str, **config: Any) -> VideoModel:
    """An architecture with few channels and one block a layer, in eval mode, with batch norms as after training."""
    torch.manual_seed(0)
    shape: dict[str, Any] = dict(SMALL)
    if "stages" in config_defaults(ARCHITECTURES[architecture]):
        shape["stages"] = [1, 1, 1, 1]
    model = create_model(architecture, **{"num_classes": 5, **shape, **config})
    return randomise_batch_norm(model).eval()


def randomise_batch_norm(model: VideoModel) -> VideoModel:
    """Running statistics as after training: with zeros and ones a missing or swapped batch norm goes unseen."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm3d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
    return model
