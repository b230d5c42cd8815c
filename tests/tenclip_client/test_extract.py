"""Feature extraction into Parquet: what is in the file, and that no interruption changes it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import DatasetError
from tenclip_client import AsyncClient, InvalidRequest, ModelNotFound, ServerUnavailable, VersionNotFound
from tenclip_client import _extract as extract_module
from tenclip_client._extract import extract_to_parquet
from tenclip_client._extraction import ClipChoice, ExtractionReport, Progress
from tenclip_client._inputs import expand_inputs

from .servicer import CLIPS, FEATURE_DIM, FakeRecognition, clip, features, serving


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve small videos in `clips/`, below the current directory."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i:02}.mp4").write_bytes(b"video %d" % i)
    monkeypatch.chdir(tmp_path)
    return folder


def extract(target: str, out: str | Path, *, videos: list[str] | None = None, **arguments: Any) -> ExtractionReport:
    async def run() -> ExtractionReport:
        async with AsyncClient(target, retries=0) as client:
            inputs = expand_inputs(videos or ["clips"])
            return await extract_to_parquet(client, inputs, Path(out), **arguments)

    return asyncio.run(run())


def test_the_file(clips: Path, target: str, servicer: FakeRecognition) -> None:
    report = extract(target, "f.parquet", choice=ClipChoice(num_clips=4))
    assert (report.videos, report.clips, report.reused, report.failures) == (12, 48, 0, ())
    table = pq.read_table("f.parquet")
    assert table.schema.names == [
        "video", "clip_index", "start_seconds", "end_seconds", "features", "model", "version",
    ]  # fmt: skip
    types = [pa.string(), pa.int32(), pa.float64(), pa.float64(), pa.list_(pa.float32()), pa.string(), pa.string()]
    assert table.schema.types == types
    rows = table.to_pylist()
    assert [r["video"] for r in rows[::4]] == [f"clips/{i:02}.mp4" for i in range(12)]
    assert [r["clip_index"] for r in rows[:5]] == [0, 1, 2, 3, 0]
    expected = features(b"video 7", 4)
    for k, row in enumerate(rows[28:32]):
        assert row["features"] == list(expected.clips[k].values)
        assert (row["start_seconds"], row["end_seconds"]) == (clip(k).start_seconds, clip(k).end_seconds)
        assert (row["model"], row["version"]) == ("actions", "2")
    assert not Path("f.parquet.partial").exists()
    # Requests name the version, so that a server that moves on is noticed.
    assert {r.model.version for r in servicer.requests[1:]} == {"2"}


def test_metadata_says_how(clips: Path, target: str) -> None:
    extract(target, "f.parquet", choice=ClipChoice(protocol="center-clip", clips="uniform", num_clips=2))
    metadata = {k.decode(): v.decode() for k, v in pq.read_schema("f.parquet").metadata.items()}
    assert metadata["tenclip.model"] == "actions"
    assert metadata["tenclip.version"] == "2"
    assert metadata["tenclip.protocol"] == "center-clip"
    assert metadata["tenclip.clip_selection"] == "uniform"
    assert metadata["tenclip.num_clips"] == "2"
    assert json.loads(metadata["tenclip.settings"])["fully_convolutional"] is None


def test_failures_are_kept_and_retried_on_demand(clips: Path, target: str, servicer: FakeRecognition) -> None:
    (clips / "03.mp4").write_bytes(b"")
    (clips / "05.mp4").write_bytes(b"raise NO_VIDEO_STREAM")
    report = extract(target, "f.parquet", videos=["clips", "gone.mp4", "nothing*"])
    assert [(f.video, f.reason) for f in report.failures] == [
        ("clips/03.mp4", "EMPTY_VIDEO"),
        ("clips/05.mp4", "NO_VIDEO_STREAM"),
        ("gone.mp4", "VIDEO_NOT_FOUND"),
        ("nothing*", "VIDEO_NOT_FOUND"),
    ]
    assert (report.videos, report.clips) == (10, 10 * CLIPS)
    assert pq.read_metadata("f.parquet").num_rows == 30

    # Again: nothing is asked but which model it is, and the same is reported.
    asked = len(servicer.requests)
    again = extract(target, "f.parquet", videos=["clips", "gone.mp4", "nothing*"])
    assert (again.failures, again.videos, again.reused) == (report.failures, 10, 10)
    assert len(servicer.requests) == asked + 1

    # Repaired, but only a retry looks.
    (clips / "03.mp4").write_bytes(b"video 3")
    (clips / "05.mp4").write_bytes(b"video 5")
    assert len(extract(target, "f.parquet").failures) == 2
    fixed = extract(target, "f.parquet", retry_failed=True)
    assert (fixed.videos, fixed.reused, fixed.failures) == (12, 10, ())
    extract(target, "g.parquet")
    assert Path("f.parquet").read_bytes() == Path("g.parquet").read_bytes()
    assert not Path("f.parquet.partial").exists()


def test_nothing_that_works_gives_no_file(clips: Path, target: str) -> None:
    report = extract(target, "f.parquet", videos=["gone.mp4"])
    assert (report.videos, report.clips, len(report.failures)) == (0, 0, 1)
    assert not Path("f.parquet").exists()


def test_finished_file_is_left_alone(clips: Path, target: str, servicer: FakeRecognition) -> None:
    extract(target, "f.parquet")
    before = os.stat("f.parquet")
    asked = len(servicer.requests)
    report = extract(target, "f.parquet")
    assert (report.videos, report.clips, report.reused) == (12, 36, 12)
    assert os.stat("f.parquet").st_mtime_ns == before.st_mtime_ns
    assert len(servicer.requests) == asked + 1


def test_finished_file_of_other_videos_or_settings(clips: Path, target: str) -> None:
    extract(target, "f.parquet", videos=["clips/00.mp4", "clips/01.mp4"])
    with pytest.raises(DatasetError, match=r"lacks 10 of these videos, clips/02\.mp4 first"):
        extract(target, "f.parquet")
    with pytest.raises(DatasetError, match="holds other videos, too"):
        extract(target, "f.parquet", videos=["clips/00.mp4"])
    with pytest.raises(DatasetError, match="num_clips was not set, now 3"):
        extract(target, "f.parquet", videos=["clips/00.mp4", "clips/01.mp4"], choice=ClipChoice(num_clips=3))
    assert extract(target, "f.parquet", overwrite=True).videos == 12


def test_out_that_is_something_else(clips: Path, target: str) -> None:
    with pytest.raises(DatasetError, match="is a directory"):
        extract(target, "clips")
    Path("f.parquet").write_text("precious")
    pq.write_table(pa.table({"x": [1]}), "g.parquet")
    for out in ("f.parquet", "g.parquet"):
        with pytest.raises(DatasetError, match="no feature table of ours; --overwrite"):
            extract(target, out)
    assert Path("f.parquet").read_text() == "precious"


def test_unfinished_run_with_other_settings(clips: Path, target: str) -> None:
    (clips / "03.mp4").write_bytes(b"")
    extract(target, "f.parquet")
    with pytest.raises(
        DatasetError, match=r"f\.parquet\.partial: holds features of other settings: .*start was not set"
    ):
        extract(target, "f.parquet", choice=ClipChoice(start=1.5))
    assert extract(target, "f.parquet", choice=ClipChoice(start=1.5), overwrite=True).videos == 11


def test_model_exported_again_under_its_name(
    clips: Path, target: str, servicer: FakeRecognition, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(target, "f.parquet")
    servicer.version = "3"
    with pytest.raises(DatasetError, match="version was 2, now 3; weights was"):
        extract(target, "f.parquet")
    with pytest.raises(VersionNotFound):
        extract(target, "f.parquet", choice=ClipChoice(model="actions:2"))


def test_arguments_are_refused_before_anything_is_written(clips: Path, target: str) -> None:
    with pytest.raises(InvalidRequest, match=r"'eleven-clip' is none of actions:2's: ten-clip, center-clip"):
        extract(target, "f.parquet", choice=ClipChoice(protocol="eleven-clip"))
    with pytest.raises(ModelNotFound):
        extract(target, "f.parquet", choice=ClipChoice(model="other"))
    assert os.listdir() == ["clips"]


def test_changed_video_is_done_again(clips: Path, target: str) -> None:
    (clips / "11.mp4").write_bytes(b"")
    extract(target, "f.parquet")
    (clips / "04.mp4").write_bytes(b"another video")
    report = extract(target, "f.parquet")
    assert report.reused == 10
    rows = pq.read_table("f.parquet").to_pylist()
    assert rows[4 * CLIPS]["features"] == list(features(b"another video", CLIPS).clips[0].values)


def test_order_is_that_of_the_videos(clips: Path, target: str) -> None:
    (clips / "00.mp4").write_bytes(b"sleep 0.4")
    extract(target, "f.parquet", concurrency=6)
    assert pq.read_table("f.parquet")["video"].unique().to_pylist() == [f"clips/{i:02}.mp4" for i in range(12)]


def test_many_in_flight(clips: Path, servicer: FakeRecognition, target: str) -> None:
    servicer.delay = 0.05
    extract(target, "f.parquet", concurrency=5)
    assert 2 <= servicer.most_at_once <= 5


def test_busy_server_is_waited_for(clips: Path, target: str) -> None:
    (clips / "00.mp4").write_bytes(b"busy 2")
    pauses: list[float] = []
    progress = Progress(on_pause=lambda _, seconds: pauses.append(seconds))
    assert extract(target, "f.parquet", progress=progress).videos == 12
    assert pauses == [0.05, 0.05]


def test_server_that_goes_away_loses_nothing(
    clips: Path, servicer: FakeRecognition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract_module, "PATIENCE_SECONDS", 0.2)
    (clips / "05.mp4").write_bytes(b"status UNAVAILABLE")
    with serving(servicer) as target:
        with pytest.raises(ServerUnavailable):
            extract(target, "f.parquet", concurrency=1)
        assert not Path("f.parquet").exists()
        (clips / "05.mp4").write_bytes(b"video 5")
        assert extract(target, "f.parquet").reused == 5


def test_progress(clips: Path, target: str) -> None:
    (clips / "03.mp4").write_bytes(b"")
    told: list[Any] = []
    progress = Progress(
        on_start=lambda total, done: told.append((total, done)),
        on_video=lambda name, clips, failure: told.append((name, clips, failure and failure.reason)),
    )
    extract(target, "f.parquet", progress=progress, concurrency=1)
    assert told[:5] == [
        (12, 0),
        ("clips/00.mp4", CLIPS, None),
        ("clips/01.mp4", CLIPS, None),
        ("clips/02.mp4", CLIPS, None),
        ("clips/03.mp4", 0, "EMPTY_VIDEO"),
    ]
    assert len(told) == 13


def test_row_groups(clips: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenclip_features.writer._ROWS_PER_GROUP", 10)
    extract(target, "f.parquet")
    file = pq.ParquetFile("f.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 10, 6]
    assert len(file.read()["features"][35].as_py()) == FEATURE_DIM


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle(clips: Path, number: signal.Signals) -> None:
    (clips / "07.mp4").write_bytes(b"raise NO_FRAMES")
    extract_here = [sys.executable, "-m", "tenclip_client", "features", "clips", "--concurrency", "3", "--json"]
    ledger = Path("cut.parquet.partial/ledger.jsonl")

    for life, limit in enumerate((4, 5), start=1):
        servicer = FakeRecognition(limit=limit)
        with serving(servicer) as target:
            process = subprocess.Popen([*extract_here, "--out", "cut.parquet", "--server", target])
            # The server answers no more than `limit`: the process is in the middle, and stays there.
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and _lines(ledger) < 4 * life:
                time.sleep(0.01)
            process.send_signal(number)
            assert process.wait(30) == (130 if number == signal.SIGINT else -number)
            servicer.released.set()
    before = _lines(ledger)
    assert 8 <= before <= 9
    assert not Path("cut.parquet").exists()

    with serving(FakeRecognition()) as target:
        cut, whole = (
            subprocess.run([*extract_here, "--out", out, "--server", target], stdout=subprocess.PIPE, check=False)
            for out in ("cut.parquet", "whole.parquet")
        )
    assert (cut.returncode, whole.returncode) == (1, 1)
    report = json.loads(cut.stdout)
    assert (report["videos"], [f["video"] for f in report["failures"]]) == (11, ["clips/07.mp4"])
    assert report["reused"] in (before, before - 1)  # minus the one that failed, if its turn had come
    assert Path("cut.parquet").read_bytes() == Path("whole.parquet").read_bytes()


def _lines(ledger: Path) -> int:
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0
