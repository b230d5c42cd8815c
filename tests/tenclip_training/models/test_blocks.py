"""The building blocks by themselves."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tenclip_training.models.blocks import Conv2Plus1d, Conv3d, SameConv3d, SameMaxPool3d, pad_same
from tenclip_training.models.parts import ShortcutA


@given(side=st.integers(2, 40), kernel=st.integers(2, 7), stride=st.sampled_from([1, 2]))
def test_same_padding_is_tensorflows(side: int, kernel: int, stride: int) -> None:
    x = torch.ones(1, 1, 1, 1, side)
    padded = pad_same(x, (1, 1, kernel), (1, 1, stride))[0, 0, 0, 0]
    # TensorFlow: total = max((ceil(n/s) - 1) * s + k - n, 0), half of it before, the odd one behind.
    total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    assert padded.tolist() == [0.0] * (total // 2) + [1.0] * side + [0.0] * (total - total // 2)


@given(side=st.integers(7, 20), frames=st.integers(2, 9))
def test_same_layers_round_sides_up(side: int, frames: int) -> None:
    x = torch.rand(1, 2, frames, side, side)
    half = (math.ceil(frames / 2), math.ceil(side / 2), math.ceil(side / 2))
    assert SameConv3d(2, 3, (3, 7), (2, 2))(x).shape == (1, 3, *half)
    assert SameMaxPool3d((3, 3), (2, 2))(x).shape == (1, 2, *half)
    assert SameMaxPool3d((2, 2), (2, 2))(x).shape == (1, 2, *half)
    assert SameMaxPool3d((3, 3), (1, 1))(x).shape == x.shape


def test_max_pool_of_stride_1_equals_zero_padding_for_what_a_relu_gives() -> None:
    x = torch.rand(1, 2, 4, 5, 5)
    by_hand = F.max_pool3d(F.pad(x, (1, 1, 1, 1, 1, 1)), 3, 1)
    assert torch.equal(SameMaxPool3d((3, 3), (1, 1))(x), by_hand)


def test_time_first_turns_the_halves_round() -> None:
    space_first = Conv2Plus1d(4, 6, 5, (2, 2))
    time_first = Conv2Plus1d(4, 6, 5, (2, 2), time_first=True)
    x = torch.randn(1, 4, 8, 8, 8)
    assert space_first(x).shape == time_first(x).shape == (1, 6, 4, 4, 4)
    assert space_first.get_parameter("0.weight").shape == (5, 4, 1, 3, 3)
    assert time_first.get_parameter("0.weight").shape == (5, 4, 3, 1, 1)


def test_shortcut_a_is_a_strided_identity_with_zeros_for_new_channels() -> None:
    x = torch.randn(2, 3, 5, 7, 7)
    out = ShortcutA(3, 8, (2, 2))(x)
    assert out.shape == (2, 8, 3, 4, 4)
    assert torch.equal(out[:, :3], F.avg_pool3d(x, 1, 2))
    assert not out[:, 3:].any()


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 1, 1), (2, 2, 2)])
def test_a_strided_convolution_of_single_positions_in_2d(stride: tuple[int, int, int]) -> None:
    """The shortcut of a residual block. Its outputs and gradients are those of the plain convolution."""
    layer = Conv3d(8, 16, 1, stride, bias=False)
    x = torch.rand(3, 8, 4, 14, 14).contiguous(memory_format=torch.channels_last_3d)
    results = []
    for execution in ("conv3d", "conv2d"):
        layer.execution = execution
        layer.zero_grad()
        clip = x.clone().requires_grad_()
        out = layer(clip)
        out.square().sum().backward()
        assert layer.weight.grad is not None
        results.append((out.detach(), clip.grad, layer.weight.grad.clone()))
    for plain, flat in zip(*results, strict=True):
        torch.testing.assert_close(flat, plain, rtol=1e-4, atol=1e-4)


TRAIN_NARROW = """
import torch
from tenclip_training.models import create_model
for name, frames in (("r2d_18", 1), ("resnets3d_r3d_10", 4), ("r2plus1d_10", 4)):
    model = create_model(name, num_classes=4, num_frames=frames, crop=56, width=8)
    model.set_execution("conv2d")
    for _ in range(5):
        clips = torch.randn(3, frames, 56, 56, 3).permute(0, 4, 1, 2, 3)
        model(clips)[0].square().sum().backward()
"""


def test_narrow_networks_train_within_their_memory() -> None:
    """glibc ends the process when a gradient was written beyond its buffer."""
    checked = subprocess.run(
        [sys.executable, "-c", TRAIN_NARROW],
        env={**os.environ, "MALLOC_CHECK_": "3"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr[-2000:]
