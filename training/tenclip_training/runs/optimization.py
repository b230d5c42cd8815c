"""The optimiser's step: learning rate, update and precision. All of it follows from the config and the step."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tenclip_api.errors import InvalidRequest
from tenclip_training.runs.config import TrainConfig

# -- schedules: pure functions of the step, which counts from 0 -------------------------------------------------------


def warmup_then_cosine(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Linear from peak / (warmup_steps + 1) to the peak, then half a cosine down to zero at `total_steps`.

    The schedule is this project's: a linear warm-up, step by step, after Goyal et al. 2017 (who start from the rate of
    one GPU), and the cosine of Loshchilov and Hutter 2017 without restarts. IG-65M and VMZ divide the rate in steps.

    >>> [round(warmup_then_cosine(s, peak=1.0, warmup_steps=3, total_steps=7), 2) for s in range(7)]
    [0.25, 0.5, 0.75, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    part = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * part))


def learning_rate_at(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """The rate of a run's step, counted over all epochs from 0."""
    assert config.warmup_epochs is not None  # the config has resolved it
    return warmup_then_cosine(
        step,
        peak=config.learning_rate,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        total_steps=config.epochs * steps_per_epoch,
    )


# -- updates ----------------------------------------------------------------------------------------------------------


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; weight decay on weights of two and more dimensions only.

    Biases and the gains of norms are left out of weight decay: it would only rescale what a norm scales back. Both
    choices are this project's: VMZ and 3D-ResNets use plain momentum and decay every parameter.
    """
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)


class Updater:
    """Takes the steps of a run: gradients, their largest norm, float16's loss scaling, the optimiser."""

    def __init__(self, model: nn.Module, config: TrainConfig, *, device: torch.device, precision: str) -> None:
        self.model, self.max_gradient_norm = model, config.max_gradient_norm
        self.optimizer = build_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def update(self, loss: Tensor, *, learning_rate: float) -> None:
        """One step down the gradient of `loss`, a scalar with its graph."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.max_gradient_norm > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, from which `load_state_dict` goes on exactly."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises KeyError, ValueError or TypeError for a state of another model or optimiser."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


# -- precision --------------------------------------------------------------------------------------------------------


def resolve_precision(precision: str, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """The precision that `auto` stands for on this device; any other is kept.

    Raises InvalidRequest for a precision that the device does not have.
    """
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
    """The context in which the network computes; weights and losses stay float32."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")
