from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tenclip_api.errors import BundleError
from tenclip_export import bundle_writer
from tenclip_export.commands import export
from tenclip_export.options import TargetOption
from tenclip_export.targets import TARGETS, check_targets, export_targets
from tenclip_serving.models.repository import load_repository
from tenclip_training.models import VideoModel
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.bundle import Bundle, read_bundle
from tenclip_video.spec import ClipSpec

from .conftest import LABELS

app = typer.Typer()
app.command()(export)


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Bundle:
    path = tmp_path / "models" / bundle.info.name / bundle.info.version
    shutil.copytree(bundle.path, path)
    return read_bundle(path)


def test_the_command_knows_every_target() -> None:
    assert tuple(TargetOption) == TARGETS


def test_one_folder_holds_them_all(copied: Bundle, tmp_path: Path) -> None:
    models = tmp_path / "models"
    steps: list[str] = []
    targets = ["bundle", "torchserve", "triton", "torchserve"]
    archive, config = export_targets(copied, models, targets, progress=steps.append)
    assert (archive.path, config.path) == (models / "moves-1.mar", models / "moves" / "config.pbtxt")
    assert archive.path.is_file()
    assert config.path.is_file()
    assert steps == ["writing for torchserve", "writing for triton"]
    command = shlex.split(archive.serve)
    assert (Path(command[command.index("--model-store") + 1]) / command[-1]).is_file()
    repository = load_repository(models, runtime="onnxruntime", threads=1)
    assert [m.name for m in repository] == ["moves"]
    assert repository.failed == ()


def test_no_target_writes_nothing(copied: Bundle, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert export_targets(copied, tmp_path / "models", ["bundle"]) == ()
    assert export_targets(copied, tmp_path / "models", []) == ()
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_a_target() -> None:
    with pytest.raises(ValueError, match="'tensorflow' is not one of bundle, torchserve, triton"):
        check_targets(["triton", "tensorflow"], version=None)
    with pytest.raises(BundleError, match="Triton serves positive integers only"):
        check_targets(["triton"], version="1.2")
    check_targets(["triton"], version="12")
    check_targets(["triton"], version=None)
    check_targets(["torchserve"], version="1.2")


def test_the_command(
    model: VideoModel, spec: ClipSpec, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(model: VideoModel, spec: ClipSpec, path: Path) -> tuple[Path, ...]:
        path.write_bytes((bundle.path / "model.onnx").read_bytes())
        return (path,)

    monkeypatch.setattr(bundle_writer, "export_onnx", copy)
    checkpoint = tmp_path / "moves.pt"
    save_checkpoint(checkpoint, model, clip_spec=spec, labels=LABELS, provenance={})
    out = tmp_path / "out"
    result = run(checkpoint, "--out", out, "--version", "v1", "--target", "triton")
    assert isinstance(result.exception, BundleError)
    assert not out.exists()
    result = run(checkpoint, "--out", out, "--target", "torchserve", "--target", "triton", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert [t["target"] for t in summary["targets"]] == ["torchserve", "triton"]
    assert all(Path(t["path"]).is_file() for t in summary["targets"])
    assert (Path(summary["path"]).parent / "config.pbtxt").is_file()
    result = run(checkpoint, "--out", out, "--target", "torchserve")
    assert result.exit_code == 0, result.output
    assert "moves-2.mar" in result.stdout.replace("\n", "")
    assert f"torchserve --start --foreground --model-store {out} --models moves-2.mar" in result.stdout
