"""From a public checkpoint to a served prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

import tenclip_training
from tenclip_api.errors import BundleError, CheckpointError
from tenclip_client import Client
from tenclip_export import bundle_writer, runtime_checks
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.commands import export
from tenclip_export.onnx_graph import ServedModel
from tenclip_serving.models.repository import load_model
from tenclip_training.loaders import load_any
from tenclip_training.models import VideoModel, create_model
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.bundle import read_bundle
from tenclip_video.clips import read_clips
from tenclip_video.protocols import PROTOCOLS, video_probabilities
from tenclip_video.spec import ClipSpec

from ..tenclip_serving.helpers import make_video, running_server
from ..tenclip_training.loaders.helpers import save, trained
from ..tenclip_training.loaders.reference import resnets3d

app = typer.Typer()
app.command()(export)
K = 5


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow R3D-10 as 3D-ResNets saves it, with a file name that says nothing."""
    reference = trained(resnets3d.ResNet(8, num_classes=K, layers=(1, 1, 1, 1), shortcut="A"))
    return save(tmp_path_factory.mktemp("downloads") / "save_200.pth", reference, lambda s: {"state_dict": s})


@pytest.fixture(scope="module")
def models(public: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of it."""
    out = tmp_path_factory.mktemp("models")
    labels = out.parent / "labels.txt"
    labels.write_text("".join(f"action {i}\n" for i in range(K)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime_checks, "available_runtimes", lambda: ("onnxruntime",))
        result = run(public, "--out", out, "--name", "r3d", "--labels", labels)
    assert result.exit_code == 0, result.output
    assert "wrote" in result.stdout
    return out


def test_the_authors_input_and_protocol_are_in_the_bundle(models: Path) -> None:
    info = read_bundle(models / "r3d" / "1").info
    assert (info.family, info.default_protocol, info.label_source) == ("3d-resnets", "3d-resnets", "file")
    assert info.architecture == "resnets3d_r3d_10"
    assert info.provenance["checkpoint"] == info.provenance["file"] == "save_200.pth"
    assert info.provenance["source"] == "github.com/kenshohara/3D-ResNets-PyTorch"


def test_one_function_loads_ours_and_public_ones(
    public: Path, model: VideoModel, spec: ClipSpec, tmp_path: Path
) -> None:
    network, clip_spec, provenance = tenclip_training.load_checkpoint(public)
    assert (network.num_classes, clip_spec, provenance["family"]) == (K, load_any(public).clip_spec, "3d-resnets")
    save_checkpoint(tmp_path / "own.pt", model, clip_spec=spec, labels=None, provenance={"seed": 3})
    network, clip_spec, provenance = tenclip_training.load_checkpoint(tmp_path / "own.pt")
    assert (clip_spec, provenance["seed"]) == (spec, 3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), model.parameters(), strict=True))
    with pytest.raises(AttributeError, match="has no attribute 'load_checkpoints'"):
        tenclip_training.load_checkpoints  # noqa: B018


def test_the_served_prediction_is_the_checkpoints(models: Path, public: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", num_frames=40)
    loaded = load_any(public)
    protocol = PROTOCOLS[loaded.protocol]
    read = read_clips(video, loaded.clip_spec, protocol)
    with torch.inference_mode():
        logits, _ = ServedModel(loaded.model, loaded.clip_spec)(torch.from_numpy(read.clips))
    expected = video_probabilities(logits.numpy(), protocol.averaging)

    with running_server(models) as server, Client(server.address) as client:
        prediction = client.predict(video, top_k=K)
    got = {score.label: score.score for score in prediction.top}
    assert prediction.provenance.protocol == "3d-resnets"
    np.testing.assert_allclose([got[f"action {i}"] for i in range(K)], expected, atol=2e-6)


def test_without_labels_it_says_that_classes_are_numbers(
    public: Path, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(model: VideoModel, spec: ClipSpec, path: Path) -> tuple[Path, ...]:
        path.write_bytes((models / "r3d" / "1" / "model.onnx").read_bytes())
        return (path,)

    monkeypatch.setattr(bundle_writer, "export_onnx", copy)
    monkeypatch.setattr(runtime_checks, "available_runtimes", lambda: ("onnxruntime",))
    result = run(public, "--out", tmp_path, "--family", "3d-resnets")
    assert result.exit_code == 0, result.output
    assert "5 classes named by their numbers" in " ".join(result.stdout.split())
    assert read_bundle(tmp_path / "save_200" / "1").labels == ("0", "1", "2", "3", "4")
    summary = json.loads(run(public, "--out", tmp_path, "--json").stdout)
    assert (summary["label_source"], summary["family"]) == ("index", "3d-resnets")
    assert "labels are numbers" in summary["notes"][0]


def test_several_positions_at_the_crop_itself(spec: ClipSpec, tmp_path: Path) -> None:
    """As pytorchvideo tests r2plus1d_r50: made for 224 pixels, fed 256."""
    model = create_model("r2plus1d_10", num_classes=3, width=8, num_frames=8, crop=32)
    spec = replace(spec, crop=48, fully_convolutional_crop=None, resize=replace(spec.resize, height=50, width=60))
    bundle = export_bundle(trained(model), spec, tmp_path, name="m", runtimes=["onnxruntime", "openvino"])
    assert bundle.golden.logits.shape[2] > 1
    assert all(p.passed for p in bundle.info.parity)
    assert load_model(bundle.path).runtime.run(bundle.golden.clips).logits.shape == bundle.golden.logits.shape
    with pytest.raises(BundleError, match="made for 32 pixels, its ClipSpec crops to 24"):
        export_bundle(model, replace(spec, crop=24), tmp_path, name="m")


class TestBadInput:
    def test_a_label_file_of_another_length(self, public: Path, tmp_path: Path) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_text("a\nb\n")
        error = run(public, "--out", tmp_path / "out", "--labels", labels).exception
        assert isinstance(error, BundleError)
        assert str(error) == f"{labels}: 2 labels for a model of 5 classes"
        assert not (tmp_path / "out").exists()

    def test_a_truncated_file(self, public: Path, tmp_path: Path) -> None:
        (tmp_path / "half.pth").write_bytes(public.read_bytes()[: public.stat().st_size // 2])
        error = run(tmp_path / "half.pth", "--out", tmp_path / "out").exception
        assert isinstance(error, CheckpointError)
        assert "half.pth" in str(error)
        assert not (tmp_path / "out").exists()

    def test_a_network_from_elsewhere(self, tmp_path: Path) -> None:
        torch.save({"encoder.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
        assert isinstance(run(tmp_path / "other.pth", "--out", tmp_path / "out").exception, CheckpointError)

    def test_an_unknown_family(self, public: Path, tmp_path: Path) -> None:
        error = run(public, "--out", tmp_path, "--family", "3d-resnet").exception
        assert isinstance(error, CheckpointError)
        assert "3d-resnets" in str(error)

    def test_family_of_a_checkpoint_of_ours(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "own.pt", model, clip_spec=spec, labels=None, provenance={})
        assert load_any(tmp_path / "own.pt").family == "tenclip"
        with pytest.raises(CheckpointError, match="says its input itself; leave out --family"):
            load_any(tmp_path / "own.pt", family="vmz")

    def test_a_damaged_checkpoint_of_ours_is_not_taken_for_a_public_one(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path
    ) -> None:
        path = tmp_path / "own.pt"
        save_checkpoint(path, model, clip_spec=spec, labels=None, provenance={})
        payload = torch.load(path, weights_only=True)
        payload["state_dict"]["fc.weight"][0] = float("nan")
        torch.save(payload, path)
        with pytest.raises(CheckpointError, match=r"fc\.weight holds values that are not finite"):
            load_any(path)
