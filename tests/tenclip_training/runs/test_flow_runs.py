"""Networks of optical flow: trained, distilled, fine-tuned from pictures, evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tenclip_api.errors import InvalidRequest
from tenclip_data.manifest import read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.distill import DistillConfig, distill
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.models import create_model
from tenclip_training.models.inflate import flow_stem
from tenclip_training.runs.checkpoint import load_checkpoint, save_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.sections import TransferConfig
from tenclip_training.runs.setup import build_dataset, build_model
from tenclip_training.runs.train import train
from tenclip_video.flow import mirrored_and_scaled
from tests.tenclip_training.conftest import SPEC

from ..distill.conftest import distill_config, scene_file, teacher_file  # noqa: F401


@pytest.fixture
def flow_config(train_config: TrainConfig) -> TrainConfig:
    config = dataclasses.replace(train_config, augmentation=Augmentation(scale=(0.7, 1.0), flip=True))
    return config.changed(modality="flow")


def test_a_run_of_flow_goes_on_to_the_bit_and_is_evaluated(flow_config: TrainConfig, tmp_path: Path) -> None:
    whole = train(flow_config)
    parts = dataclasses.replace(flow_config, out=str(tmp_path / "parts"), cache_gib=1.0, workers=1)
    train(parts, stop_after_steps=2)
    resumed = train(parts, resume=True)
    one, two = (load_checkpoint(r.last) for r in (whole, resumed))
    assert one.weights_sha256 == two.weights_sha256
    assert (one.clip_spec.modality, one.clip_spec.mean, one.model.config["in_channels"]) == ("flow", (128.0,) * 3, 2)
    assert one.model.state_dict()["stem.0.weight"].shape[1] == 2
    found = evaluate(whole.last, read_manifest(flow_config.manifest), split="val")
    assert found.videos_decoded == 4


def test_the_network_looks_at_two_channels_alone() -> None:
    torch.manual_seed(0)
    model = create_model("r2plus1d_10", num_classes=3, width=4, num_frames=4, crop=16, in_channels=2).eval()
    clips = torch.randn(2, 3, 4, 16, 16)
    other = clips.clone()
    other[:, 2] = 5
    assert torch.equal(model(clips)[0], model(other)[0])
    again = create_model("r2plus1d_10", **model.config)
    again.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="two pathways"):
        create_model("mmaction2_slowfast_r50", num_classes=3, width=8, in_channels=2)
    with pytest.raises(ValueError, match="in_channels must be 1, 2 or 3, got 4"):
        create_model("r2plus1d_10", num_classes=3, width=4, in_channels=4)


@pytest.mark.parametrize("inflate", [False, True])
def test_first_kernels_of_pictures_are_averaged_over_colours(
    flow_config: TrainConfig, tmp_path: Path, inflate: bool
) -> None:
    """DistInit, table 5: 0.3, 0.6 and 0.9 become 0.6 and 0.6."""
    architecture = "r2d_18" if inflate else "torchvision_r3d_18"
    frames = 1 if inflate else 4
    model = create_model(architecture, num_classes=2, width=4, num_frames=frames, crop=16)
    spec = dataclasses.replace(SPEC, num_frames=frames)
    save_checkpoint(tmp_path / "rgb.pt", model, clip_spec=spec, labels=["a", "b"], provenance={})
    transfer = TransferConfig(init_from=str(tmp_path / "rgb.pt"), inflate=inflate, inflate_scale=False)
    config = dataclasses.replace(
        flow_config, clip_spec=None, architecture="torchvision_r3d_18", model={}, transfer=transfer
    ).changed(num_frames=4)
    start = build_model(config, ("a", "b"))
    assert "averaged over colours for optical flow" in start.notes[0]
    rgb = model.state_dict()["stem.0.weight"]
    expected = flow_stem(rgb).expand(-1, -1, 3, -1, -1) if inflate else flow_stem(rgb)
    assert torch.allclose(start.model.state_dict()["stem.0.weight"], expected)
    worked = flow_stem(torch.tensor([0.3, 0.6, 0.9]).reshape(1, 3, 1, 1, 1)).flatten()
    assert worked.tolist() == pytest.approx([0.6, 0.6])


def test_mirrored_clips_have_their_motion_turned(flow_config: TrainConfig) -> None:
    manifest = read_manifest(flow_config.manifest).split("train")
    plain = flow_config.changed(flip=False, scale=None)
    made = [build_dataset(c, manifest, c.resolve_clip_spec()) for c in (plain, plain.changed(flip=True))]
    turned = 0
    for visit in range(16):
        one, two = (dataset[visit, 0].frames for dataset in made)  # type: ignore[union-attr]
        if np.array_equal(one, two):
            continue
        turned += 1
        assert np.array_equal(two, mirrored_and_scaled(one[:, :, ::-1], mirrored=True, scale=1.0))
    assert 3 <= turned <= 13


def test_a_student_of_flow_has_teachers_of_pictures(
    distill_config: Callable[..., DistillConfig],  # noqa: F811
) -> None:
    result = distill(distill_config(modality="flow"))
    assert result.student is not None
    student = load_checkpoint(result.student)
    assert (student.clip_spec.modality, student.model.config["in_channels"]) == ("flow", 2)
    assert np.isfinite(result.run.history[-1].loss)


def test_what_flow_has_not(flow_config: TrainConfig, train_config: TrainConfig) -> None:
    with pytest.raises(InvalidRequest, match="optical flow has no colours"):
        train(flow_config.changed(brightness=0.2))
    with pytest.raises(InvalidRequest, match="images do not move"):
        train(flow_config.changed(images="replicate"))
    made = train(flow_config.changed(epochs=1, warmup_epochs=0.0))
    back = dataclasses.replace(train_config, out=f"{train_config.out}2", clip_spec=None)
    with pytest.raises(InvalidRequest, match="a network of optical flow, which takes no pictures"):
        build_model(back.changed(init_from=str(made.last), modality="rgb"), ("a", "b"))
