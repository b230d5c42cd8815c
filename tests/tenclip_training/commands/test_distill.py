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
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second teacher, of 5 classes."""
    return save_frame_model(tmp_path_factory.mktemp("teacher") / "scenes.pt", frame_model(1, num_classes=5))


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


def test_a_dry_run_shows_teachers_and_what_they_cost_and_writes_nothing(
    action_videos: Path, teacher: Path, scenes: Path, tmp_path: Path
) -> None:
    command = [
        "distill",
        str(action_videos.parent),
        "--out",
        str(tmp_path / "run"),
        *FAST,
        "--epochs",
        "3",
        "--dry-run",
    ]
    command += [
        "--teacher",
        str(teacher),
        "--teacher",
        f"places={scenes}",
        "--teacher-weight",
        "1",
        "--teacher-weight",
        "2",
    ]
    text = run(*command, "--teacher-frame-count", "2", "--keep-percent", "50", "--calibration-videos", "10").stdout
    assert "2 heads of 8 classes" in text
    assert "16 training videos" in text
    assert "3 epochs of 3 steps, 9 in all, each of 6 clips in 1 process" in text
    assert "16 clips an epoch, every video in turn; of each the teachers see 2 of 4 frames" in text
    assert (
        "teacher places: a head of 5 classes, weight 2, for the 50% that it is surest of; looks at 20 frames before "
        "the first step and 32 an epoch, 116 in all: "
    ) in text
    assert "teacher objects: " in text
    assert text.count("*") == 9  # a rate for each step
    plan = output_of(run(*command, "--teacher-sees", "frame", "--max-entropy", "2", "--processes", "2", "--json"))
    assert (plan["processes"], plan["clips_per_step"], plan["sampling"]) == (2, 12, None)
    assert [(t["name"], t["frames_per_epoch"], t["max_entropy"]) for t in plan["teachers"]] == [
        ("objects", 0, 2.0),
        ("places", 0, 2.0),
    ]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_counts_whole_frames_that_are_not_kept_yet(
    distilled: Path, action_videos: Path, teacher: Path, tmp_path: Path
) -> None:
    """What it says is what a run then does: all videos are alike, so the estimate is exact."""
    import pyarrow.parquet as pq

    command = ["distill", str(action_videos.parent), "--teacher", str(teacher), *FAST, "--dry-run"]
    command += ["--teacher-sees", "frame"]
    (first,) = output_of(run(*command, "--out", tmp_path / "new", "--json"))["teachers"]
    parts = (distilled / "teacher-outputs" / "objects").glob("part-*.parquet")
    assert first["frames"] == sum(pq.ParquetFile(part).metadata.num_rows for part in parts) > 0
    assert first["seconds"] == pytest.approx(first["frames"] / first["speed"])
    shared = distilled / "teacher-outputs"
    again = run(*command, "--out", tmp_path / "new", "--teacher-cache", shared)
    assert "looks at 0 frames before the first step (outputs of 16 videos are there) and 0 an epoch" in again.stdout


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
