"""From frames to clips: a frame network is trained, inflated and fine-tuned (IG-65M, section 4.3.2)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import create_model
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.inflation import INFLATABLE, inflate_model, inflated_spec
from tenclip_training.runs.setup import build_model
from tenclip_training.runs.train import train
from tests.tenclip_training.conftest import SPEC
from tests.tenclip_training.loaders.reference import resnets3d

LABELS = ("move_left", "move_right")


@pytest.fixture
def frames_config(train_config: TrainConfig) -> TrainConfig:
    """A frame network of 10 layers on single random frames."""
    return train_config.changed(
        architecture="r2d_18",
        model={"width": 4, "depth": 10},
        clip_spec=dataclasses.replace(SPEC, num_frames=1),
        epochs=1,
        warmup_epochs=0,
        val_every=1,
    )


def inflated(config: TrainConfig, start: Path, **changes: Any) -> TrainConfig:
    values = {"init_from": str(start), "inflate": True, "architecture": "resnets3d_r3d_10", "clip_spec": None}
    return config.changed(**{**values, "model": {}, "out": f"{config.out}-3d", "num_frames": 4, **changes})


def test_frames_then_clips(frames_config: TrainConfig) -> None:
    first = train(frames_config)
    assert first.history[-1].val_videos_decoded == 4
    flat = load_checkpoint(first.last)
    assert flat.clip_spec.num_frames == 1
    config = inflated(frames_config, first.last)
    start = build_model(config, LABELS)
    assert start.model.config["width"] == 4, "as wide as the frame network"
    assert start.clip_spec == SPEC
    stem = start.model.get_parameter("stem.0.weight")  # [4,3,7,7,7]
    torch.testing.assert_close(stem.sum(2, keepdim=True), flat.model.get_parameter("stem.0.weight"))
    assert torch.equal(start.model.fc.weight, flat.model.fc.weight), "the same classes"
    (note,) = start.notes
    assert note == (
        f"starts from {first.last}, a r2d_18 inflated to resnets3d_r3d_10; its classifier is kept: the same 2 classes"
    )
    result = train(config)
    assert result.completed
    last = load_checkpoint(result.last)
    assert (last.model.architecture, last.clip_spec.num_frames) == ("resnets3d_r3d_10", 4)


def test_repeating_alone_is_a_setting(frames_config: TrainConfig) -> None:
    config = inflated(frames_config, train(frames_config).last)
    divided, repeated = (build_model(config.changed(inflate_scale=s), LABELS).model for s in (True, False))
    one, other = (m.get_parameter("layer1.0.conv1.0.weight") for m in (divided, repeated))
    torch.testing.assert_close(other, 3 * one)


def test_other_classes_get_a_new_classifier(frames_config: TrainConfig) -> None:
    config = inflated(frames_config, train(frames_config).last)
    start = build_model(config, ("a", "b", "c"))
    assert start.model.num_classes == 3
    assert start.notes[0].endswith(
        "its classifier begins anew with 3 classes: the checkpoint has 2, of which 0 are the same"
    )


def test_torchvision_weights_are_inflated(train_config: TrainConfig, tmp_path: Path) -> None:
    torch.manual_seed(2)
    public = resnets3d.ResNet(8, (2, 2, 2, 2), dims=2).state_dict()
    torch.save(public, tmp_path / "resnet18.pth")
    changes = {"architecture": "torchvision_r3d_18", "epochs": 1, "warmup_epochs": 0, "resize": (24, 32), "crop": 16}
    config = inflated(train_config, tmp_path / "resnet18.pth", **changes)
    start = build_model(config, LABELS)
    assert start.notes[0].endswith("begins anew with 2 classes: the checkpoint names none")
    torch.testing.assert_close(start.model.get_parameter("stem.0.weight")[:, :, 1], public["conv1.weight"] / 3)
    torch.testing.assert_close(
        start.model.get_buffer("layer4.1.conv2.1.running_var"), public["layer4.1.bn2.running_var"]
    )
    assert train(config).completed


def test_the_clips_are_as_long_as_the_network_is_made_for() -> None:
    flat = dataclasses.replace(SPEC, num_frames=1)
    assert inflated_spec(flat, "resnets3d_r3d_18") == dataclasses.replace(SPEC, num_frames=16)
    assert inflated_spec(flat, "slowonly_r50").num_frames == 4
    assert inflated_spec(SPEC, "slowonly_r50") == SPEC, "clips of several frames, of a TSN, stay"
    assert inflated_spec(flat, "unknown") == flat


@pytest.mark.parametrize("depth", INFLATABLE)
def test_what_is_offered_can_be_done(depth: int) -> None:
    frames = create_model("r2d_18", num_classes=2, width=1, depth=depth, crop=32)
    for name in INFLATABLE[depth]:
        made = inflate_model(frames, name, {"num_frames": 16, "crop": 32}, scale=True, source="x.pt")
        assert made.architecture == name


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            "r2plus1d_18",
            r"x.pt: .*cannot be inflated to r2plus1d_18: its \(2\+1\)D .*r2d_18 can be inflated to resnets3d_r3d_18",
        ),
        ("resnets3d_r3d_34", r"does not fit resnets3d_r3d_34: \d+ missing"),
        ("ir_csn_50", "channel-separated"),
        ("resnets3d_r3d_19", "no architecture 'resnets3d_r3d_19'; did you mean resnets3d_r3d_1"),
    ],
)
def test_what_cannot_be_inflated_is_refused_with_the_reason(architecture: str, message: str) -> None:
    frames = create_model("r2d_18", num_classes=2, width=4, crop=32)
    with pytest.raises(InvalidRequest, match=message):
        inflate_model(frames, architecture, {"num_frames": 8, "crop": 32}, scale=True, source="x.pt")
