from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_settings import fields_of
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import SECTIONS, TrainConfig, read_config
from tenclip_video.spec import Resize
from tests.tenclip_training.commands.helpers import QUICK, SMALL, error_of, output_of, run

# -- options --


def configs_of(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> TrainConfig:
    """What `tenclip train` would run."""
    configs: list[TrainConfig] = []
    # The attribute `train` of the package is the module that the entry point names.
    module = importlib.import_module("tenclip_training.commands.train")
    monkeypatch.setattr(module, "_run", lambda config, **_: configs.append(config))
    result = run("train", *arguments)
    if result.exception is not None:
        raise result.exception
    (config,) = configs
    return config


NAMES = ["m.csv", "--out", "run"]


def test_options_reach_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "--fps 12 --stride 2 --scale 0.5-0.9 --color-jitter 0.3 --contrast 0 --no-flip --lr 0.3 --epochs 4 --seed 9"
    text += " --model-option bn_eps=1e-5 --model-option head=global --optimizer adamw --keep-missing --cache 0"
    text += " --momentum 0.8 --save-every-minutes 1 --clip-gradients 5 --mean 0.5,0.5,0.5 --value-range=-1-1"
    config = configs_of(monkeypatch, *NAMES, *SMALL, *text.split())
    spec = config.resolve_clip_spec()
    assert (spec.target_fps, spec.frame_stride, spec.num_frames) == (12, 2, 4)
    assert (spec.mean, spec.value_range) == ((0.5, 0.5, 0.5), "-1-1")
    assert spec.resize == Resize(height=24, width=32)
    assert spec.fully_convolutional_crop == 24
    assert config.model == {"width": 4, "bn_eps": 1e-5, "head": "global"}
    assert (config.augmentation.scale, config.augmentation.flip) == ((0.5, 0.9), False)
    assert (config.augmentation.saturation, config.augmentation.contrast) == (0.3, 0)
    assert (config.optimizer.lr, config.optimizer.algorithm, config.seed, config.missing) == (0.3, "adamw", 9, "keep")
    assert (config.optimizer.momentum, config.save_every_minutes, config.optimizer.max_gradient_norm) == (0.8, 1, 5)
    assert config.schedule.warmup_epochs == 2, "half of the epochs"
    assert config.cache_gib == 0


def test_without_options_every_field_has_the_default_of_the_dataclass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configs_of(monkeypatch, *NAMES) == TrainConfig(manifest="m.csv", out="run")


def test_every_field_but_the_whole_spec_is_an_option() -> None:
    exposed = fields_of(TrainConfig)
    ours = {f.name for f in dataclasses.fields(TrainConfig)} - {"clip_spec", *SECTIONS}
    inner = {f.name for kind in SECTIONS.values() for f in dataclasses.fields(kind)}
    assert set(exposed) == ours | inner


OPTIONS = """
--videos --labels --label-column --train-split --val-split --held-out --whole-videos --keep-missing --max-failures
--frames --stride --fps --resize --crop --flip --no-flip --scale --color-jitter --clips-per-video
--architecture -a --width --model-option --init-from --init-family
--epochs --batch-size -b --learning-rate --lr --warmup-epochs --optimizer --weight-decay --label-smoothing
--clip-gradients --seed --val-every --val-protocol --momentum --save-every-minutes --missing
--device --precision --workers --cache --channels-last --no-channels-last --json --out -o --resume
"""


@pytest.mark.parametrize("option", OPTIONS.split())
def test_names_of_options_stay(option: str) -> None:
    """Scripts hold them."""
    app = typer.Typer()
    app.command()(importlib.import_module("tenclip_training.commands.train").train)
    parameters = typer.main.get_command(app).params
    assert option in {name for p in parameters for name in (*p.opts, *p.secondary_opts)}


def test_a_clip_option_replaces_its_part_of_the_checkpoints_clips(
    trained: Path, validated_videos: Path, tmp_path: Path
) -> None:
    """Of `trained`: 4 frames of 24x32, crop 16."""
    arguments: list[str | Path] = [
        "--init-from",
        trained / "last.pt",
        "--stride",
        "2",
        "--epochs",
        "1",
        "--warmup-epochs",
        "0",
    ]
    done = run("train", validated_videos, "--out", tmp_path / "run", *arguments, "--device", "cpu", "--json")
    output_of(done)
    before = load_checkpoint(trained / "last.pt").clip_spec
    assert load_checkpoint(tmp_path / "run" / "last.pt").clip_spec == dataclasses.replace(before, frame_stride=2)


def test_a_run_in_words(validated_videos: Path, tmp_path: Path) -> None:
    result = run("train", validated_videos, "--out", tmp_path / "run", *QUICK, "--epochs", "1", "--warmup-epochs", "0")
    assert result.exit_code == 0, result.exception
    assert "epoch 1 of 1: loss" in result.stderr
    assert "val video top-1" in result.stderr
    assert "wrote" in result.stdout
    assert "best.pt" in result.stdout


def test_videos_that_cannot_be_read_and_a_missing_best_are_said(broken_manifest: Path, tmp_path: Path) -> None:
    """1 of 13 training and 1 of 5 test videos, of which the latter are watched and not chosen on."""
    arguments: tuple[str | Path, ...] = (
        broken_manifest,
        *QUICK,
        "--epochs",
        "1",
        "--warmup-epochs",
        "0",
        "--val-split",
        "test",
    )
    result = run("train", *arguments, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.exception
    failures = tmp_path / "run" / "failures.jsonl"
    assert f"1 of 13 training videos could not be read: {failures}\n" in result.stdout
    assert f"1 of 5 validation videos could not be read: {failures}\n" in result.stdout
    assert "no best.pt: the best epoch is never chosen on a test split" in result.stdout
    values = output_of(run("train", *arguments, "--out", tmp_path / "other", "--json"))
    assert [(f["split"], f["reason"]) for f in values["failures"]] == [
        ("train", "EMPTY_VIDEO"),
        ("test", "NOT_A_VIDEO"),
    ]
    assert (values["videos_failed"], values["val_videos_failed"], values["best"]) == (1, 1, None)


def test_ctrl_c_saves_and_says_how_to_go_on(validated_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "my run"
    arguments = ["train", str(validated_videos), "--out", str(out), *QUICK, "--epochs", "2000", "--cache", "1"]
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


def test_resume_takes_options_that_change_no_result(
    validated_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(manifest=str(validated_videos), out=str(tmp_path / "before"), epochs=7)
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config.to_dict()))
    resumed = configs_of(monkeypatch, "--resume", tmp_path / "moved", "--workers", "2", "--cache", "0")
    assert resumed == dataclasses.replace(config, out=str(tmp_path / "moved"), workers=2, cache_gib=0.0)
    with pytest.raises(InvalidRequest, match=r"it takes --videos, .*--cache.*, not --epochs, --learning-rate"):
        configs_of(monkeypatch, "--resume", tmp_path / "moved", "--epochs", "9", "--lr", "1")


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
            "a crop of 80 pixels does not fit",
        ),
        (["MANIFEST", "--out", "NEW", "--model-option", "x"], InvalidRequest, "write NAME=VALUE"),
        (["MANIFEST", "--out", "NEW", "--epochs", "0"], InvalidRequest, "epochs must be at least 1"),
        (["MANIFEST", "--out", "NEW", "-a", "r2plus1d_11"], InvalidRequest, "no architecture"),
        (["MANIFEST", "--out", "NEW", "--videos", "NOWHERE"], DatasetError, "no such folder of videos"),
        (["MANIFEST", "--out", "RUN", *QUICK], CheckpointError, "holds a run already"),
    ],
)
def test_train_refuses(
    trained: Path, validated_videos: Path, tmp_path: Path, arguments: list[str], kind: type[Exception], message: str
) -> None:
    places = {"MANIFEST": validated_videos, "RUN": trained, "NEW": tmp_path / "new", "NOWHERE": tmp_path / "nowhere"}
    error = error_of(run("train", *(places.get(a, a) for a in arguments)))
    assert isinstance(error, kind), error
    assert message in str(error)
    assert not (tmp_path / "new" / "last.pt").exists()


