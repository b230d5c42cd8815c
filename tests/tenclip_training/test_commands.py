from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_training import commands
from tenclip_training.console import epoch_line, reporting
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig, read_config
from tenclip_training.runs.train import EpochResult
from tenclip_video.spec import Resize

SMALL = ["-a", "r2plus1d_10", "--width", "4", "--frames", "4", "--crop", "16", "--resize", "24x32"]
QUICK = [*SMALL, "--batch-size", "6", "--precision", "fp32", "--val-protocol", "center-clip", "--device", "cpu"]


def run(name: str, *arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(getattr(commands, name))
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)


def error_of(result: Result) -> BaseException:
    assert result.exception is not None
    return result.exception


def output_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.exception
    values: dict[str, Any] = json.loads(result.stdout)
    return values


@pytest.fixture(scope="module")
def trained(action_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    out = tmp_path_factory.mktemp("trained") / "run"
    result = run("train", action_videos, "--out", out, *QUICK, "--epochs", "2", "--json")
    values = output_of(result)
    assert values["completed"] is True
    assert [h["epoch"] for h in values["history"]] == [1, 2]
    assert values["evaluation"]["videos_asked"] == 4
    assert values["labels"] == ["move_left", "move_right"]
    assert Path(values["best"]).is_file()
    return out


# -- train --


def test_options_reach_the_config(action_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[TrainConfig] = []
    monkeypatch.setattr(commands, "_run", lambda config, **_: configs.append(config))
    arguments = "--fps 12 --stride 2 --scale 0.5-0.9 --color-jitter 0.3 --no-flip --lr 0.3 --epochs 4 --seed 9"
    arguments += " --model-option bn_eps=1e-5 --model-option head=global --optimizer adamw --keep-missing --cache 0"
    result = run("train", action_videos, "--out", tmp_path / "run", *SMALL, *arguments.split())
    assert result.exit_code == 0, result.exception
    (config,) = configs
    assert config.clip_spec is not None
    assert (config.clip_spec.target_fps, config.clip_spec.frame_stride, config.clip_spec.num_frames) == (12, 2, 4)
    assert config.clip_spec.resize == Resize(height=24, width=32)
    assert config.clip_spec.fully_convolutional_crop == 24
    assert config.model == {"width": 4, "bn_eps": 1e-5, "head": "global"}
    assert (config.augmentation.scale, config.augmentation.flip) == ((0.5, 0.9), False)
    assert config.augmentation.saturation == 0.3
    assert (config.learning_rate, config.optimizer, config.seed, config.missing) == (0.3, "adamw", 9, "keep")
    assert config.warmup_epochs == 2, "no more than half of the epochs"
    assert config.cache_gib == 0


def test_without_options_clips_and_flip_are_left_to_the_defaults(
    action_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[TrainConfig] = []
    monkeypatch.setattr(commands, "_run", lambda config, **_: configs.append(config))
    run("train", action_videos, "-o", tmp_path / "run")
    assert configs[0].clip_spec is None
    assert configs[0].augmentation.flip is None
    assert configs[0].architecture == "r2plus1d_18"
    run("train", action_videos, "-o", tmp_path / "run", "--resize", "128")
    spec = configs[1].clip_spec
    assert spec is not None
    assert (spec.resize.mode, spec.resize.short_edge, spec.crop, spec.fully_convolutional_crop) == (
        *("short_edge", 128),
        *(112, 128),
    )


def test_a_run_in_words(action_videos: Path, tmp_path: Path) -> None:
    result = run("train", action_videos, "--out", tmp_path / "run", *QUICK, "--epochs", "1", "--warmup-epochs", "0")
    assert result.exit_code == 0, result.exception
    assert "epoch 1 of 1: loss" in result.stderr
    assert "val video top-1" in result.stderr
    assert "wrote" in result.stdout
    assert "best.pt" in result.stdout


def test_ctrl_c_saves_and_says_how_to_go_on(action_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "my run"
    arguments = ["train", str(action_videos), "--out", str(out), *QUICK, "--epochs", "2000", "--cache", "1"]
    code = "import sys; from tenclip_client.cli.main import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--val-every", "2000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("epoch")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"go on with: tenclip train --resume '{out}'" in errors
    assert "Traceback" not in errors
    state = load_checkpoint(out / "last.pt").training_state
    assert state is not None
    assert state["epoch"] >= 1


def test_resume_of_a_finished_run(trained: Path) -> None:
    result = run("train", "--resume", trained, "--json")
    assert output_of(result)["epochs_done"] == 2


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ([], InvalidRequest, "needs a manifest and --out"),
        (["MANIFEST"], InvalidRequest, "needs a manifest and --out"),
        (["MANIFEST", "--resume", "RUN"], InvalidRequest, "--resume takes the folder of a run"),
        (["--resume", "NOWHERE"], CheckpointError, "not the folder of a training run"),
        (["MANIFEST", "--out", "NEW", "--scale", "big"], InvalidRequest, "--scale 'big': write two numbers"),
        (["MANIFEST", "--out", "NEW", "--resize", "big"], InvalidRequest, "--resize 'big': write HEIGHTxWIDTH"),
        (
            ["MANIFEST", "--out", "NEW", "--resize", "64x64", "--crop", "80"],
            InvalidRequest,
            "a crop of 80 does not fit",
        ),
        (["MANIFEST", "--out", "NEW", "--model-option", "x"], InvalidRequest, "write NAME=VALUE"),
        (["MANIFEST", "--out", "NEW", "--epochs", "0"], InvalidRequest, "epochs must be at least 1"),
        (["MANIFEST", "--out", "NEW", "-a", "r2plus1d_11"], InvalidRequest, "no architecture"),
        (["MANIFEST", "--out", "NEW", "--videos", "NOWHERE"], DatasetError, "no such folder of videos"),
        (["MANIFEST", "--out", "RUN", *QUICK], CheckpointError, "holds a run already"),
    ],
)
def test_train_refuses(
    trained: Path, action_videos: Path, tmp_path: Path, arguments: list[str], kind: type[Exception], message: str
) -> None:
    places = {"MANIFEST": action_videos, "RUN": trained, "NEW": tmp_path / "new", "NOWHERE": tmp_path / "nowhere"}
    error = error_of(run("train", *(places.get(a, a) for a in arguments)))
    assert isinstance(error, kind), error
    assert message in str(error)
    assert not (tmp_path / "new" / "last.pt").exists()


# -- evaluate --


def test_evaluate(trained: Path, action_videos: Path) -> None:
    values = output_of(run("evaluate", trained / "best.pt", action_videos, "--json"))
    assert values["split"] == "test"
    assert values["protocol"] == "ten-clip"
    assert (values["videos_asked"], values["videos_decoded"], values["videos_skipped"]) == (4, 4, 0)
    assert values["clip_top1"]["total"] == 40
    assert values["video_top1"]["total"] == 4
    every = output_of(run("evaluate", trained / "best.pt", action_videos, "--split", "all", "--json"))
    assert every["videos_asked"] == 16


def test_evaluate_prints_a_table_with_denominators(trained: Path, broken_manifest: Path) -> None:
    result = run("evaluate", trained / "best.pt", broken_manifest, "--protocol", "fully-convolutional")
    assert result.exit_code == 0, result.exception
    assert "5 videos asked for, 4 decoded, 1 skipped" in result.stdout
    assert "NOT_A_VIDEO" in result.stdout
    assert "move_left" in result.stdout


def test_protocols_are_listed(trained: Path, action_videos: Path) -> None:
    result = run("evaluate", trained, action_videos, "--protocol", "list")
    assert "fully-convolutional" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["CONFIG", "MANIFEST"], CheckpointError, "config.json"),
        (["BEST", "MANIFEST", "--split", "dev"], DatasetError, "no video in split 'dev'"),
        (["BEST", "MANIFEST", "--protocol", "11-clip"], InvalidRequest, "protocol '11-clip'"),
        (["BEST", "MANIFEST", "--label-column", "shape"], DatasetError, "is not one of the 2 known ones"),
    ],
)
def test_evaluate_refuses(
    trained: Path, action_videos: Path, arguments: list[str], kind: type[Exception], message: str
) -> None:
    places = {"MANIFEST": action_videos, "BEST": trained / "best.pt", "CONFIG": trained / "config.json"}
    error = error_of(run("evaluate", *(places.get(a, a) for a in arguments)))
    assert isinstance(error, kind), error
    assert message in str(error)


