"""The optimiser's step: update and precision. All of it follows from the config and the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import VideoModel
from tenclip_training.runs.bfloat16 import SmallMapsInFloat32
from tenclip_training.runs.sections import OptimizerConfig
from tenclip_training.runs.transfer import parameter_groups

# -- updates ----------------------------------------------------------------------------------------------------------


def build_optimizer(model: VideoModel, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW; weight decay on all parameters or on those of two and more dimensions only.

    Without `decay_all` biases and the gains of norms are left out of weight decay: it would only rescale what a norm
    scales back. That and Nesterov momentum are this project's: VMZ and 3D-ResNets use plain momentum and decay every
    parameter. Frozen parameters are not the optimiser's, and stages may have a share of the rate (`layer_lr`).
    Raises InvalidRequest where nothing is trained.
    """
    groups = parameter_groups(model, config)
    if config.algorithm == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)
    nesterov = config.nesterov and config.momentum > 0
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)


class Updater:
    """Takes the steps of a run: gradients, their largest norm, float16's loss scaling, the optimiser.

    `add` as often as a step has micro-batches, then `step`. skipped: the steps that float16's loss scaling left out,
    since a gradient was not finite at its scale; it then halves the scale.
    """

    def __init__(self, model: VideoModel, config: OptimizerConfig, *, device: torch.device, precision: str) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.max_gradient_norm = config.max_gradient_norm
        self.optimizer = build_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        # Looking at a number on a GPU waits for all its work, which loss scaling does at every step anyway.
        self._may_look = device.type == "cpu" or self.scaler.is_enabled()
        self.skipped = 0

    def add(self, loss: Tensor) -> None:
        """Add the gradient of `loss`, a scalar with its graph."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, *, learning_rate: float) -> Tensor | None:
        """One step down the gradients that were added, which are then forgotten.

        learning_rate: that of stages without a share of their own.
        Returns the norm of the gradient, before it was limited: a scalar on the device. Where that is not finite the
        weights stay as they are; but on a GPU only float16 looks, and else the weights are lost. None: a step that loss
        scaling left out, as it should.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_factor", 1.0)  # states of earlier versions have no factor
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.max_gradient_norm > 0:
            nn.utils.clip_grads_with_norm_(self.parameters, self.max_gradient_norm, norm)
        finite = not self._may_look or bool(torch.isfinite(norm))
        left_out = not finite and self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if finite or self.scaler.is_enabled():  # which leaves out the step by itself
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.skipped += left_out
        self.optimizer.zero_grad(set_to_none=True)
        return None if left_out else norm

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, from which `load_state_dict` goes on exactly."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "steps_skipped": self.skipped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises KeyError, ValueError or TypeError for a state of another model or optimiser."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # a run that goes on in fp16 may have begun without loss scaling
            self.scaler.load_state_dict(state["scaler"])
        self.skipped = state["steps_skipped"]


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
    # Not bf16, though some processors multiply it: float32 is what others get on theirs.
    return "fp32"


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """The context in which the network computes; weights and losses stay float32."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    guard = SmallMapsInFloat32() if device.type == "cpu" and precision == "bf16" else nullcontext()
    with torch.autocast(device.type, dtype, enabled=precision != "fp32"), guard:
        yield
