"""Fine-tuning from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_training.runs.config import read_config
from tests.tenclip_training.commands.helpers import error_of, output_of, run

OPTIONS = [
    "--epochs",
    "1",
    "--warmup-epochs",
    "0",
    "--batch-size",
    "6",
    "--precision",
    "fp32",
    "--val-protocol",
    "center-clip",
    "--device",
    "cpu",
]


def test_what_is_trained_is_said_on_the_screen(trained: Path, validated_videos: Path, tmp_path: Path) -> None:
    freezing = ["--freeze-to", "layer3", "--layer-lr", "layer4=0.1", "--layer-lr", "fc=10", "--mixup", "0.2"]
    arguments: list[str | Path] = [
        validated_videos,
        "--init-from",
        trained / "last.pt",
        *OPTIONS,
        *freezing,
        "--label-column",
        "shape",
    ]
    result = run("train", *arguments, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.exception
    assert "its classifier begins anew with" in result.stderr
    assert "the checkpoint has 2, of which 0 are the same" in result.stderr
    assert "frozen: stem, layer1, layer2, layer3" in result.stderr
    assert "learning rates by stage: layer4 x 0.1, fc x 10, all others x 1" in result.stderr
    assert "mixup 0.2" in result.stderr
    config = read_config(tmp_path / "run")
    assert config.optimizer.layer_lr == {"layer4": 0.1, "fc": 10}
    assert (config.transfer.freeze_to, config.objective.mixup) == ("layer3", 0.2)


def test_the_same_classes_keep_their_classifier(trained: Path, validated_videos: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        validated_videos,
        "--init-from",
        trained / "last.pt",
        *OPTIONS,
        "--fc-only",
        "--out",
        tmp_path / "run",
    ]
    plan = output_of(run("train", *arguments, "--dry-run", "--json"))
    assert plan["notes"][0].endswith("its classifier is kept: the same 2 classes")
    assert plan["trained_parameters"] == 2 * 32 + 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--freeze-to", "conv5"], "freeze_to 'conv5' is no stage of r2plus1d_10, which has stem, layer1"),
        (["--fc-only", "--freeze-to", "stem"], "leave out freeze_to"),
        (["--layer-lr", "fc"], "write NAME=VALUE"),
        (["--batch-norm", "sync"], "runs on GPUs only"),
        (["--inflate", "-a", "resnets3d_r3d_10"], "looks over time already"),
    ],
)
def test_what_cannot_be_is_said(
    trained: Path, validated_videos: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    arguments: list[str | Path] = [
        validated_videos,
        "--init-from",
        trained / "last.pt",
        *OPTIONS,
        *options,
        "--out",
        tmp_path / "run",
    ]
    error = error_of(run("train", *arguments))
    assert isinstance(error, InvalidRequest)
    assert message in str(error)
