"""`tenclip bench` as a user types it, against a server process of ours and one that fails on demand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tenclip_api.errors import InvalidRequest, VideoNotFound
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client._histogram import Histogram
from tenclip_client._load import LoadPlan, LoadReport, LoadVideo
from tenclip_client._load_videos import split_weight, weighted_videos
from tenclip_client._types import ServerPath, ServerUri
from tenclip_client.cli.bench_report import print_report, progress_line, warnings
from tenclip_client.cli.main import main

from ..tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server
from .servicer import CLIPS, FakeRecognition

Bench = Callable[..., tuple[int, str, str]]
# No warm-up: every request is one that the test knows of.
NOW = ("--warmup", "0")


@pytest.fixture
def bench(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """The command in a folder with videos in `clips/`; gives (exit code, stdout, stderr)."""
    (tmp_path / "clips").mkdir()
    for i in range(3):
        (tmp_path / f"clips/{i}.mp4").write_bytes(b"video %d" % i)
    (tmp_path / "busy.mp4").write_bytes(b"raise OVERLOADED")
    (tmp_path / "slow.mp4").write_bytes(b"sleep 5")
    (tmp_path / "gone.mp4").write_bytes(b"status UNAVAILABLE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENCLIP_SERVER", target)

    def run(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["bench", *argv])
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return run


def document(result: tuple[int, str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result[1])
    return found


def test_closed_loop(bench: Bench, servicer: FakeRecognition) -> None:
    code, out, err = bench("clips", "-n", "40", "-c", "4", *NOW)
    assert (code, err) == (0, "")
    assert "actions:2 on fake, ten-clip" in out
    assert "closed loop of 4" in out
    assert "40 of 40 requests succeeded" in out
    assert {"decode", "run", "elsewhere"} <= set(out.split())
    assert servicer.seen.total() == 40
    assert set(servicer.seen) == {b"video 0", b"video 1", b"video 2"}
    assert 1 < servicer.most_at_once <= 4


def test_open_loop_of_features(bench: Bench, servicer: FakeRecognition) -> None:
    found = document(
        bench("clips/0.mp4", "--rate", "200", "-n", "20", "--method", "features", "--num-clips", "2", "--json", *NOW)
    )
    assert found["requests"] == {"ok": 20, "failed": 0, "unanswered": 0}
    assert found["clips_per_second"] == pytest.approx(2 * found["requests_per_second"])
    assert found["plan"]["arrivals"] == "poisson"
    assert found["stage_seconds"]["decode"]["p50"] == pytest.approx(0.25, rel=0.02)
    (request, *_) = [r for r in servicer.requests if isinstance(r, pb.ExtractFeaturesRequest)]
    assert request.clips.num_clips == 2


def test_weights_and_groups(bench: Bench, servicer: FakeRecognition) -> None:
    found = document(bench("clips@3", "busy.mp4@1", "-n", "400", "-c", "4", "--json", *NOW))
    refused = servicer.seen[b"raise OVERLOADED"]
    assert 50 < refused < 150
    (failure,) = found["failures"]
    assert (failure["status"], failure["reason"]) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert failure["seconds"]["count"] == refused
    assert found["latency_seconds_by_video"]["clips@3"]["count"] == 400 - refused
    assert found["clips_per_second"] == pytest.approx(CLIPS * found["requests_per_second"])


def test_a_failure_is_not_retried(bench: Bench, servicer: FakeRecognition) -> None:
    code, out, _ = bench("gone.mp4", "-n", "3", *NOW)
    assert code == 1
    assert "0 of 3 requests succeeded" in out
    assert "UNAVAILABLE SERVER_UNAVAILABLE" in out
    assert servicer.seen.total() == 3


def test_a_deadline(bench: Bench) -> None:
    found = document(bench("slow.mp4", "-n", "2", "-c", "2", "--deadline", "0.2", "--json", *NOW))
    assert found["failures"][0]["status"] == "DEADLINE_EXCEEDED"
    assert found["failures"][0]["seconds"]["min"] >= 0.15
    assert found["deadline"] == 0.2


def test_nobody_there(bench: Bench, nobody: str) -> None:
    code, out, err = bench("clips", "--server", nobody)
    assert (code, out) == (1, "")
    assert "no server answers there" in err


def test_no_such_model(bench: Bench, servicer: FakeRecognition) -> None:
    code, _, err = bench("clips", "--model", "typo")
    assert code == 1
    assert "no model 'typo'" in err
    assert not servicer.seen


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["clips", "nowhere.mp4"], "nowhere.mp4: no such file"),
        (["*.mov"], "matches no file"),
        (["clips@0"], "clips@0: a weight must be positive, got 0"),
        (["clips@nan"], "a weight must be positive"),
        (["clips", "-c", "2", "--rate", "3"], "either a concurrency"),
        (["clips", "--rate", "-3"], "rate must be positive, got -3"),
        (["clips", "-d", "1", "-n", "1"], "either a duration"),
        (["clips", "-d", "0"], "seconds must be positive"),
    ],
)
def test_what_cannot_be(bench: Bench, servicer: FakeRecognition, argv: list[str], message: str) -> None:
    code, _, err = bench(*argv)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not servicer.requests


def test_wrong_usage(bench: Bench) -> None:
    assert bench("clips", "--arrivals", "weekly")[0] == 2
    assert bench()[0] == 2


# -- a server process of ours ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server may read."""
    root = tmp_path_factory.mktemp("bench")
    make_bundle(root / "models")
    make_video(root / "colors.mp4")
    (root / "text.mp4").write_text("no video")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[ServerProcess]:
    with running_server(root / "models", "--allow-root", str(root)) as running:
        yield running


