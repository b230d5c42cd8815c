"""Inflation: a static clip gives a 3D network what its frame gives the 2D network."""

from __future__ import annotations

import pytest
import torch

from tenclip_training.models.inflate import inflate_2d_to_3d

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
    with pytest.raises(ValueError, match=r"does not fit r2plus1d_18: \d+ missing .*, \d+ unexpected"):
        inflate_2d_to_3d(flat.state_dict(), deep)
    assert all(torch.equal(value, before[name]) for name, value in deep.state_dict().items())
