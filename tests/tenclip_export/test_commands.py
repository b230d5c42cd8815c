from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from tenclip_api.errors import BundleError, CheckpointError, DatasetError, ParityError
from tenclip_export import bundle_writer, runtime_checks, speed
from tenclip_export.commands import export, model_name
from tenclip_export.golden import SYNTHETIC
from tenclip_export.parity import FLOOR
from tenclip_serving.runtimes import create_runtime
from tenclip_serving.runtimes.base import Clips, Outputs
from tenclip_training.evaluation.evaluate import clip_outputs
from tenclip_training.loaders.one_head import SIGMOID_NOTE
from tenclip_training.models import VideoModel, create_model
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.bundle import Bundle, read_bundle
from tenclip_video.spec import ClipSpec, Resize

from .conftest import LABELS

app = typer.Typer()
app.command()(export)


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module")
def checkpoint(model: VideoModel, spec: ClipSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "moves" / "best.pt"
    save_checkpoint(path, model, clip_spec=spec, labels=LABELS, provenance={"epochs": 3})
    return path


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """The graph is a copy of the one that is there already."""

    def copy(model: VideoModel, spec: ClipSpec, path: Path) -> tuple[Path, ...]:
        path.write_bytes((bundle.path / "model.onnx").read_bytes())
        return (path,)

    monkeypatch.setattr(bundle_writer, "export_onnx", copy)
    monkeypatch.setattr(speed, "MIN_SECONDS", 0.0)


@pytest.mark.usefixtures("cheap")
class TestExport:
    def test_prints_the_table_and_where_the_bundle_is(self, checkpoint: Path, tmp_path: Path) -> None:
        result = run(checkpoint, "--out", tmp_path)
        assert result.exit_code == 0, result.output
        bundle = read_bundle(tmp_path / "moves" / "1")
        assert bundle.labels == LABELS
        assert bundle.info.provenance["epochs"] == 3
        assert bundle.info.provenance["checkpoint"] == "best.pt"
        assert result.stdout.count("passes") == 4
        assert f"tenclip serve {tmp_path}" in result.stdout.replace("\n", "")
        assert "checking openvino" in result.stderr

    def test_json_is_alone_on_standard_output(self, checkpoint: Path, tmp_path: Path) -> None:
        result = run(checkpoint, "--out", tmp_path, "--name", "m", "--version", "7", "--measure", "--json")
        assert result.exit_code == 0, result.output
        summary = json.loads(result.stdout)
        assert (summary["name"], summary["version"], summary["exported"]) == ("m", "7", True)
        assert Path(summary["path"]) == tmp_path / "m" / "7"
        assert {(r["runtime"], r["crop"]) for r in summary["parity"]} == {
            (runtime, crop) for runtime in ("onnxruntime", "openvino") for crop in (32, 40)
        }
        assert all(r["relative_l2"] < FLOOR for r in summary["parity"])
        assert {s["runtime"] for s in summary["speed"]} == {"onnxruntime", "openvino"}

    def test_a_drifting_runtime_shows_the_table_and_fails(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Nonsense:
            name, batch_size = "nonsense", 1

            def __init__(self, path: Path) -> None:
                self.inner = create_runtime("onnxruntime", path)

            def run(self, clips: Clips) -> Outputs:
                logits, features = self.inner.run(clips)
                return Outputs(np.full_like(logits, np.nan), features)

        monkeypatch.setattr(runtime_checks, "create_runtime", lambda name, path: Nonsense(path))
        result = run(checkpoint, "--out", tmp_path)
        assert isinstance(result.exception, ParityError)
        assert result.stdout.count("FAILS") == 4
        result = run(checkpoint, "--out", tmp_path, "--json")
        assert isinstance(result.exception, ParityError)
        summary = json.loads(result.stdout)
        assert summary["exported"] is False
        assert [r["relative_l2"] for r in summary["parity"]] == [None] * 4
        assert list(tmp_path.iterdir()) == []

    def test_real_videos_join_the_golden_clips(self, checkpoint: Path, tmp_path: Path, data_dir: Path) -> None:
        video = data_dir / "clips" / "archery.avi"
        result = run(checkpoint, "--out", tmp_path, "--video", video, "--json")
        assert result.exit_code == 0, result.output
        golden = read_bundle(tmp_path / "moves" / "1").golden
        assert len(golden.clips) == len(SYNTHETIC) + 1
        assert 20 < golden.clips[-1].mean() < 235, "footage, not a blank"
        assert {r["num_clips"] for r in json.loads(result.stdout)["parity"]} == {len(SYNTHETIC) + 1}

    def test_a_version_that_exists(self, checkpoint: Path, tmp_path: Path) -> None:
        assert run(checkpoint, "--out", tmp_path, "--version", "1").exit_code == 0
        assert isinstance(run(checkpoint, "--out", tmp_path, "--version", "1").exception, BundleError)
        assert run(checkpoint, "--out", tmp_path, "--version", "1", "--overwrite").exit_code == 0

    @pytest.mark.parametrize(
        ("content", "error", "message"),
        [("a\nb\n", BundleError, "2 labels for a model of 3 classes"), ("", DatasetError, "holds no labels")],
    )
    def test_labels_that_do_not_fit(
        self, checkpoint: Path, tmp_path: Path, content: str, error: type[Exception], message: str
    ) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_text(content)
        result = run(checkpoint, "--out", tmp_path / "models", "--labels", labels)
        assert isinstance(result.exception, error)
        assert message in str(result.exception)
        assert not (tmp_path / "models").exists() or not any((tmp_path / "models").iterdir())

    def test_labels_from_a_file(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "labels.txt").write_text("eins\nzwei\ndrei\n")
        assert run(checkpoint, "--out", tmp_path / "models", "--labels", tmp_path / "labels.txt").exit_code == 0
        assert read_bundle(tmp_path / "models" / "moves" / "1").labels == ("eins", "zwei", "drei")

    def test_a_model_of_sigmoids_is_exported_with_a_note(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path
    ) -> None:
        config = {"objective": {"loss": "sigmoid"}}
        save_checkpoint(tmp_path / "m.pt", model, clip_spec=spec, labels=LABELS, provenance={"config": config})
        result = run(tmp_path / "m.pt", "--out", tmp_path / "models", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["notes"] == [SIGMOID_NOTE]


def test_one_of_several_heads(tmp_path: Path) -> None:
    """The whole way: a graph is made, and every runtime agrees with the network that has this head alone."""
    torch.manual_seed(0)
    model = create_model("resnets3d_r3d_10", num_classes=5, width=4, num_frames=4, crop=16)
    spec = ClipSpec(num_frames=4, resize=Resize(height=24, width=32), crop=16, fully_convolutional_crop=None)
    labels = ("verb:cut", "verb:wash", "noun:cup", "noun:pan:dust", "noun:tap")
    path = tmp_path / "both.pt"
    save_checkpoint(path, model, clip_spec=spec, labels=labels, provenance={"config": {"heads": ["verb", "noun"]}})
    result = run(path, "--out", tmp_path / "models")
    assert isinstance(result.exception, CheckpointError)
    assert "has the heads verb and noun, and a bundle holds one classifier" in str(result.exception)
    assert not (tmp_path / "models").exists()
    result = run(path, "--out", tmp_path / "models", "--classifier", "noun", "--name", "nouns")
    assert result.exit_code == 0, result.output
    bundle = read_bundle(tmp_path / "models" / "nouns" / "1")
    assert bundle.labels == ("cup", "pan:dust", "tap")
    assert "the classifier noun of verb, noun" in bundle.info.provenance["notes"]
    (whole,) = clip_outputs(model.eval(), bundle.golden.clips, spec, "cpu")
    np.testing.assert_allclose(bundle.golden.logits, whole.logits[:, 2:], rtol=1e-4, atol=1e-5)


def test_what_is_not_a_checkpoint(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        assert isinstance(run(path, "--out", tmp_path / "models").exception, CheckpointError)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"not a checkpoint at all")
    assert isinstance(run(broken, "--out", tmp_path / "models").exception, CheckpointError)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/moves/best.pt", "moves"),
        ("runs/my moves/LAST.ckpt", "my-moves"),
        ("r2plus1d_18-16x112.pth", "r2plus1d_18-16x112"),
        ("..hidden!.pt", "hidden"),
        ("ü.pt", "model"),
    ],
)
def test_model_name(path: str, name: str) -> None:
    assert model_name(Path(path)) == name


def test_help_has_examples() -> None:
    text: Any = run("--help").output
    assert "Examples:" in text
    assert "--overwrite" in text
