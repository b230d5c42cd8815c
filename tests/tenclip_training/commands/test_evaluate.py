from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_training.runs.checkpoint import load_checkpoint
from tests.tenclip_training.commands.helpers import error_of, output_of, run


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


def test_evaluate_writes_a_report(trained: Path, action_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    values = output_of(run("evaluate", trained / "best.pt", action_videos, "--out", out, "--json"))
    assert sorted(values["files"]) == sorted(str(p) for p in out.iterdir())
    assert json.loads((out / "evaluation.json").read_text())["video_top1"] == values["video_top1"]
    assert values["video_mAP"]["rows"] == 4
    assert values["calibration"]["items"] == 4
    result = run("evaluate", trained / "best.pt", action_videos, "--protocol", "vmz-joint", "-o", tmp_path / "r.html")
    assert result.exit_code == 0, result.exception
    assert "over 2 classes and 4 videos" in result.stdout
    assert "calibration" not in result.stdout, "scores of vmz-joint do not sum to one"
    assert f"wrote {tmp_path / 'r.html'}" in result.stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["BEST", "MANIFEST", "--out", "x.xlsx"], InvalidRequest, "an evaluation is written as .html"),
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


def test_evaluate_takes_images_where_asked(trained: Path, tmp_path: Path) -> None:
    labels = load_checkpoint(trained / "best.pt").labels or ()
    for label in labels:
        (tmp_path / "test" / label).mkdir(parents=True)
        Image.new("RGB", (48, 36), "teal").save(tmp_path / "test" / label / "a.png")
    refused = error_of(run("evaluate", trained / "best.pt", tmp_path / "test", "--split", "all"))
    assert isinstance(refused, DatasetError)
    assert "it holds pictures" in str(refused)
    values = output_of(run("evaluate", trained / "best.pt", tmp_path / "test", "--split", "all", "--images", "--json"))
    assert values["videos_decoded"] == len(labels)
    assert values["clip_top1"]["total"] == len(labels)  # a picture is one clip


def test_evaluate_against_an_earlier_one(trained: Path, action_videos: Path, tmp_path: Path) -> None:
    options = ("--protocol", "center-clip", "--device", "cpu")
    earlier = tmp_path / "earlier.json"
    earlier.write_text(run("evaluate", trained / "last.pt", action_videos, "--json", *options).stdout)
    values = output_of(run("evaluate", trained / "best.pt", action_videos, "--against", earlier, "--json", *options))
    assert values["comparison"]["videos"] == 4
    assert values["comparison"]["top1_after"] == values["video_top1"]
    shown = run("evaluate", trained / "best.pt", action_videos, "--against", earlier, *options)
    assert "over 4 videos that both have scored" in shown.stdout
    error = error_of(run("evaluate", trained / "best.pt", action_videos, "--against", tmp_path / "gone"))
    assert isinstance(error, DatasetError)
