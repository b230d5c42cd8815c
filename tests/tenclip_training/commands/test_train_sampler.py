"""`tenclip train-sampler` and `tenclip add-sampler` as users run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_video.bundle import read_bundle
from tests.tenclip_serving.helpers import make_bundle, running_server
from tests.tenclip_training.omni.colors import write_table, write_video

from .helpers import error_of, output_of, run

CLASSES = ("red", "green")
QUICK = ("--kind", "rgb", "--epochs", "1", "--max-clips", "2", "--workers", "1", "--threads", "1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"), "colors")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 videos of 3 seconds, of which one shows the class."""
    folder = tmp_path_factory.mktemp("videos")
    rows = []
    for i in range(12):
        label, at = CLASSES[i % 2], i % 3
        write_video(folder / f"{i}.mp4", [label if s == at else "grey" for s in range(3)])
        rows.append({"path": f"{i}.mp4", "label": label, "split": "train" if i < 4 else "val", "start": at})
    return write_table(folder / "m.csv", rows)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores and inputs that tests share: a video is looked at once."""
    return tmp_path_factory.mktemp("cache")


def test_a_sampler_is_trained_and_given_to_its_bundle(bundle: Path, videos: Path, cache: Path, tmp_path: Path) -> None:
    loose = ("--error-bound", "0.9", "--error-bound", "0.95", "--confidence", "0.6")
    out = tmp_path / "sampler"
    values = output_of(
        run("train-sampler", videos, "--teacher", bundle, "--out", out, "--cache", cache, *QUICK, *loose, "--json")
    )
    assert values["sampler"] == str(out / "salience.onnx")
    assert values["videos"]["train"] == 4
    assert values["videos"]["select"] + values["videos"]["held_out"] == 8
    assert values["metrics"]["annotated_videos"] == values["videos"]["held_out"]
    assert values["stopping"]["max_clips"] == 2
    assert "held-out videos are too few for a temperature" in values["calibration_refused"]
    copy = tmp_path / "models" / "salient" / "1"
    added = output_of(run("add-sampler", bundle, out, "--out", copy, "--json"))
    assert (added["name"], added["default_protocol"]) == ("salient", "salient-clips")
    assert added["sampler"]["stopping"] == values["stopping"]
    assert [rule["error_bound"] for rule in added["sampler"]["other_stopping"]] == [0.95]
    assert added["notes"] == [f"no temperature: {values['calibration_refused']}"]
    assert read_bundle(copy).sampler_files == (copy / "salience.onnx",)
    told = run("add-sampler", make_bundle(tmp_path / "models", "others"), out)
    assert told.exit_code == 0
    assert "sampler salience.onnx; protocol salient-clips" in told.stdout
    assert "adaptive (default), error bound" in told.stdout, "it is the same network"


def test_the_heavy_network_may_be_on_a_server(bundle: Path, videos: Path, tmp_path: Path) -> None:
    """Its scores are those of the bundle here, so that the sampler is given to that with its stopping rule."""
    out = tmp_path / "sampler"
    with running_server(bundle.parent.parent) as server:
        served = ("--server", server.address, "--model", "colors", "--out", out)
        loose = ("--error-bound", "0.9", "--confidence", "0.6")
        values = output_of(run("train-sampler", videos, *served, *QUICK, *loose, "--json"))
    assert values["teacher"] == f"colors:1 on {server.address}"
    copied = output_of(run("add-sampler", bundle, out, "--out", tmp_path / "models" / "salient" / "1", "--json"))
    assert copied["sampler"]["stopping"] == values["stopping"] is not None


def test_the_table(bundle: Path, videos: Path, cache: Path, tmp_path: Path) -> None:
    result = run("train-sampler", videos, "--teacher", bundle, "--out", tmp_path, "--cache", cache, *QUICK)
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    assert lines[0].split() == (
        [
            "clips",
            "salient",
            "motion",
            "energy",
            "uniform",
            "oracle",
            "all",
            "windows",
            "action",
            "found",
            "motion",
            "energy",
            "uniform",
        ]
    )
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert "no stopping rule:" in result.stdout
    assert "at least 59 are needed" in result.stdout
    assert str(tmp_path / "salience.onnx") in lines[-1]


def test_videos_without_labels(bundle: Path, videos: Path, cache: Path, tmp_path: Path) -> None:
    folder = videos.parent
    refused = run("train-sampler", folder, "--teacher", bundle, "--out", tmp_path, "--cache", cache, *QUICK)
    assert "where videos have no labels, --unlabelled takes the class" in str(error_of(refused))
    options = ("--teacher", bundle, "--out", tmp_path, "--cache", cache, *QUICK, "--unlabelled", "--json")
    values = output_of(run("train-sampler", folder, *options))
    assert values["labelled"] is False
    assert sum(values["videos"].values()) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name one heavy network: --teacher BUNDLE, or --model NAME"),
        (("--teacher", "BUNDLE", "--model", "m"), "name one heavy network"),
        (("--teacher", "BUNDLE", "--loss", "hinge"), "--loss 'hinge' is not one of rank, ac"),
        (("--teacher", "BUNDLE", "--rank-form", "x"), "--rank-form 'x' is not one of margin, literal"),
        (("--teacher", "BUNDLE", "--kind", "smell"), "--kind 'smell' is not one of compressed, keyframes, rgb, audio"),
        (("--teacher", "BUNDLE", "--val-split", "test"), "there is no video in 'test'"),
        (("--teacher", "nobody"), "teacher 'nobody' is neither a bundle's folder nor a checkpoint"),
    ],
)
def test_what_is_refused(bundle: Path, videos: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    given = [str(bundle) if a == "BUNDLE" else a for a in arguments]
    result = run("train-sampler", videos, "--out", tmp_path / "out", *given)
    assert message in str(error_of(result))
    assert not (tmp_path / "out").exists()


def test_classes_that_the_heavy_network_does_not_know(bundle: Path, videos: Path, tmp_path: Path) -> None:
    changed = videos.with_name("changed.csv")
    changed.write_text(videos.read_text().replace(",green,", ",violet,"))
    result = run("train-sampler", changed, "--teacher", bundle, "--out", tmp_path)
    assert "the teacher does not know the labels violet; it knows 4: red, green" in str(error_of(result))
