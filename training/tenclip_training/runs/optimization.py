"""How a step is taken: learning rate, optimiser, precision. All of it follows from the config, none of it has a state
that training would not write down.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from tenclip_api.errors import InvalidRequest
from tenclip_training.runs.config import TrainConfig


def learning_rate_at(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Linear from nearly nothing to the peak over the warm-up, then a half cosine to zero (Goyal et al. 2017;
    Loshchilov and Hutter 2017). `step` counts from 0.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    part = (step - warmup) / max(config.epochs * steps_per_epoch - warmup, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Biases and the gains of norms are left out of weight decay: it would only rescale what a norm scales back."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)


def resolve_precision(precision: str, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """What `auto` means on this device. Raises InvalidRequest for a precision that the device does not have."""
    if precision == "fp16" and device.type == "cpu":
        raise InvalidRequest("precision fp16 needs a GPU; use bf16 or fp32 on a CPU")
    if precision != "auto":
        assert precision in ("fp32", "bf16", "fp16")
        return precision  # type: ignore[return-value]
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX); elsewhere it is emulated and slower."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")
