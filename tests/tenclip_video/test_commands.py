"""`tenclip inspect`: the plain function, run as a command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from tenclip_api.errors import BundleError, InvalidRequest
from tenclip_video.bundle import BundleInfo, Variant, sha256
from tenclip_video.commands import inspect
from tenclip_video.spec import ClipSpec, Resize
from tests.videos import Recipe, make_video


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(inspect)
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [str(a) for a in arguments])


def as_json(*arguments: object) -> list[dict[str, Any]]:
    result = run(*arguments, "--json")
    assert result.stderr == ""
    parsed: list[dict[str, Any]] = json.loads(result.stdout)
    return parsed


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "action" / "3"
    path.mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"model")
    (path / "labels.txt").write_text("run\nsit\n")
    spec = ClipSpec(num_frames=4, resize=Resize(height=40, width=60), crop=32, fully_convolutional_crop=40)
    np.savez(
        path / "golden.npz",
        clips=np.zeros((1, 4, 32, 32, 3), np.uint8),
        logits=np.zeros((1, 2, 1), np.float32),
        features=np.zeros((1, 5), np.float32),
    )
    info = BundleInfo(
        name="action",
        version="3",
        architecture="r2plus1d_10",
        family="tests",
        clip_spec=spec,
        num_classes=2,
        feature_dim=5,
        default_protocol="center-clip",
        variants=(
            Variant(name="fp32", format="onnx", path="model.onnx", files={"model.onnx": sha256(path / "model.onnx")}),
        ),
    )
    (path / "bundle.json").write_text(json.dumps(info.to_dict()))
    return path


def test_tables(mp4_path: Path) -> None:
    result = run(mp4_path)
    assert result.exit_code == 0, result.output
    for text in ("mov, h264 yuv420p, no audio", "64x48", "1.600 s, 25.000 fps", "40 counted, the header says 40"):
        assert text in result.stdout
    assert "plan: ten-clip, input [10, 16, 112, 112, 3] uint8" in result.stdout
    assert "24, 25, 26, 27 ... 39" in result.stdout
    assert result.stderr == ""


def test_json_says_the_same(mp4_path: Path) -> None:
    (entry,) = as_json(mp4_path)
    assert entry["video"] == str(mp4_path)
    assert entry["info"]["num_frames"] == 40
    assert entry["info"]["frames_per_second"] == 25.0
    assert entry["protocol"] == "ten-clip"
    assert entry["input_shape"] == [10, 16, 112, 112, 3]
    assert entry["clip_spec"] == json.loads(json.dumps(ClipSpec().to_dict()))
    assert entry["report"]["frames_requested"] == 40
    assert entry["clips"][9] == {
        "start_seconds": pytest.approx(0.96),
        "end_seconds": pytest.approx(1.6),
        "looped": False,
        "frames": list(range(24, 40)),
    }


def test_a_bundle_brings_its_own_plan(mp4_path: Path, bundle: Path) -> None:
    (entry,) = as_json(mp4_path, "--model", bundle)
    assert entry["protocol"] == "center-clip"
    assert entry["input_shape"] == [1, 4, 32, 32, 3]
    assert [clip["frames"] for clip in entry["clips"]] == [[18, 19, 20, 21]]


@pytest.mark.parametrize(
    ("protocol", "shape"),
    [
        ("fully-convolutional", [10, 4, 40, 40, 3]),
        ("mmaction2-10x3", [30, 4, 32, 32, 3]),
        ("sliding-window", [10, 4, 32, 32, 3]),
        ("salient-clips", [10, 4, 32, 32, 3]),
        ("fully-convolutional-se", [10, 4, 40, 40, 3]),
    ],
)
def test_any_protocol(mp4_path: Path, bundle: Path, protocol: str, shape: list[int]) -> None:
    (entry,) = as_json(mp4_path, "--model", bundle, "--protocol", protocol)
    assert entry["input_shape"] == shape
    assert (entry["clip_spec"]["resize"]["mode"] == "short_edge") == protocol.endswith("-se")


def test_what_is_odd_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "short [odd].mp4"
    fast = make_video(Recipe(num_frames=12, rotation=90, muxer_options={"movflags": "faststart"}))
    path.write_bytes(fast[:-300])
    result = run(path)
    assert result.exit_code == 0, result.output
    for text in ("short [odd].mp4", "48x64, turned 90 degrees clockwise", "looped", "warning", "bytes are missing"):
        assert text in result.stdout


def test_one_bad_video_does_not_hide_the_others(mp4_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "a [bold]name that is long, so that the line with it is wider than any terminal may be.mp4"
    bad.write_text("text")
    result = run(mp4_path, bad, tmp_path / "missing.mp4", mp4_path)
    assert result.exit_code == 1
    assert result.stdout.count("plan: ten-clip") == 2
    first, second = result.stderr.splitlines()
    assert first.startswith(f"NOT_A_VIDEO  {bad}: not a video")
    assert second == f"VIDEO_NOT_FOUND  {tmp_path / 'missing.mp4'}: no such file"


def test_json_of_bad_videos(tmp_path: Path, mp4_path: Path) -> None:
    result = run(tmp_path, mp4_path, "--json")
    assert result.exit_code == 1
    assert result.stderr == ""
    bad, good = json.loads(result.stdout)
    assert bad == {"video": str(tmp_path), "error": {"reason": "NOT_A_FILE", "message": bad["error"]["message"]}}
    assert "is a directory" in bad["error"]["message"]
    assert good["info"]["codec"] == "h264"


def test_an_unknown_protocol_names_those_there_are(mp4_path: Path) -> None:
    result = run(mp4_path, "--protocol", "best")
    assert isinstance(result.exception, InvalidRequest)
    assert "'best' is not one of ten-clip, fully-convolutional" in str(result.exception)


def test_a_missing_bundle(mp4_path: Path, tmp_path: Path) -> None:
    result = run(mp4_path, "--model", tmp_path / "none")
    assert isinstance(result.exception, BundleError)


def test_usage() -> None:
    assert run().exit_code == 2
    result = run("--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert "tenclip inspect run.mp4" in result.stdout
