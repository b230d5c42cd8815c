"""Reference networks with weights as after training, and their comparison with what the loader makes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tenclip_training.loaders import PublicCheckpoint, load_public_checkpoint

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Network = TypeVar("Network", bound=nn.Module)


def trained(model: Network, seed: int = 0) -> Network:
    """Random running statistics, scales and shifts: with the initial ones, a batch norm in the wrong place goes unseen.

    The variances are small, so that an epsilon of 1e-3 instead of 1e-5 shows.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.Conv2d | nn.Conv3d | nn.Linear):
                fan_in = part.weight[0].numel()
                part.weight.normal_(0, (0.02 / fan_in) ** 0.5, generator=generator)
                if part.bias is not None:
                    part.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(part, NORMS):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.02, generator=generator)
                part.running_var.uniform_(0.005, 0.03, generator=generator)
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.normal_(0, 0.2, generator=generator)
    return model.eval()


def save(path: Path, model: nn.Module, wrap: Callable[[dict[str, Tensor]], Any] = dict) -> Path:
    torch.save(wrap(model.state_dict()), path)
    return path


def relative_error(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).norm() / expected.norm())


def assert_same_function(
    loaded: PublicCheckpoint,
    reference: nn.Module,
    clips: Tensor,
    *,
    positions: Callable[[Tensor], Tensor] = lambda logits: logits.mean(2),
) -> None:
    """The loaded network, in float64, gives what the reference gives. `positions` reduces logits [B,K,P] to what the
    reference returns."""
    ours, theirs = copy.deepcopy(loaded.model).double(), copy.deepcopy(reference).double().eval()
    with torch.no_grad():
        got, expected = positions(ours(clips.double())[0]), theirs(clips.double())
    assert expected.std() > 1e-3, "a reference whose outputs do not vary compares nothing"
    assert relative_error(got, expected) < 1e-9


def load(path: Path, family: str | None = None) -> PublicCheckpoint:
    return load_public_checkpoint(path, family=family)
