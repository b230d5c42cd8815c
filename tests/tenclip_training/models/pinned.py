"""An architecture in numbers: a digest of its names and shapes, and its logits for weights by formula."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch

from tenclip_training.models import ARCHITECTURES, VideoModel, create_model
from tenclip_training.models.registry import config_defaults

from .helpers import SMALL


def layout_digest(architecture: str) -> str:
    """Digest of the names and shapes in a state_dict of the whole network, in order."""
    with torch.device("meta"):
        state = create_model(architecture, num_classes=7).state_dict()
    text = "".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def logits_by_formula(architecture: str) -> list[float]:
    """Logits of a narrow float64 network, whose weights and clip come from no random numbers."""
    shape: dict[str, Any] = dict(SMALL)
    if "stages" in config_defaults(ARCHITECTURES[architecture]):
        shape["stages"] = [1, 1, 1, 1]
    model = fill_by_formula(create_model(architecture, num_classes=2, **shape).double().eval())
    clip = waves((1, 3, 8, 64, 64), 0.5)
    with torch.no_grad():
        return [float(v) for v in model(clip)[0].mean(2).flatten()]


def waves(shape: tuple[int, ...], phase: float) -> torch.Tensor:
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.7 + phase).reshape(shape)


def fill_by_formula(model: VideoModel) -> VideoModel:
    for phase, (name, value) in enumerate(sorted(model.state_dict().items())):
        if not value.is_floating_point():
            continue
        wave = waves(tuple(value.shape), float(phase))
        fan_in = value[0].numel() if value.dim() > 1 else 1
        value.copy_(wave.abs() + 0.5 if name.endswith("running_var") else wave * (2 / fan_in) ** 0.5)
    return model
