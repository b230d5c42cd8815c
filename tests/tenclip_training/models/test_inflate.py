"""Inflation: a static clip gives a 3D network what its frame gives the 2D network."""

from __future__ import annotations

import pytest
import torch

from tenclip_training.models.inflate import (
    flow_stem,
    has_flat_kernels,
    inflate_2d_to_3d,
    inflate_kernel,
    is_frame_model,
    why_not,
)

from .helpers import small


@pytest.mark.parametrize(
    ("frame_model", "architecture", "config"),
    [
        ("r2d_18", "resnets3d_r3d_18", {}),
        ("r2d_50", "resnets3d_r3d_50", {}),
        ("r2d_50", "slowonly_r50", {}),
    ],
)
def test_static_clip(frame_model: str, architecture: str, config: dict[str, object]) -> None:
    flat = small(frame_model, width=4, num_frames=1, crop=32)
    deep = small(architecture, width=4, num_frames=128, crop=32, **config)
    inflate_2d_to_3d(flat.state_dict(), deep)
    frame = torch.randn(1, 3, 1, 32, 32)
    expected = flat.feature_map(frame)[:, :, 0]
    fmap = deep.feature_map(frame.expand(-1, -1, 128, -1, -1))
    # Only near the first and last frames do kernels reach into the zero padding.
    middle = fmap[:, :, fmap.shape[2] // 2]
    torch.testing.assert_close(middle, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fmap[:, :, 0], expected, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(deep.fc(middle.mean((2, 3))), flat(frame)[0][:, :, 0], rtol=1e-4, atol=1e-5)


def test_plain_2d_weights_inflate_alike() -> None:
    flat = small("r2d_18", width=4, num_frames=1, crop=32)
    squeezed = {name: v.squeeze(2) if v.dim() == 5 else v for name, v in flat.state_dict().items()}
    one, other = (small("resnets3d_r3d_18", width=4, crop=32) for _ in range(2))
    inflate_2d_to_3d(flat.state_dict(), one)
    inflate_2d_to_3d(squeezed, other)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    stem2d, stem3d = flat.get_parameter("stem.0.weight"), one.get_parameter("stem.0.weight")
    assert stem3d.shape[2] == 7
    torch.testing.assert_close(stem3d.sum(2, keepdim=True), stem2d)
    torch.testing.assert_close(stem3d[:, :, 0], stem3d[:, :, 6])


def test_classifier_can_stay() -> None:
    flat = small("r2d_18", width=4, num_classes=7)
    deep = small("resnets3d_r3d_18", width=4, num_classes=5)
    before = deep.fc.weight.clone()
    with pytest.raises(ValueError, match=r"2 of a wrong shape .*fc.bias \[7\] for \[5\]"):
        inflate_2d_to_3d(flat.state_dict(), deep)
    inflate_2d_to_3d(flat.state_dict(), deep, include_fc=False)
    assert torch.equal(deep.fc.weight, before)


def test_misfits_are_listed_and_nothing_is_loaded() -> None:
    flat = small("r2d_18", width=4)
    deep = small("r2plus1d_18", width=4)
    before = {name: value.clone() for name, value in deep.state_dict().items()}
    with pytest.raises(ValueError, match=r"cannot be inflated to r2plus1d_18: its \(2\+1\)D convolutions are pairs"):
        inflate_2d_to_3d(flat.state_dict(), deep)
    assert all(torch.equal(value, before[name]) for name, value in deep.state_dict().items())
    deeper = small("resnets3d_r3d_18", width=4, stages=[2, 1, 1, 1])
    with pytest.raises(ValueError, match=r"does not fit resnets3d_r3d_18: \d+ missing \['layer1.1.conv1.0.weight'"):
        inflate_2d_to_3d(flat.state_dict(), deeper)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("r2plus1d_18", "pairs, one over space and one over time"),
        ("torchvision_r2plus1d_18", "pairs"),
        ("ir_csn_50", "channel-separated"),
        ("pytorchvideo_x3d_s", "channel-separated"),
        ("pytorchvideo_slowfast_r50", "two pathways"),
        ("resnets3d_r3d_18", ""),
        ("slowonly_r50", ""),
    ],
)
def test_what_cannot_be_inflated_has_a_reason(architecture: str, reason: str) -> None:
    found = why_not(small(architecture, width=8))
    assert reason in found
    assert bool(found) == bool(reason)


def test_numbers_of_the_papers() -> None:
    """0.6 over three frames is 0.2 each (divided) or 0.6 each (DistInit); RGB 0.3, 0.6, 0.9 is flow 0.6, 0.6."""
    kernel, like = torch.full((2, 1, 1, 1), 0.6), torch.empty(2, 1, 3, 1, 1)
    divided, repeated = inflate_kernel(kernel, like), inflate_kernel(kernel, like, scale=False)
    assert divided is not None
    assert repeated is not None
    torch.testing.assert_close(divided, torch.full((2, 1, 3, 1, 1), 0.2))
    torch.testing.assert_close(repeated, torch.full((2, 1, 3, 1, 1), 0.6))
    rgb = torch.tensor([0.3, 0.6, 0.9]).reshape(1, 3, 1, 1, 1).expand(4, 3, 3, 7, 7)
    flow = flow_stem(rgb)
    assert flow.shape == (4, 2, 3, 7, 7)
    torch.testing.assert_close(flow, torch.full((4, 2, 3, 7, 7), 0.6))


def test_a_grey_clip_gives_a_flow_stem_two_thirds_of_what_it_gives_an_rgb_one() -> None:
    """Two channels instead of three, each with the mean kernel."""
    rgb = torch.randn(4, 3, 1, 3, 3)
    grey = torch.randn(1, 1, 1, 5, 5)
    full = torch.nn.functional.conv3d(grey.expand(1, 3, 1, 5, 5), rgb)
    flow = torch.nn.functional.conv3d(grey.expand(1, 2, 1, 5, 5), flow_stem(rgb))
    torch.testing.assert_close(flow, full * 2 / 3)


def test_repeating_alone_multiplies_what_a_still_clip_gives() -> None:
    flat = small("r2d_18", width=4)
    divided, repeated = (small("resnets3d_r3d_18", width=4, crop=32) for _ in range(2))
    inflate_2d_to_3d(flat.state_dict(), divided)
    inflate_2d_to_3d(flat.state_dict(), repeated, scale=False)
    one, other = divided.get_parameter("stem.0.weight"), repeated.get_parameter("stem.0.weight")
    torch.testing.assert_close(other, 7 * one)
    torch.testing.assert_close(other[:, :, 3:4], flat.get_parameter("stem.0.weight"))


def test_frame_models_are_told_by_their_kernels_and_pools() -> None:
    assert is_frame_model(small("r2d_18"))
    # Its kernels see one frame, its pool two: it can be inflated from, and fed no single frames.
    assert has_flat_kernels(small("mmaction2_c2d_r50"))
    assert not is_frame_model(small("mmaction2_c2d_r50"))
    assert not has_flat_kernels(small("slowonly_r50"))
    assert not is_frame_model(small("slowonly_r50"))
    assert not is_frame_model(small("r2plus1d_18"))