def test_a_real_server(bench: Bench, server: ServerProcess, tmp_path: Path) -> None:
    short = make_video(tmp_path / "short.mp4")
    found = document(
        bench(str(short), "--server", server.address, "-d", "1", "-c", "3", "--connections", "2", "--json", *NOW)
    )
    assert found["requests"]["ok"] > 3
    assert found["requests"]["failed"] == 0
    assert found["clips_per_second"] == pytest.approx(10 * found["requests_per_second"])
    assert {"decode", "preprocess", "queue", "infer", "aggregate"} <= set(found["stage_seconds"])
    stages = sum(stage["mean"] for stage in found["stage_seconds"].values())
    assert stages + found["elsewhere_seconds"]["mean"] == pytest.approx(found["latency_seconds"]["mean"], rel=0.05)


def test_paths_on_the_server(bench: Bench, server: ServerProcess, root: Path) -> None:
    code, out, _ = bench(
        f"{root}/colors.mp4@3", f"{root}/text.mp4@1", "--server-path", "--server", server.address, "-n", "40", *NOW
    )
    assert code == 0
    assert "INVALID_ARGUMENT NOT_A_VIDEO" in out


def test_control_c_ends_with_a_report(server: ServerProcess, tmp_path: Path) -> None:
    video = make_video(tmp_path / "short.mp4")
    command = [sys.executable, "-m", "tenclip_client", "bench", str(video), "--json", "--server", server.address]
    process = subprocess.Popen(
        [*command, "-d", "3600", *NOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    with server.stub() as stub:
        stub.ListModels(pb.ListModelsRequest())
    # It sends the second when it has the answer to the first.
    while server.log.rpartition("method=ListModels")[2].count("method=Predict") < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["interrupted"]
    assert found["requests"]["ok"] > 0
    assert found["window_seconds"] < 3600
    assert "Traceback" not in err


# -- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("a.mp4", ("a.mp4", 1.0)),
        ("a.mp4@2.5", ("a.mp4", 2.5)),
        ("*.mp4@3", ("*.mp4", 3.0)),
        ("me@home.mp4", ("me@home.mp4", 1.0)),
        ("me@home.mp4@4", ("me@home.mp4", 4.0)),
        ("@3", ("@3", 1.0)),
    ],
)
def test_split_weight(argument: str, parts: tuple[str, float]) -> None:
    assert split_weight(argument) == parts


