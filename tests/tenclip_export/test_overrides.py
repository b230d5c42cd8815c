"""`tenclip export` of public checkpoints on another input, with other settings, and without their classifier."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from tenclip_api.errors import BundleError, CheckpointError, InvalidRequest
from tenclip_export import bundle_writer, runtime_checks
from tenclip_export.commands import export
from tenclip_export.onnx_graph import ServedModel, export_onnx
from tenclip_training.loaders import load_any
from tenclip_training.models import VideoModel
from tenclip_video.bundle import Bundle, read_bundle
from tenclip_video.spec import ClipSpec

from ..tenclip_training.loaders.helpers import save, trained
from ..tenclip_training.loaders.reference import resnets3d

app = typer.Typer()
app.command()(export)
K = 5
SMALL = ("--frames", "8", "--resize", "40x52", "--crop", "32", "--head", "global")


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def public(folder: Path) -> Path:
    """A narrow R3D-10 as 3D-ResNets saves it; its preset is 16 frames of 112 pixels."""
    reference = trained(resnets3d.ResNet(8, num_classes=K, layers=(1, 1, 1, 1), shortcut="A"))
    return save(folder / "save_200.pth", reference, lambda s: {"state_dict": s})


@pytest.fixture(scope="module")
def backbone(public: Path, folder: Path) -> Path:
    """The same without its classifier, as self-supervised training leaves it."""
    state = torch.load(public, weights_only=True)["state_dict"]
    path = folder / "pretrained.pth"
    torch.save({"state_dict": {name: value for name, value in state.items() if not name.startswith("fc.")}}, path)
    return path


@pytest.fixture(scope="module", autouse=True)
def one_runtime() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime_checks, "available_runtimes", lambda: ("onnxruntime",))
        yield


@pytest.fixture(scope="module")
def summary(public: Path, folder: Path) -> dict[str, Any]:
    """What `--json` says of the network at the smaller input, with a stem that does not pool."""
    arguments = ("--name", "m", *SMALL, "--model-option", "stem_pool=false", "--json")
    result = run(public, "--out", folder / "models", *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def smaller(summary: dict[str, Any], folder: Path) -> Bundle:
    return read_bundle(folder / "models" / "m" / "1")


def test_another_input_is_exported_and_said(public: Path, tmp_path: Path) -> None:
    input = (*SMALL, "--stride", "2", "--fps", "15", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.2,0.3")
    result = run(public, "--out", tmp_path, "--name", "m", *input, "--value-range", "0-1", "--color-order", "bgr")
    assert result.exit_code == 0, (result.output, result.exception)
    said = " ".join(result.stdout.split())
    assert re.search(r"note input changed from [\w-]+: .*num_frames 8 instead of 16", said), said
    info = read_bundle(tmp_path / "m" / "1").info
    spec = info.clip_spec
    assert (spec.num_frames, spec.frame_stride, spec.target_fps, spec.crop) == (8, 2, 15.0, 32)
    assert (spec.resize.mode, spec.resize.height, spec.resize.width) == ("squash", 40, 52)
    assert (spec.mean, spec.std) == ((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    assert (spec.value_range, spec.color_order) == ("0-1", "bgr")
    assert info.provenance["clip_spec_changes"]["num_frames"] == [16, 8]
    assert info.provenance["model_options"]["head"] == "global"


def test_the_bundle_computes_what_the_loader_gives(public: Path, smaller: Bundle) -> None:
    resize = {"mode": "squash", "height": 40, "width": 52}
    loaded = load_any(
        public,
        clip_spec={"num_frames": 8, "crop": 32, "resize": resize},
        head="global",
        model_options={"stem_pool": False},
    )
    assert smaller.info.clip_spec == loaded.clip_spec
    with torch.inference_mode():
        logits, _ = ServedModel(loaded.model, loaded.clip_spec)(torch.from_numpy(smaller.golden.clips))
    np.testing.assert_allclose(smaller.golden.logits, logits.numpy(), rtol=1e-4, atol=1e-5)


def test_json_names_the_changes(summary: dict[str, Any]) -> None:
    assert any("num_frames 8 instead of 16" in note for note in summary["notes"])
    assert summary["clip_spec_changes"]["crop"] == [112, 32]
    assert summary["model_options"]["head"] == "global"


def test_settings_of_the_network(public: Path, smaller: Bundle, tmp_path: Path) -> None:
    with_pool = run(public, "--out", tmp_path, "--name", "a", *SMALL, "--model-option", "stem_pool=true")
    assert with_pool.exit_code == 0, with_pool.exception
    first = read_bundle(tmp_path / "a" / "1")
    assert first.info.provenance["model_options"]["stem_pool"] is True
    assert smaller.info.provenance["model_options"]["stem_pool"] is False
    assert not np.allclose(first.golden.logits, smaller.golden.logits, rtol=1e-2)


def test_a_classifier_that_is_left_out(
    public: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(model: VideoModel, spec: ClipSpec, path: Path) -> tuple[Path, ...]:
        """Both are the same network; parity with each is checked all the same."""
        whole = tmp_path / "whole" / "1" / "model.onnx"
        if not whole.exists():
            return export_onnx(model, spec, path)
        path.write_bytes(whole.read_bytes())
        return (path,)

    monkeypatch.setattr(bundle_writer, "export_onnx", once)
    for name, path in (("whole", public), ("bare", backbone)):
        result = run(path, "--out", tmp_path, "--name", name, "--features-only", *SMALL)
        assert result.exit_code == 0, (result.output, result.exception)
        assert "no classifier: it answers 64 features a clip, and no predictions" in " ".join(result.stdout.split())
    whole, bare = (read_bundle(tmp_path / name / "1") for name in ("whole", "bare"))
    assert whole.info.features_only
    assert bare.labels == ()
    np.testing.assert_array_equal(whole.golden.features, bare.golden.features)


def test_without_a_classifier_the_error_names_the_option(backbone: Path, tmp_path: Path) -> None:
    result = run(backbone, "--out", tmp_path / "models")
    assert isinstance(result.exception, CheckpointError)
    assert "--features-only" in str(result.exception)
    assert not (tmp_path / "models").exists()


def test_torchserve_is_refused_before_anything_is_made(public: Path, tmp_path: Path) -> None:
    result = run(public, "--out", tmp_path / "models", "--features-only", "--target", "torchserve")
    assert isinstance(result.exception, BundleError)
    assert "leave out --target torchserve" in str(result.exception)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--crop", "300"), CheckpointError, "crop of 300 pixels does not fit"),
        (("--resize", "big"), InvalidRequest, "--resize 'big'"),
        (("--mean", "1"), InvalidRequest, "--mean '1'"),
        (("--std", "0,0,0"), CheckpointError, "std must be positive"),
        (("--std", "1,1,inf"), CheckpointError, "std must be positive and finite"),
        (("--mean", "nan,1,1"), CheckpointError, "mean must be finite"),
        (("--fully-convolutional-crop", "900"), CheckpointError, "crop of 900 pixels does not fit"),
        (("--model-option", "stem_pools=true"), CheckpointError, "stem_pools"),
        (("--model-option", "stem_pool"), InvalidRequest, "NAME=VALUE"),
    ],
)
def test_what_cannot_be(
    public: Path, tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    result = run(public, "--out", tmp_path / "models", *arguments)
    assert isinstance(result.exception, error), result.exception
    assert message in str(result.exception)
    assert not (tmp_path / "models").exists()
