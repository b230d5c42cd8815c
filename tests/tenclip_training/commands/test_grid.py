from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_training.runs.config import TrainConfig, read_config
from tests.tenclip_training.commands.helpers import QUICK, error_of, output_of, run

ONE_EPOCH = [*QUICK, "--epochs", "1", "--warmup-epochs", "0"]


def config_of(monkeypatch: pytest.MonkeyPatch, command: str) -> TrainConfig:
    """What `tenclip train ...` would run."""
    configs: list[TrainConfig] = []
    module = importlib.import_module("tenclip_training.commands.train")
    monkeypatch.setattr(module, "_run", lambda config, **_: configs.append(config))
    words = shlex.split(command)
    assert words[:2] == ["tenclip", "train"]
    result = run("train", *words[2:])
    assert result.exit_code == 0, result.exception
    (config,) = configs
    return config


def test_the_best_settings_are_a_command_of_train(
    validated_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "my grid"
    searched = ["--set", "optimizer.lr=0.02,0.002", "--set", "label_smoothing=0.1", "--set", "momentum=0,0.9"]
    options = ["--no-flip", "--model-option", "bn_eps=1e-4", "--value-range=-1-1", "--keep-missing"]
    values = output_of(run("grid", validated_videos, "-o", out, *ONE_EPOCH, *options, *searched, "--json"))
    assert (values["completed"], values["points"], len(values["rows"])) == (True, 4, 4)
    assert (values["train_videos"], values["holdout_videos"]) == (10, 2)
    best = values["rows"][0]
    assert values["best"] == best["values"]
    ran, again = read_config(best["folder"]), config_of(monkeypatch, values["command"])
    assert again.manifest == str(validated_videos), "all training videos"
    where = ("manifest", "out", "labels", "val_split", "leaks")
    assert {k: v for k, v in again.to_dict().items() if k not in where} == {
        k: v for k, v in ran.to_dict().items() if k not in where
    }
    assert ran.optimizer.lr == float(best["values"]["lr"])
    assert ran.objective.label_smoothing == 0.1


def test_a_recipe_can_be_searched(validated_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "grid"
    options = ["--recipe", "demo", "--width", "4", "--epochs", "1", "--warmup-epochs", "0", "--precision", "fp32"]
    options += ["--set", "lr=0.002,1e30", "--device", "cpu"]
    result = run("grid", validated_videos, "-o", out, *options)
    assert result.exit_code == 0, result.exception
    assert "2 training videos held out, 10 learned from" in result.stdout
    assert "run 1 of 2: lr 0.002" in result.stderr
    command = result.stdout.strip().splitlines()[-1]
    assert "--recipe demo" in command
    assert config_of(monkeypatch, command).optimizer.lr == 0.002
    rows = json.loads((out / "grid.json").read_text())["rows"]
    assert rows[0]["values"] == {"lr": "0.002"}


def test_what_cannot_be_searched_is_said(validated_videos: Path, tmp_path: Path) -> None:
    def message(*options: str) -> str:
        error = error_of(run("grid", validated_videos, "-o", tmp_path / "grid", *ONE_EPOCH, *options))
        assert isinstance(error, InvalidRequest)
        return str(error)

    assert "nothing to search" in message()
    assert "nothing to search" in message("--set", "lr=0.1")
    assert "lr: given as an option and searched" in message("--lr", "0.1", "--set", "lr=0.1,0.2")
    assert "no field is called lrr" in message("--set", "lrr=0.1,0.2")
    assert "'x' (lr=x)" in message("--set", "lr=0.1,x")
    assert "write FIELD=VALUE" in message("--set", "lr")
    assert "momentum must be" in message("--set", "momentum=3", "--set", "lr=0.1,0.2")
    assert not (tmp_path / "grid").exists()
    assert "needs a manifest and --out" in str(error_of(run("grid", "--set", "lr=1,2")))


def test_an_interrupted_search_says_how_to_go_on(
    validated_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenclip_training.runs import grid
    from tenclip_training.runs.train import train

    arguments: list[str | Path] = [validated_videos, "-o", tmp_path / "grid", *ONE_EPOCH, "--set", "lr=0.02,0.01"]

    def stopping(config: TrainConfig, **more: Any) -> Any:
        return train(config, **more, stop_after_steps=1)

    monkeypatch.setattr(grid, "train", stopping)
    result = run("grid", *arguments)
    assert result.exit_code == 130
    assert "stopped after 0 of 2 runs; the same command goes on with them" in result.stderr
    monkeypatch.undo()
    result = run("grid", *arguments)
    assert result.exit_code == 0, result.exception
    assert "best: lr " in result.stdout


@pytest.mark.slow
def test_a_search_that_is_killed_ends_as_one_that_never_was(validated_videos: Path, tmp_path: Path) -> None:
    """kill -9 in the second of two runs, in the middle of its epochs."""
    quick = [*QUICK, "--epochs", "16", "--warmup-epochs", "0", "--val-every", "16", "--set", "lr=0.02,0.01", "--json"]
    arguments = ["grid", str(validated_videos), "--out", str(tmp_path / "parts"), *quick]
    code = "import sys; from tenclip_client.cli.main import main; main(sys.argv[1:])"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment) as process:
        last = tmp_path / "parts" / "lr=0.01" / "last.pt"
        while process.poll() is None and not last.exists():
            time.sleep(0.01)
        process.kill()
    first, second = (tmp_path / "parts" / f"lr={rate}" for rate in ("0.02", "0.01"))
    assert (first / "grid.json").exists()
    assert not (second / "grid.json").exists()
    before = (first / "last.pt").stat().st_mtime_ns
    found = output_of(run("grid", validated_videos, "--out", tmp_path / "parts", *quick))
    expected = output_of(run("grid", validated_videos, "--out", tmp_path / "whole", *quick))
    assert found["completed"]
    assert (first / "last.pt").stat().st_mtime_ns == before, "what is done is not done again"
    assert plain(found) == plain(expected)


def plain(values: dict[str, Any]) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k not in ("folder", "seconds")} for row in values["rows"]]
