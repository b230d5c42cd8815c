from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv3d

from tenclip_training.models import VideoModel, create_model
from tenclip_training.runs.bfloat16 import has_inner_window
from tenclip_training.runs.optimization import autocast
from tests.soak import bfloat16

CPU = torch.device("cpu")


def test_the_first_window_that_starts_inside_decides() -> None:
    assert has_inner_window(8, 7, 1, 3)
    assert has_inner_window(7, 7, 1, 3)
    assert not has_inner_window(7, 7, 2, 3)  # starts -3, -1, 1: the last ends at 8
    assert has_inner_window(8, 7, 2, 3)
    assert has_inner_window(3, 3, 1, 1)
    assert not has_inner_window(2, 3, 1, 1)
    assert not has_inner_window(4, 3, 1, 1, dilation=2)
    assert has_inner_window(1, 1, 2, 0)


def test_convolutions_are_those_of_float64() -> None:
    """One of many of `make soak ARGS=bfloat16`."""
    assert bfloat16.main(["--every", "150"])["passed"]


def test_only_small_maps_leave_bfloat16() -> None:
    weights = torch.randn(4, 4, 3, 3, 3)
    with autocast(CPU, "bf16"):
        assert conv3d(torch.randn(1, 4, 4, 8, 8), weights, padding=1).dtype == torch.bfloat16
        assert conv3d(torch.randn(1, 4, 2, 8, 8), weights, padding=1).dtype == torch.float32
        assert conv3d(torch.randn(1, 4, 4, 8, 1), weights, None, 2, 1).dtype == torch.float32
        assert conv3d(torch.randn(1, 4, 4, 8, 8), weights, padding="same").dtype == torch.float32
        assert conv2d(torch.randn(1, 4, 8, 8), weights[:, :, 0], stride=(2, 2), padding=1).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert conv3d(torch.randn(1, 4, 4, 8, 8), weights, padding=1).dtype == torch.float32


@pytest.mark.parametrize(("architecture", "frames"), [("resnets3d_r3d_10", 8), ("r2plus1d_10", 16)])
def test_weight_gradients_of_small_maps_are_those_of_float32(architecture: str, frames: int) -> None:
    """Without the guard they hold what memory held before, here NaN: on processors that multiply bfloat16 alone.

    Elsewhere this says only that gradients in bfloat16 are near those of float32, and
    `test_only_small_maps_leave_bfloat16` that the guard is there.
    """
    torch.manual_seed(0)
    model = create_model(architecture, num_classes=3, width=16, num_frames=frames, crop=32)
    clips = torch.randn(8, 3, frames, 32, 32)
    exact = _gradients(model, clips, "fp32")
    for _ in range(3):
        for name, found in _gradients(model, clips, "bf16").items():
            assert torch.nn.functional.cosine_similarity(found.flatten(), exact[name].flatten(), 0) > 0.8, name


def _gradients(model: VideoModel, clips: Tensor, precision: str) -> dict[str, Tensor]:
    model.zero_grad()
    _poison()
    with autocast(CPU, precision):
        logits = model(clips)[0].mean(2)
    _poison()
    loss = torch.nn.functional.cross_entropy(logits.float(), torch.arange(len(clips)) % 3)
    loss.backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None and p.ndim > 1}


def _poison() -> None:
    """Leave NaN in memory that is free."""
    for size in (1_000, 10_000, 30_000, 100_000, 1_000_000):
        _ = [torch.full((size,), float("nan")) for _ in range(8)]
