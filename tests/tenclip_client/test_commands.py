"""`tenclip predict`, `features` and `models` against a running server, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client.cli.exits import SOME_FAILED
from tenclip_client.cli.main import main

from .servicer import CLIPS, FEATURE_DIM, FakeRecognition

Tenclip = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tenclip(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tenclip:
    """The command in a folder with videos in `clips/`; gives (exit code, stdout, stderr)."""
    (tmp_path / "clips").mkdir()
    for i in range(3):
        (tmp_path / f"clips/{i}.mp4").write_bytes(b"video %d" % i)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "audio.mp4").write_bytes(b"raise NO_VIDEO_STREAM")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENCLIP_SERVER", target)
    monkeypatch.delenv("TENCLIP_DEBUG", raising=False)

    def run(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(argv)
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return run


def test_predict(tenclip: Tenclip) -> None:
    code, out, err = tenclip("predict", "clips/0.mp4")
    assert (code, err) == (0, "")
    assert out.startswith("clips/0.mp4\n  320x240, ")
    assert out.count("%") == 5


def test_one_bad_file_does_not_stop_the_others(tenclip: Tenclip) -> None:
    code, out, err = tenclip("predict", "clips/0.mp4", "empty.mp4", "gone.mp4", "audio.mp4", "clips/1.mp4", "*.mov")
    assert code == SOME_FAILED
    places = [out.index(n) for n in ("clips/0.mp4", "EmptyVideo", "VideoNotFound", "NoVideoStream", "clips/1.mp4")]
    assert places == sorted(places)
    assert "*.mov\n  VideoNotFound: matches no file" in out
    assert err == "4 of 6 videos failed\n"


def test_predict_json(tenclip: Tenclip) -> None:
    code, out, _ = tenclip(
        "predict", "clips", "empty.mp4", "audio.mp4", "--json", "--top-k", "2", "--clips", "--features"
    )
    assert code == SOME_FAILED
    entries = json.loads(out)
    assert [e["input"] for e in entries] == ["clips/0.mp4", "clips/1.mp4", "clips/2.mp4", "empty.mp4", "audio.mp4"]
    assert [e["ok"] for e in entries] == [True, True, True, False, False]
    first = entries[0]["prediction"]
    assert len(first["top"]) == 2
    assert len(first["clips"]) == CLIPS
    assert len(first["features"]["mean"]) == FEATURE_DIM
    assert first["timeline"] is None
    assert entries[3]["error"] == {
        "type": "EmptyVideo", "reason": "EMPTY_VIDEO", "message": "empty.mp4: is empty (0 bytes)",
    }  # fmt: skip


def test_predict_jsonl(tenclip: Tenclip) -> None:
    code, out, _ = tenclip("predict", "clips", "--jsonl")
    assert code == 0
    assert [json.loads(line)["input"] for line in out.splitlines()] == ["clips/0.mp4", "clips/1.mp4", "clips/2.mp4"]


def test_predict_stream_prints_clips_as_they_come(tenclip: Tenclip) -> None:
    code, out, _ = tenclip("predict", "clips/0.mp4", "--stream", "--num-clips", "3", "--clips")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["clips/0.mp4", f"{k}/3"] for k in (1, 2, 3)]
    assert "so far" in lines[0]
    assert "seconds" in out  # the table at the end


def test_predict_stream_as_json_lines(tenclip: Tenclip) -> None:
    code, out, _ = tenclip("predict", "clips/0.mp4", "gone.mp4", "--stream", "--jsonl", "--num-clips", "2")
    assert code == SOME_FAILED
    entries = [json.loads(line) for line in out.splitlines()]
    assert [set(e) - {"input"} for e in entries] == [{"clip"}, {"clip"}, {"ok", "prediction"}, {"ok", "error"}]
    assert [e["clip"]["num_done"] for e in entries[:2]] == [1, 2]
    assert entries[-1]["error"]["reason"] == "VIDEO_NOT_FOUND"


def test_predict_stream_in_one_piece_of_json_is_a_contradiction(tenclip: Tenclip) -> None:
    code, _, err = tenclip("predict", "clips/0.mp4", "--stream", "--json")
    assert code == 2
    assert "--jsonl" in err


def test_options_reach_the_server(tenclip: Tenclip, servicer: FakeRecognition) -> None:
    selection = ["--selection", "salient", "--num-clips", "4", "--window-step", "8", "--start", "1.5", "--end", "9"]
    others = ["--model", "actions:2", "--fully-convolutional", "--top-k", "3", "--timeline", "--server-path"]
    code, out, _ = tenclip("predict", "kept/a.mp4", *selection, *others)
    assert code == 0
    assert "salience by motion-energy" in out
    assert servicer.requests == [
        pb.PredictRequest(
            model=pb.ModelRef(name="actions", version="2"),
            video=pb.Video(path="kept/a.mp4", name="kept/a.mp4"),
            clips=pb.ClipSelection(
                mode=pb.SALIENT, num_clips=4, window_step_frames=8, start_seconds=1.5, end_seconds=9
            ),
            spatial_mode=pb.FULLY_CONVOLUTIONAL,
            top_k=3,
            include_timeline=True,
        )
    ]
    code, _, _ = tenclip("predict", "clips/0.mp4", "--adaptive", "--sampler", "moves/2")
    assert code == 0
    assert (servicer.requests[1].clips.adaptive, servicer.requests[1].clips.sampler) == (True, "moves/2")
    del servicer.requests[1]
    tenclip("predict", "clips/0.mp4", "--pooled", "--protocol", "center-clip")
    assert servicer.requests[1].spatial_mode == pb.POOLED
    assert servicer.requests[1].protocol == "center-clip"


@pytest.mark.parametrize("options", [(), ("--json",), ("--jsonl",)])
def test_dead_server_is_said_once(tenclip: Tenclip, nobody: str, options: tuple[str, ...]) -> None:
    code, out, err = tenclip("predict", "clips", "--server", nobody, "--timeout", "20", *options)
    assert code == 1
    assert err.startswith(f"Error: {nobody}: no server answers there; `tenclip serve` starts one")
    assert err.count("\n") == 1
    assert out == ("[]\n" if options == ("--json",) else "")


def test_what_was_predicted_before_the_server_died_is_printed(tenclip: Tenclip) -> None:
    Path("clips/1.mp4").write_bytes(b"status UNAVAILABLE")
    code, out, err = tenclip("predict", "clips", "--json", "--concurrency", "1")
    assert code == 1
    assert [e["input"] for e in json.loads(out)] == ["clips/0.mp4"]
    assert "no server answers" in err


@pytest.mark.parametrize(
    "argv",
    [
        ("predict", "clips", "--json"),
        ("predict", "clips", "--stream", "--jsonl"),
        ("similar", "clips", "--json"),
        ("similar", "clips", "--index", "./index", "--json"),
        ("index", "query", "index", "clips/1.mp4", "--json"),
    ],
    ids=" ".join,
)
def test_busy_server_is_waited_for(tenclip: Tenclip, argv: tuple[str, ...], servicer: FakeRecognition) -> None:
    if "index" in " ".join(argv):
        assert tenclip("features", "clips", "--out", "f.parquet")[0] == 0
        assert tenclip("index", "build", "f.parquet", "--out", "index")[0] == 0
    Path("clips/1.mp4").write_bytes(b"busy 2")
    code, out, err = tenclip(*argv)
    assert (code, err) == (0, "")
    assert "OVERLOADED" not in out
    assert servicer.seen[b"busy 2"] == 3
    if "query" not in argv and "--stream" not in argv:
        assert len(json.loads(out)) == 3


@pytest.mark.parametrize(("order", "videos"), [(b"status UNAVAILABLE", 1), (b"raise NO_VIDEO_STREAM", 3)])
def test_neighbours_that_were_found_before_the_server_died_are_printed(
    tenclip: Tenclip, order: bytes, videos: int
) -> None:
    Path("clips/1.mp4").write_bytes(order)
    code, out, err = tenclip("similar", "clips", "--json")
    entries = json.loads(out)
    assert code == (1 if videos == 1 else SOME_FAILED)
    assert [e["video"] for e in entries] == [f"clips/{i}.mp4" for i in range(videos)]
    assert ["neighbours" in e for e in entries] == [True, False, True][:videos]
    assert err.startswith("Error: ") if videos == 1 else err == "1 of 3 videos failed\n"
    assert err.count("\n") == 1


def test_timeout(tenclip: Tenclip) -> None:
    Path("clips/1.mp4").write_bytes(b"sleep 5")
    code, out, _ = tenclip("predict", "clips", "--timeout", "1.5")
    assert code == SOME_FAILED
    assert "DeadlineExceeded" in out
    assert out.count("on the server") == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["predict"], "Missing argument"),
        (["predict", "a.mp4", "--top-k", "0"], "--top-k"),
        (["predict", "a.mp4", "--selection", "random"], "--selection"),
        (["features", "clips"], "--out"),
        (["features", "--out", "f.parquet"], "--manifest"),
        (["features", "clips", "--manifest", "m.csv", "--out", "f.parquet"], "or a --manifest"),
    ],
)
def test_wrong_usage(tenclip: Tenclip, argv: list[str], message: str) -> None:
    code, out, err = tenclip(*argv)
    assert (code, out) == (2, "")
    assert message in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["predict", "clips/0.mp4", "--server", "http://box"], "HOST:PORT"),
        (["predict", "clips/0.mp4", "--ca", "gone.pem"], "gone.pem: No such file or directory"),
        (["features", "--manifest", "gone.csv", "--out", "f.parquet"], "gone.csv: No such file or directory"),
        (["features", "clips", "--out", "clips"], "clips: is a directory"),
        (["features", "clips", "--out", "f.parquet", "--model", "other"], "no model 'other'; there is actions"),
        (["models", "other"], "no model 'other'; there is actions"),
    ],
)
def test_errors_that_end_a_command(tenclip: Tenclip, argv: list[str], message: str) -> None:
    code, out, err = tenclip(*argv)
    assert code == 1
    assert out == ""
    assert err.splitlines()[-1].startswith("Error: ")
    assert message in err


def test_features(tenclip: Tenclip) -> None:
    code, out, err = tenclip("features", "clips", "empty.mp4", "--out", "new/f.parquet")
    assert code == SOME_FAILED
    assert out.splitlines()[0] == f"new/f.parquet: {3 * CLIPS} clips of 3 videos; actions:2"
    assert "1 of 4 videos failed:" in out
    assert "empty.mp4  EMPTY_VIDEO  is empty (0 bytes)" in out
    assert "4 videos, 0 done before" in err
    assert pq.read_metadata("new/f.parquet").num_rows == 3 * CLIPS

    Path("empty.mp4").write_bytes(b"no more")
    code, out, _ = tenclip("features", "clips", "empty.mp4", "--out", "new/f.parquet", "--retry-failed")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"new/f.parquet: {4 * CLIPS} clips of 4 videos, 3 of them from an earlier run; actions:2"
    assert lines[1:] == ["frames damaged, or missing and stood in for by others, in: empty.mp4"]


def test_features_of_a_manifest_as_json(tenclip: Tenclip) -> None:
    Path("clips/list.csv").write_text("path,label\n2.mp4,run\n0.mp4,hop\n")
    code, out, _ = tenclip("features", "--manifest", "clips/list.csv", "-o", "f.parquet", "--json")
    assert code == 0
    report: dict[str, Any] = json.loads(out)
    assert report == {
        "out": "f.parquet", "model": "actions", "version": "2", "videos": 2, "clips": 6, "reused": 0, "failures": [],
        "changed": [], "removed": [], "pruned": [], "damaged": ["2.mp4", "0.mp4"],
    }  # fmt: skip
    assert pq.read_table("f.parquet")["video"].unique().to_pylist() == ["2.mp4", "0.mp4"]


def test_features_of_a_folder_as_people_have_them(tenclip: Tenclip) -> None:
    """Names that differ in bytes which are not UTF-8, what other systems leave behind, and a linked folder."""
    folder = Path("mixed")
    for name in (b"\xe9.mp4", b"\xe8.mp4", b"._a.mp4", b"__MACOSX/b.mp4", b".ipynb_checkpoints/c.mp4"):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    (folder / "linked").symlink_to("../clips")
    (folder / "clips").symlink_to("linked")
    assert tenclip("features", "mixed", "-o", "f.parquet")[0] == 0
    names = [r"mixed/\xe8.mp4", r"mixed/\xe9.mp4", *(f"mixed/clips/{i}.mp4" for i in range(3))]
    assert pq.read_table("f.parquet")["video"].unique().to_pylist() == names


def test_models(tenclip: Tenclip) -> None:
    code, out, _ = tenclip("models")
    assert code == 0
    assert out.splitlines()[1].split() == ["actions:2", "r2plus1d_10", "6", "8", "ten-clip", "fake", "READY"]
    assert out.splitlines()[2] == "not loaded: broken:1: no bundle.json"
    assert "eating [hot] cake" in tenclip("models", "actions")[1]
    assert json.loads(tenclip("models", "--json")[1])["models"][0]["name"] == "actions"
    assert json.loads(tenclip("models", "actions:2", "--json")[1])["labels"][0] == "archery"


def test_wide_output_when_nobody_looks(tenclip: Tenclip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = Path("clips", "x" * 120 + ".mp4")
    long.write_bytes(b"abc")
    assert str(long) in tenclip("predict", str(long))[1].splitlines()


def test_piped_into_something_that_stops_reading(tenclip: Tenclip) -> None:
    program = f"{sys.executable} -m tenclip_client predict clips --json | head -c 5"
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "[\n  {"
    assert "Traceback" not in done.stderr


def test_lists_of_videos_that_lie_elsewhere(tenclip: Tenclip, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/trainlist01.txt").write_text("clips/0.mp4 1\nclips/1.mp4 1\n")
    code, out, _ = tenclip("predict", "lists/trainlist01.txt", "--videos", ".")
    assert code == 0
    assert "clips/1.mp4\n  320x240, " in out
    manifest = ("--manifest", "lists/trainlist01.txt", "--videos", ".")
    assert tenclip("features", *manifest, "--out", "f.parquet")[0] == 0
    assert set(pq.read_table("f.parquet")["video"].to_pylist()) == {"clips/0.mp4", "clips/1.mp4"}
    code, _, err = tenclip("features", *manifest, "--out", "g.parquet", "--server-path")
    assert code == 2
    assert "--videos is a folder on this machine" in err


def test_features_name_videos_with_damaged_frames(tenclip: Tenclip) -> None:
    _, out, _ = tenclip("features", "clips", "--out", "f.parquet")
    assert "frames damaged, or missing and stood in for by others, in: clips/0.mp4, clips/1.mp4, clips/2.mp4" in out
