from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tenclip_api.errors import CheckpointError, InvalidRequest
from tenclip_training.models import create_model
from tenclip_training.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.tenclip_training.commands.helpers import error_of, output_of, run
from tests.tenclip_training.conftest import SPEC
from tests.tenclip_training.loaders.reference import resnets3d


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    model = create_model("r2d_18", num_classes=2, width=4, num_frames=1, crop=16)
    path = tmp_path / "frames.pt"
    save_checkpoint(path, model, clip_spec=SPEC, labels=("a", "b"), provenance={})
    return path


def test_a_checkpoint_is_inflated(frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "clips.pt"
    values = output_of(run("inflate", frames, "-a", "resnets3d_r3d_18", "--frames", "8", "-o", out, "--json"))
    made, flat = load_checkpoint(out), load_checkpoint(frames)
    assert (values["labels"], values["num_frames"], values["scaled"]) == (["a", "b"], 8, True)
    assert (made.labels, made.clip_spec.num_frames, made.model.config["width"]) == (("a", "b"), 8, 4)
    assert torch.equal(made.model.fc.weight, flat.model.fc.weight)
    kernel = made.model.get_parameter("layer2.0.conv1.0.weight")
    torch.testing.assert_close(kernel.sum(2, keepdim=True), flat.model.get_parameter("layer2.0.conv1.0.weight"))
    assert made.provenance["inflated_from_weights_sha256"] == flat.weights_sha256
    result = run("inflate", frames, "-a", "resnets3d_r3d_18", "--no-scale", "-o", out)
    assert "r2d_18 inflated to resnets3d_r3d_18" in result.stdout
    repeated = load_checkpoint(out)
    torch.testing.assert_close(repeated.model.get_parameter("layer2.0.conv1.0.weight"), 3 * kernel)
    assert repeated.provenance["kernels"] == "repeated"


def test_public_weights_keep_their_classifier_unless_told(tmp_path: Path) -> None:
    torch.save(resnets3d.ResNet(8, (2, 2, 2, 2), dims=2).state_dict(), tmp_path / "resnet18.pth")
    arguments: list[str | Path] = [
        tmp_path / "resnet18.pth",
        "-a",
        "torchvision_r3d_18",
        "-o",
        tmp_path / "r3d.pt",
        "--json",
    ]
    whole = output_of(run("inflate", *arguments))
    assert whole["classes"] > 0
    assert whole["labels"] is None
    assert output_of(run("inflate", *arguments, "--features-only"))["classes"] == 0
    assert load_checkpoint(tmp_path / "r3d.pt").model.num_classes == 0


def test_what_cannot_be(frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    error = error_of(run("inflate", frames, "-a", "r2plus1d_18", "-o", out))
    assert isinstance(error, InvalidRequest)
    assert "pairs, one over space and one over time" in str(error)
    assert not out.exists()
    flow = create_model("r2d_18", num_classes=2, width=4, num_frames=1, crop=16, in_channels=2)
    save_checkpoint(tmp_path / "flow.pt", flow, clip_spec=SPEC, labels=("a", "b"), provenance={})
    error = error_of(run("inflate", tmp_path / "flow.pt", "-a", "resnets3d_r3d_18", "-o", out))
    assert "flow.pt: a network of optical flow of 2 channels, and the network of clips would be" in str(error)
    error = error_of(run("inflate", frames, "-a", "resnets3d_r3d_18", "-o", frames))
    assert "is the checkpoint itself" in str(error)
    assert isinstance(
        error_of(run("inflate", tmp_path / "no.pt", "-a", "resnets3d_r3d_18", "-o", out)), CheckpointError
    )