def test_evaluate_needs_to_be_told_what_is_held_out(trained: Path, tmp_path: Path, action_videos: Path) -> None:
    manifest = tmp_path / "m.csv"
    name = action_videos.parent / action_videos.read_text().splitlines()[1].split(",")[0]
    manifest.write_text(f"path,label,split\n{name},move_left,train\n")
    error = error_of(run("evaluate", trained / "best.pt", manifest))
    assert "has neither a test nor a val split but train; name one" in str(error)


def test_evaluate_takes_labels_for_a_checkpoint_without_names(
    trained: Path, action_videos: Path, tmp_path: Path
) -> None:
    torch.save(load_checkpoint(trained / "best.pt").model.state_dict(), tmp_path / "public.pth")
    (tmp_path / "labels.txt").write_text("move_right\nmove_left\n")
    values = output_of(
        run(
            *("evaluate", tmp_path / "public.pth", action_videos, "--labels", tmp_path / "labels.txt"),
            *("--family", "vmz", "--protocol", "center-clip", "--json"),
        )
    )
    assert values["labels"] == ["move_right", "move_left"]
    assert values["protocol"] == "center-clip"


# -- shared --


@pytest.mark.parametrize("name", ["train", "evaluate", "synth"])
def test_help_has_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"tenclip {name}" in result.stdout


def test_no_such_command() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        commands.fly  # noqa: B018


def test_commands_import_nothing_heavy() -> None:
    code = (
        "import sys, tenclip_training.commands\n"
        "heavy = {'torch', 'numpy', 'av', 'cv2', 'sklearn', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_epoch_line_gives_denominators() -> None:
    result = EpochResult(epoch=3, loss=0.5, learning_rate=0.1, train_clip_top1=0.75, train_clips=40, seconds=2.0)
    assert epoch_line(result, 10) == "epoch  3 of 10: loss 0.500, train clip top-1 75.0% of 40, 2.0 s"


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import tenclip_training.console as console

    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with reporting() as reporter:
        reporter.update("epoch 1 of 2", 3, 7, "loss [0.5]")
    assert capsys.readouterr().err == "epoch 1 of 2: 3 of 7, loss [0.5]\n"


def test_read_config_of_a_run(trained: Path) -> None:
    assert read_config(trained).epochs == 2