def test_read_config_of_a_run(trained: Path) -> None:
    assert read_config(trained).epochs == 2


# -- recipes, --set, --dry-run --


def test_a_recipe_with_settings_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*NAMES, "--recipe", "demo", "--epochs", "12", "--set", "optimizer.lr=0.5", "--set", "seed=4"]
    config = configs_of(monkeypatch, *arguments)
    assert (config.architecture, config.epochs, config.optimizer.lr, config.seed) == ("r2plus1d_10", 12, 0.5, 4)
    refused = run("train", *NAMES, "--set", "optimizer.speed=1")
    assert "no field is called optimizer.speed" in str(error_of(refused))


def test_resume_takes_settings_that_change_no_result(validated_videos: Path, tmp_path: Path) -> None:
    arguments = (str(validated_videos), "--out", str(tmp_path / "run"), *QUICK, "--epochs", "1", "--warmup-epochs", "0")
    assert run("train", *arguments).exit_code == 0
    refused = run("train", "--resume", tmp_path / "run", "--set", "optimizer.lr=1")
    assert "not --learning-rate" in str(error_of(refused))
    refused = run("train", "--resume", tmp_path / "run", "--recipe", "demo")
    assert "takes no --recipe" in str(error_of(refused))
    assert run("train", "--resume", tmp_path / "run", "--set", "workers=0").exit_code == 0


