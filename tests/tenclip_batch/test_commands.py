"""`tenclip batch` as people run it: tables, JSON lines, NumPy files, and errors that say what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_batch.extractor import engine_config
from tenclip_batch.files import file_names
from tenclip_batch.options import ClipChoices, OutputOptions, RuntimeOptions
from tenclip_client.cli.exits import SOME_FAILED
from tenclip_client.cli.messages import one_line
from tenclip_features.variants import faster_variant, variant_note
from tenclip_video.bundle import Speed
from tests.tenclip_serving.helpers import SPEC, make_bundle, make_video

from .helpers import PROGRAM, rows, run, tenclip

FEW = ("--decode-workers", 1, "--threads", 1)


def test_json_lines_and_the_sums(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    good, bad = shared_videos / "v0.mp4", shared_videos / "text.mp4"
    arguments = ("--bundle", bundle, "--out", tmp_path / "out", *FEW, "--show", "--json")
    found = tenclip("batch", "predict", good, bad, *arguments, "--top-k", 2)
    assert found.returncode == SOME_FAILED, found.stderr
    *lines, report = [json.loads(line) for line in found.stdout.splitlines()]
    by_video = {line["video"]: line for line in lines}
    assert [entry["label"] for entry in by_video[str(good)]["top"]] == ["moving", "red"]
    assert by_video[str(bad)]["error"] == "NOT_A_VIDEO"
    assert (report["done"], report["failures"]) == (1, {"NOT_A_VIDEO": 1})
    assert "tiny:1, variant fp32 on openvino" in found.stderr
    again = tenclip("batch", "predict", good, *arguments, "--top-k", 2, "--prune")
    assert (again.returncode, json.loads(again.stdout)["pruned"]) == (0, [str(bad)])


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_file_a_video(bundle: Path, shared_videos: Path, tmp_path: Path, kind: str) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    make_video(videos / "a.mp4")
    make_video(videos / "b.mp4", num_frames=60)
    make_video(videos / "b.avi", num_frames=30)
    output = OutputOptions(format=kind)  # type: ignore[arg-type]
    run(bundle, tmp_path / "out", videos, output=output)
    run(bundle, tmp_path / "table", videos)
    table = rows(tmp_path / "table")
    files = {row["video"]: row["file"] for row in rows(tmp_path / "out", "videos").to_pylist()}
    assert sorted(Path(f).name for f in files.values()) == sorted([f"a.{kind}", f"b.avi.{kind}", f"b.mp4.{kind}"])
    for video, file in files.items():
        ours = table.filter([v == video for v in table["video"].to_pylist()])
        loaded = np.load(tmp_path / "out" / file)
        features = loaded if kind == "npy" else loaded["features"]
        assert features.dtype == np.float32
        assert features.tolist() == ours["features"].to_pylist()
        if kind == "npz":
            assert loaded["start_seconds"].tolist() == ours["start_seconds"].to_pylist()
    assert run(bundle, tmp_path / "out", videos, output=output).worked == 0
    make_video(videos / "a.mp4", num_frames=33)
    assert run(bundle, tmp_path / "out", videos, output=output).worked == 1


def test_names_of_files_stay_below_the_dataset() -> None:
    names = ["../../up.mp4", "/etc/x.mp4", "https://host/a?b=c.mp4", "x.tar/sub/y.mp4"]
    assert list(file_names(names, "npy", {}).values()) == [
        "files/up.npy", "files/etc/x.npy", "files/host/a_b=c.npy", "files/x.tar/sub/y.npy",
    ]  # fmt: skip


def test_a_window_that_does_not_come_out_even(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidRequest, match="takes 4 frames a clip, so a window is a multiple of that: 4, 8"
    ) as caught:
        run(bundle, tmp_path / "out", shared_videos, choices=ClipChoices(window=6))
    assert "tenclip export --frames" in one_line(caught.value)
    assert not (tmp_path / "out").exists()


def test_settings_that_no_server_takes(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"decode_worker_memory_mb must be 0 .* got 100"):
        run(bundle, tmp_path / "out", shared_videos, runtime=RuntimeOptions(decode_worker_memory_mb=100))
    assert not (tmp_path / "out").exists()
    config = engine_config(RuntimeOptions(decode_worker_memory_mb=1536), bundle, with_uris=False)
    assert config.decode_worker_memory_mb == 1536


def test_errors_of_the_command(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases = {
        ("features", shared_videos, "--bundle", tmp_path / "none"): "no such folder; --bundle is a bundle",
        ("features", shared_videos, "--bundle", shared_videos): "holds no bundle.json",
        ("features", shared_videos, "--bundle", bundle, "--step", 4, "--selection", "uniform"): "--step is the",
        ("features", "--manifest", tmp_path / "none.csv", "--bundle", bundle): "No such file or directory",
        ("features", shared_videos, "--bundle", bundle, "--fps", 0): "--fps 0: frames a second are a positive",
        ("predict", shared_videos, "--bundle", bundle, "--fps", -1): "--fps -1: frames a second are a positive",
        ("features", shared_videos, "--bundle", bundle, "--fps", "nan"): "--fps nan: frames a second are a positive",
        ("features", shared_videos, "--bundle", bundle, "--fps", "inf"): "--fps inf: frames a second are a positive",
        ("predict", shared_videos, "--bundle", bundle, "--protocol", "nonsense"): "no protocol 'nonsense'",
        ("features", shared_videos, "--bundle", bundle, "--variant", "int8"): "it has no variant int8, only fp32",
    }
    program = (
        "import contextlib, json, sys\n"
        "from tenclip_client.cli.main import main\n"
        "for arguments in json.load(sys.stdin):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main(arguments)\n"
        "    print('--', file=sys.stderr)\n"
    )
    arguments = [["batch", *map(str, case), "--out", str(out)] for case in cases]
    found = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(arguments), capture_output=True, text=True, timeout=120
    )
    said = [" ".join(text.split()) for text in found.stderr.split("--\n")]
    for text, expected in zip(said, cases.values(), strict=False):
        assert expected in text
    assert not out.exists()


def test_ray_that_is_not_installed(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    program = f"import sys; sys.modules['ray'] = None\n{PROGRAM}"
    words = ["batch", "features", shared_videos, "--bundle", bundle, "--out", tmp_path / "out", "--engine", "ray"]
    found = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True)
    assert found.returncode == 1
    said = " ".join(found.stderr.split())
    assert "--engine ray needs ray, which is not installed: pip install 'tenclip[ray]'" in said


def test_the_faster_variant_that_is_there() -> None:
    measured = {"fp32": 2.0, "bf16": 5.0, "int8": 9.0}
    speeds = [{"variant": v, "runtime": "openvino", "clips_per_second": s} for v, s in measured.items()]
    parity = [
        {"variant": "bf16", "runtime": "openvino", "passed": True, "features_relative_l2": 0.004},
        {"variant": "int8", "runtime": "openvino", "passed": False, "features_relative_l2": 0.3},
    ]
    bundle = {"speed": speeds, "parity": parity}
    found = faster_variant(bundle, "fp32", "openvino")
    assert found is not None
    assert (found.name, found.times, found.drift) == ("bf16", 2.5, 0.004)
    assert variant_note(bundle, "fp32", "openvino", how="--variant NAME takes it") == (
        "variant fp32 on openvino; bf16 on openvino is there and was 2.5 times as fast when it was exported, features "
        "off by 0.004 of their length: --variant bf16 takes it"
    )
    assert faster_variant(bundle, "bf16", "openvino") is None
    assert faster_variant({}, "fp32", "openvino") is None


def test_a_bundle_in_a_folder_of_any_name(shared_videos: Path, tmp_path: Path) -> None:
    """And the highest version of the only model below a folder."""
    speed = Speed(variant="fp32", runtime="openvino", machine="m", clips_per_second=1.0, threads=1, batch_size=1)
    for version in ("2", "10"):
        make_bundle(tmp_path / "models", "tiny", version, speed=(speed,), spec=replace(SPEC, num_frames=int(version)))
    report = run(tmp_path / "models", tmp_path / "out", shared_videos / "v0.mp4")
    assert report.version == "10"
    (tmp_path / "models" / "tiny" / "2").rename(tmp_path / "copied here")
    assert run(tmp_path / "copied here", tmp_path / "other", shared_videos / "v0.mp4").version == "2"