def test_a_file_whose_name_looks_like_a_weight(tmp_path: Path) -> None:
    path = tmp_path / "take@2"
    path.write_bytes(b"video")
    assert split_weight(str(path)) == (str(path), 1.0)
    assert split_weight(f"{path}@5") == (str(path), 5.0)


def test_videos_of_one_argument_share_its_weight(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    videos = weighted_videos([f"{tmp_path}@3", f"{tmp_path}/a.mp4"])
    assert [v.weight for v in videos] == [1.5, 1.5, 1.0]
    assert [v.data for v in videos] == [b"a.mp4", b"b.mp4", b"a.mp4"]
    assert weighted_videos(["/there/a.mp4@2"], server_path=True) == [
        LoadVideo(name="/there/a.mp4", data=ServerPath("/there/a.mp4"), group="/there/a.mp4@2", weight=2.0)
    ]


def test_more_than_memory_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenclip_client._load_videos._MAX_BYTES", 10)
    (tmp_path / "a.mp4").write_bytes(b"x" * 11)
    with pytest.raises(InvalidRequest, match="holds them all in memory"):
        weighted_videos([str(tmp_path)])


def test_a_large_video_is_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenclip_client._video.INLINE_BYTES", 4)
    (tmp_path / "a.mp4").write_bytes(b"0123456789")
    (video,) = weighted_videos([str(tmp_path)])
    assert video.data == b"0123456789"
    monkeypatch.setattr("tenclip_client._load_videos._MAX_BYTES", 9)
    with pytest.raises(InvalidRequest, match="holds them all in memory"):
        weighted_videos([str(tmp_path)])


def test_what_the_server_fetches_is_sent_as_a_uri() -> None:
    (video,) = weighted_videos(["https://media.example/a.mp4?token=secret@2"], server_path=True)
    assert video.data == ServerUri("https://media.example/a.mp4?token=secret")
    assert video.weight == 2


def test_a_folder_without_videos(tmp_path: Path) -> None:
    with pytest.raises(VideoNotFound, match="no video files below it"):
        weighted_videos([str(tmp_path)])


def report_of(seconds: list[float], **more: Any) -> LoadReport:
    report = LoadReport(LoadPlan(videos=[LoadVideo(name="a", data=b"a", group="a")], concurrency=1, seconds=1.0))
    for value in seconds:
        report.latency.add(value)
        report.lag.add(0.0)
    for name, value in more.items():
        setattr(report, name, value)
    return report


def test_doubts_are_said() -> None:
    assert list(warnings(report_of([0.1] * 100))) == []
    assert "slowest" in next(warnings(report_of([0.1])))
    assert "used 97% of a core" in next(warnings(report_of([0.1] * 100, cpu_share=0.97)))
    late = Histogram()
    late.add(0.2)
    assert "sent 200 ms late or more" in next(warnings(report_of([0.1] * 100, lag=late)))
    assert "2 requests unanswered" in next(warnings(report_of([0.1] * 100, interrupted=True, num_unanswered=2)))


def test_a_report_without_answers(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(Console(width=100), "here:1", "predict", report_of([]))
    assert "0 of 0 requests succeeded; 0 requests/s, 0 clips/s" in capsys.readouterr().out


def test_progress_line() -> None:
    from tenclip_client._load import Snapshot

    snapshot = Snapshot(
        warming_up=False,
        share_done=0.5,
        num_ok=10,
        num_failed=1,
        num_in_flight=3,
        per_second=2.5,
        median_seconds=0.0123,
    )
    assert progress_line(snapshot) == "bench  50%: 10 ok, 1 failed, 3 in flight, 2.5 answers/s, median 12.3 ms"
