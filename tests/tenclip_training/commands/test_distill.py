"""`tenclip distill`, and `tenclip train` after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenclip_api.errors import CheckpointError, InvalidRequest
from tenclip_training.runs.checkpoint import load_checkpoint
from tests.tenclip_training.commands.helpers import QUICK, SMALL, error_of, output_of, run
from tests.tenclip_training.distill.conftest import frame_model, save_frame_model

FAST = [*SMALL, "--batch-size", "6", "--precision", "fp32", "--device", "cpu", "--teacher-runtime", "torch"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_frame_model(tmp_path_factory.mktemp("teacher") / "objects.pt", frame_model())


@pytest.fixture(scope="module")
def distilled(action_videos: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on a folder of videos."""
    out = tmp_path_factory.mktemp("distilled") / "run"
    values = output_of(
        run("distill", action_videos.parent, "--out", out, "--teacher", teacher, *FAST, "--epochs", "2", "--json",
            "--teacher-sees", "frame", "--keep-percent", "75")
    )  # fmt: skip
    assert values["completed"] is True
    assert values["student"] == str(out / "student.pt")
    assert (values["teachers"][0]["name"], values["teachers"][0]["classes"]) == ("objects", 3)
    assert 0 <= values["dropped"] <= 1
    assert [h["train_clips"] for h in values["history"]] == [16, 16]
    return out


def test_the_files_of_a_run(distilled: Path) -> None:
    names = {path.name for path in distilled.iterdir()}
    assert {"config.json", "last.pt", "student.pt", "teachers.json", "history.jsonl", "teacher-outputs"} <= names
    assert "best.pt" not in names
    lines = (distilled / "history.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["facts"]["dropped"] == pytest.approx(0.25, abs=0.25)


def test_then_it_is_fine_tuned_evaluated_and_looked_at(distilled: Path, action_videos: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    fine = run(
        "train", action_videos, "--out", tuned, "--init-from", distilled / "student.pt", "--epochs", "1",
        *QUICK[QUICK.index("--batch-size") :],
    )  # fmt: skip
    assert fine.exit_code == 0, fine.exception
    assert "its classifier begins anew with 2 classes: the checkpoint names none" in fine.output.replace("\n", " ")
    values = output_of(run("evaluate", tuned / "last.pt", action_videos, "--json"))
    assert values["videos_decoded"] == 4


def test_what_a_person_reads(action_videos: Path, teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run("distill", action_videos, "--out", out, "--teacher", teacher, *FAST, "--epochs", "1")
    assert result.exit_code == 0, result.exception
    said = result.output.replace("\n", " ")
    assert "teacher objects:" in said
    assert "teachers see the student's crop and mirror image" in said
    assert "teacher's best class met in" in said
    assert "dropped 0.0%" in said
    assert "which has no heads" in said
    assert f"--init-from {out}/student.pt" in said


def test_a_run_goes_on(action_videos: Path, teacher: Path, distilled: Path, tmp_path: Path) -> None:
    again = run("distill", "--resume", distilled)
    assert again.exit_code == 0, again.exception
    other = run("distill", "--resume", distilled, "--teacher-frames", "center")
    assert isinstance(error_of(other), InvalidRequest)
    assert "not --teacher-frames" in str(error_of(other))
    wrong = run("train", "--resume", distilled)
    assert isinstance(error_of(wrong), CheckpointError)
    assert "has no field teaching" in str(error_of(wrong))


def test_recipes_of_the_paper(action_videos: Path, teacher: Path, tmp_path: Path) -> None:
    result = run(
        "distill", action_videos, "--out", tmp_path / "r", "--recipe", "distinit/pretrain/r2plus1d-18", "--teacher",
        teacher, *FAST, "--epochs", "1", "--set", "schedule.lr_steps=", "--set", "schedule.kind=constant",
        "--draws", "6",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    assert load_checkpoint(tmp_path / "r" / "last.pt").provenance["config"]["optimizer"]["nesterov"] is False
    for command, recipe, other in (
        ("distill", "distinit/finetune/hmdb", "train"), ("train", "distinit/pretrain/r3d-18", "distill"),
    ):  # fmt: skip
        wrong = run(command, action_videos, "--out", tmp_path / "w", "--recipe", recipe)
        assert str(error_of(wrong)) == f"recipe {recipe} is for tenclip {other}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "tenclip distill needs videos and --out, or --resume RUN"),
        (["VIDEOS", "--out", "OUT"], "distillation needs a teacher"),
        (["VIDEOS", "--out", "OUT", "--teacher", "nowhere.pt"], "no such file; a teacher is a checkpoint of frames"),
        (["VIDEOS", "--out", "OUT", "--teacher", "TEACHER", "--keep-percent", "200"], "keep_percent must be"),
        (["VIDEOS", "--out", "OUT", "--teacher", "TEACHER", "--teacher-cache", "c"], "keeps outputs of whole frames"),
    ],
)
def test_mistakes(arguments: list[str], message: str, action_videos: Path, teacher: Path, tmp_path: Path) -> None:
    places = {"VIDEOS": str(action_videos), "OUT": str(tmp_path / "run"), "TEACHER": str(teacher)}
    result = run("distill", *[places.get(argument, argument) for argument in arguments])
    assert message in str(error_of(result))


def test_help_has_no_options_of_labels() -> None:
    text = run("distill", "--help").output
    assert "--teacher-sees" in text
    of_labels = ("--labels", "--val-split", "--class-power", "--label-smoothing", "--mixup")
    for option in (*of_labels, "--aux", "--ratio", "--cross-mixup"):
        assert option not in text
