"""R(2+1)D of our own sizes: shapes, heads, execution, training, rebuilding from its config."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from tenclip_training.models import VideoModel, create_model
from tenclip_training.models.blocks import Execution, mid_planes

from .helpers import randomise_batch_norm


def small(architecture: str = "r2plus1d_10", **config: Any) -> VideoModel:
    """The demo's network: all blocks of its depth, narrow, 8 frames of 56 pixels."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"num_classes": 5, "width": 8, "num_frames": 8, "crop": 56}
    return randomise_batch_norm(create_model(architecture, **{**shape, **config})).eval()


def test_mid_planes() -> None:
    # VMZ: 144 within layer1; 230 and 288 in the first block of layer2.
    assert [mid_planes(64, 64), mid_planes(64, 128), mid_planes(128, 128)] == [144, 230, 288]
    assert [mid_planes(128, 256), mid_planes(256, 256), mid_planes(256, 512), mid_planes(512, 512)] == [
        460,
        576,
        921,
        1152,
    ]


@pytest.mark.parametrize("num_frames", [8, 16, 32])
def test_clip_lengths(num_frames: int) -> None:
    model = small(num_frames=num_frames, width=4)
    logits, features = model(torch.randn(2, 3, num_frames, 56, 56))
    assert logits.shape == (2, 5, 1)
    assert features.shape == (2, 32)


@pytest.mark.parametrize(("crop", "side"), [(56, 4), (64, 4), (72, 5)])
@pytest.mark.parametrize("depth", ["r2plus1d_10", "r2plus1d_50"])
def test_shapes_of_every_stage(depth: str, crop: int, side: int) -> None:
    model = small(depth, crop=crop)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
        model.get_submodule(name).register_forward_hook(
            lambda _module, _input, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    model(torch.randn(1, 3, 8, crop, crop))
    up = 4 if depth == "r2plus1d_50" else 1
    half = crop // 2
    assert shapes == {
        "stem": (1, 8, 8, half, half),
        "layer1": (1, 8 * up, 8, half, half),
        "layer2": (1, 16 * up, 4, crop // 4, crop // 4),
        "layer3": (1, 32 * up, 2, crop // 8, crop // 8),
        "layer4": (1, 64 * up, 1, side, side),
    }


def test_fully_convolutional_head_shares_its_weights() -> None:
    model = small()
    clips = torch.randn(2, 3, 8, 72, 72)
    logits, features = model(clips)
    assert logits.shape == (2, 5, 4)  # a 5x5 map under a 4x4 kernel: 2x2 positions
    fmap = model.feature_map(clips)
    by_hand = [fmap[:, :, :1, i : i + 4, j : j + 4].mean((2, 3, 4)) for i in range(2) for j in range(2)]
    for position, expected in enumerate(by_hand):
        torch.testing.assert_close(logits[:, :, position], model.fc(expected))
    torch.testing.assert_close(features, torch.stack(by_hand).mean(0))


def test_global_head_equals_the_fixed_one_at_the_pooled_size() -> None:
    fixed = small()
    pooled = small(head="global")
    pooled.load_state_dict(fixed.state_dict())
    clips = torch.randn(2, 3, 8, 56, 56)
    torch.testing.assert_close(fixed(clips), pooled(clips))
    assert pooled(torch.randn(1, 3, 8, 72, 72))[0].shape == (1, 5, 1)


def test_features_are_what_the_classifier_sees() -> None:
    model = small()
    logits, features = model(torch.randn(2, 3, 8, 56, 56))
    torch.testing.assert_close(logits[:, :, 0], model.fc(features))


@pytest.mark.parametrize("architecture", ["r2plus1d_10", "r2plus1d_50"])
def test_execution_as_2d_convolutions_is_the_same_function(architecture: str) -> None:
    model = small(architecture)
    clips = torch.randn(2, 3, 8, 56, 56)
    expected = model(clips)
    keys = list(model.state_dict())
    model.set_execution("conv2d")
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(model(clips), expected, rtol=1e-5, atol=1e-5)
    channels_last = clips.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(model(channels_last), expected, rtol=1e-5, atol=1e-5)


def test_execution_as_2d_convolutions_has_the_same_gradients() -> None:
    model = small().train().double()  # in float32 a batch norm over few values amplifies rounding to 1e-3
    clips = torch.randn(2, 3, 8, 56, 56, dtype=torch.float64)
    gradients = []
    executions: tuple[Execution, ...] = ("conv3d", "conv2d")
    for execution in executions:
        model.set_execution(execution)
        model.zero_grad()
        model(clips)[0].square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 1e-9 * one.norm() + 1e-12


def test_config_rebuilds_the_model() -> None:
    model = small("r2plus1d_18", stages=[1, 1, 1, 1], bn_eps=1e-4)
    config = json.loads(json.dumps(model.config))
    again = create_model(model.architecture, **config).eval()
    again.load_state_dict(model.state_dict())
    clips = torch.randn(1, 3, 8, 56, 56)
    assert torch.equal(model(clips)[0], again(clips)[0])


def test_zero_gamma_starts_every_block_as_its_shortcut() -> None:
    model = create_model("r2plus1d_10", num_classes=5, width=4, zero_gamma=True)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        assert not model.get_parameter(f"{name}.0.conv2.1.weight").any()
        assert model.get_parameter(f"{name}.0.conv1.1.weight").all()


@pytest.mark.parametrize("architecture", ["resnets3d_r3d_10", "r2d_18"])
def test_stems_of_small_clips(architecture: str) -> None:
    options: dict[str, Any] = {"stem_size": 3, **({"stem_frames": 5} if "r3d" in architecture else {})}
    model = create_model(architecture, num_classes=5, width=4, **options).eval()
    frames = 5 if "r3d" in architecture else 1
    assert model.get_parameter("stem.0.weight").shape == (4, 3, frames, 3, 3)
    whole = create_model(architecture, num_classes=5, width=4).eval()
    clips = torch.randn(1, 3, 8, 40, 40)
    assert model.get_submodule("stem")(clips).shape == whole.get_submodule("stem")(clips).shape
    with pytest.raises(ValueError, match=r"sizes of a stem must be odd numbers, got \d frames and 4 pixels"):
        create_model(architecture, num_classes=5, stem_size=4)


def test_clips_smaller_than_the_head_are_refused() -> None:
    with pytest.raises(ValueError, match=r"too small.*\(1, 2, 2\).*\(1, 4, 4\).*8 frames of 56 pixels"):
        small()(torch.randn(1, 3, 8, 32, 32))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean r2plus1d_18"):
        create_model("r2plus1_18", num_classes=2)
    with pytest.raises(ValueError, match=r"takes no depht; it takes .*depth"):
        create_model("r2plus1d_18", num_classes=2, depht=4)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        create_model("r2plus1d_18", num_classes=0)
    with pytest.raises(ValueError, match="head must be one of"):
        create_model("r2plus1d_18", num_classes=2, head="pooled")
    with pytest.raises(ValueError, match="execution must be one of"):
        create_model("r2plus1d_10", num_classes=2, width=4, execution="cudnn")  # type: ignore[arg-type]


def test_training_step_lowers_the_loss() -> None:
    model = small(crop=64).train()
    clips, labels = torch.randn(4, 3, 8, 64, 64), torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = nn.functional.cross_entropy(model(clips)[0].mean(2), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