def test_a_dry_run_plots_the_rates_and_writes_nothing(validated_videos: Path, tmp_path: Path) -> None:
    arguments = [str(validated_videos), "--out", str(tmp_path / "run"), *SMALL, "-b", "4", "--epochs", "6"]
    arguments += ["--lr", "0.1", "--schedule", "steps", "--lr-steps", "2,2", "--warmup-epochs", "0", "--dry-run"]
    text = run("train", *arguments).stdout
    assert "12 training videos" in text
    assert "6 epochs of 3 steps, 18 in all, each of 4 clips in 1 process" in text
    assert "sampling: every video in turn; 12 clips an epoch of 12 videos; targets: soft" in text
    assert text.count("*") > 10
    by_class = run("train", *arguments, "--class-power", "0.5", "--draws", "600", "--loss", "sigmoid").stdout
    assert "sampling: classes by N^0.5 (square root); 600 clips an epoch of 12 videos; targets: multi-hot" in by_class
    assert "warning: a video of class 'move_left' is seen 50 times" in by_class
    plan = output_of(run("train", *arguments, "--lr-scaling", "linear", "--processes", "3", "--json"))
    assert plan["peak_learning_rate"] == pytest.approx(0.3)
    assert plan["clips_per_step"] == 12
    assert [round(p["rate"], 6) for p in plan["learning_rates"]] == [0.3, 0.3, 0.03, 0.03, 0.003, 0.003]
    assert not (tmp_path / "run").exists()


def test_resume_if_exists_begins_or_goes_on(validated_videos: Path, tmp_path: Path) -> None:
    """The same command for the first start and for every one that a scheduler makes after it."""
    quick = [*QUICK, "--epochs", "1", "--warmup-epochs", "0"]
    command = ["train", str(validated_videos), "--out", str(tmp_path / "run"), *quick]
    first = output_of(run(*command, "--resume-if-exists", "--json"))
    again = output_of(run(*command, "--resume-if-exists", "--json"))
    assert first["history"] == again["history"]
    assert isinstance(error_of(run(*command, "--json")), CheckpointError)
    other = error_of(run(*command, "--resume-if-exists", "--lr", "0.5"))
    assert isinstance(other, CheckpointError)
    assert "cannot be resumed with other settings: optimizer.lr (was 0.01, now 0.5)" in str(other)


def test_a_run_whose_loss_was_not_finite_may_be_resumed_at_another_rate(validated_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", str(validated_videos), "--out", str(out), *QUICK, "--epochs", "2", "--warmup-epochs", "0"]
    error = error_of(run(*command, "--lr", "1e12"))
    assert f"tenclip train --resume {out} --clip-gradients 1" in str(error)
    refused = error_of(run("train", "--resume", out, "--momentum", "0.5"))
    assert "--learning-rate" in str(refused)
    assert "not --momentum" in str(refused)
    values = output_of(run("train", "--resume", out, "--lr", "0.01", "--clip-gradients", "1", "--json"))
    assert values["completed"]
    assert (values["damaged"], values["steps_skipped"]) == ([], 0)
    assert read_config(out).optimizer.lr == 0.01
