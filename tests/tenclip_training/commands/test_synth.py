"""`tenclip synth`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_training.commands.synth import synth
from tenclip_training.synth import CLASSES

SMALL = ["--num-classes", "2", "--videos-per-class", "5", "--size", "32x24", "--seconds", "0.2-0.3", "--workers", "1"]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(synth)
    return app


def test_json_summary_is_all_that_stdout_holds(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), *SMALL, "--json"], catch_exceptions=False)
    summary = json.loads(result.stdout)
    assert summary["videos"] == 10
    assert summary["classes"] == {"move_left": 5, "move_right": 5}
    assert summary["splits"] == {"train": 8, "test": 2}
    assert summary["encoder"] in ("libx264", "mpeg4")
    assert summary["bytes"] == sum(p.stat().st_size for p in (tmp_path / "videos").rglob("*.mp4"))
    assert Path(summary["manifest"]) == tmp_path / "manifest.csv"


def test_words_for_people(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, [str(tmp_path), *SMALL, "--long-tail", "4", "--noisy-tags", "--untrimmed"], catch_exceptions=False
    )
    assert "7 videos of 2 classes (2-5 each; 5 train, 2 test)" in result.stdout
    assert str(tmp_path / "manifest.csv") in result.stdout
    described = json.loads((tmp_path / "synth.json").read_text())["config"]
    assert described["untrimmed"] == [0.1, 0.3]
    assert described["noisy_tags"]["wrong"] > 0


STILLS = ["--images", "40", "--size", "32x24", "--workers", "1", "--overlap", "1", "--splits", "train=1"]


def test_stills_with_noise_say_what_a_noun_tells(app: typer.Typer, tmp_path: Path) -> None:
    options = [*STILLS, "--wrong", "0.25", "--off-topic", "0.1", "--source", "search"]
    result = CliRunner().invoke(app, [str(tmp_path), *options], catch_exceptions=False)
    assert "40 images of 8 classes (5 each; 40 train)" in result.stdout
    assert "JPEG" in result.stdout
    assert "the noun alone names the verb in 100.0% (chance 12.5%; 3.00 of 3.00 bits)" in result.stdout
    assert "10 are labelled wrong, 4 show none of the classes" in result.stdout


def test_json_of_stills(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), *STILLS, "--json", "--label", "noun"], catch_exceptions=False)
    summary = json.loads(result.stdout)
    assert (summary["kind"], summary["videos"], summary["frames"], summary["video_seconds"]) == ("images", 40, 40, 0)
    assert summary["classes"] == summary["nouns"]
    assert summary["verb_of_noun"]["rows"]["noun_only_accuracy"] == 1
    assert summary["verb_of_noun"]["table"]["mutual_information"] == pytest.approx(3)


@pytest.mark.parametrize(("option", "some"), [("--nouns", "checkered_star"), ("--site", "broadcast")])
def test_lists_of_nouns_and_sites(app: typer.Typer, tmp_path: Path, option: str, some: str) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "none"), option, "list"], catch_exceptions=False)
    assert some in result.stdout.split()
    assert not (tmp_path / "none").exists()


def test_list_of_classes(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "none"), "--classes", "list"], catch_exceptions=False)
    assert tuple(result.stdout.split()) == CLASSES
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--size", "big"], "--size: 'big' is not a number; write it like 112x84"),
        (["--size", "12x"], "size must lie in 16-4096"),
        (["--seconds", "a-b"], "--seconds: 'a'"),
        (["--fps", "30,x"], "--fps: 'x'"),
        (["--splits", "train"], "--splits: ''"),
        (["--splits", "train=0.5"], "sum to 1"),
        (["--classes", "fly"], "no motion class fly"),
        (["--action", "0-2", "--untrimmed"], "untrimmed must be"),
        (["--scenes", "2-x", "--untrimmed"], "--scenes: 'x' is not a number"),
        (["--site", "moon"], "no site 'moon'; there are studio"),
        (["--label", "colour"], "label must be one of verb, noun, pair"),
        (["--nouns", "cube"], "no noun cube"),
        (["--wrong", "0.7", "--off-topic", "0.7"], "shares of the same items"),
        (["--images", "9", "--videos", "9"], "--images and --videos exclude each other"),
        (["--images", "9", "--untrimmed"], "untrimmed is about videos"),
        (["--tag-wrong", "2", "--noisy-tags"], "noisy_tags.wrong is a probability"),
    ],
)
def test_bad_options_say_what_would_work(app: typer.Typer, tmp_path: Path, options: list[str], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        CliRunner().invoke(app, [str(tmp_path / "out"), *SMALL, *options], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_another_configuration_is_a_dataset_error(app: typer.Typer, tmp_path: Path) -> None:
    CliRunner().invoke(app, [str(tmp_path), *SMALL], catch_exceptions=False)
    with pytest.raises(DatasetError, match="seed 0 there, 1 asked"):
        CliRunner().invoke(app, [str(tmp_path), *SMALL, "--seed", "1"], catch_exceptions=False)
