"""Feature extraction into Parquet: what is in the file, and that no interruption changes it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sqlite3
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
from tenclip_client._extraction import ClipChoice, EarlierRows, ExtractionReport, Progress
from tenclip_client._inputs import VideoInput, expand_inputs
from tenclip_client.cli.exits import SOME_FAILED
from tenclip_features.names import path_of_name
from tenclip_features.schema import STAMP_COLUMNS, table_schema

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
        "video_bytes", "video_mtime_ns", "video_sha256",
    ]  # fmt: skip
    assert table.schema.equals(table_schema(FEATURE_DIM))
    rows = table.to_pylist()
    assert [r["video"] for r in rows[::4]] == [f"clips/{i:02}.mp4" for i in range(12)]
    assert [r["clip_index"] for r in rows[:5]] == [0, 1, 2, 3, 0]
    expected = features(b"video 7", 4)
    for k, row in enumerate(rows[28:32]):
        assert row["features"] == list(expected.clips[k].values)
        assert (row["start_seconds"], row["end_seconds"]) == (clip(k).start_seconds, clip(k).end_seconds)
        assert (row["model"], row["version"]) == ("actions", "2")
        assert (row["video_bytes"], row["video_sha256"]) == (7, None)
    status = (clips / "07.mp4").stat()
    assert table["video_mtime_ns"][28].as_py() == status.st_mtime_ns
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

    # A file that is another one now is tried again; what failed for other reasons waits for a retry.
    (clips / "05.mp4").write_bytes(b"video 5")
    (clips.parent / "gone.mp4").write_bytes(b"raise NO_FRAMES")
    again = extract(target, "f.parquet", videos=["clips", "gone.mp4"])
    assert [(f.video, f.reason) for f in again.failures] == [("clips/03.mp4", "EMPTY_VIDEO"), ("gone.mp4", "NO_FRAMES")]
    assert (again.videos, again.reused) == (11, 10)
    asked = len(servicer.requests)
    assert len(extract(target, "f.parquet", videos=["clips", "gone.mp4"]).failures) == 2
    assert len(servicer.requests) == asked + 1
    (clips.parent / "gone.mp4").unlink()
    again = extract(target, "f.parquet", videos=["clips", "gone.mp4"])
    assert [f.reason for f in again.failures] == ["EMPTY_VIDEO", "VIDEO_NOT_FOUND"]

    (clips / "03.mp4").write_bytes(b"video 3")
    fixed = extract(target, "f.parquet", retry_failed=True)
    assert (fixed.videos, fixed.reused, fixed.failures) == (12, 11, ())
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


def test_finished_file_of_other_settings(clips: Path, target: str) -> None:
    extract(target, "f.parquet")
    with pytest.raises(DatasetError, match="num_clips was not set, now 3"):
        extract(target, "f.parquet", choice=ClipChoice(num_clips=3))
    assert extract(target, "f.parquet", overwrite=True).videos == 12


class TestFinishedFile:
    """A later run brings it up to date: the same rows as a run from the beginning."""

    def test_a_changed_video_is_extracted_anew(self, clips: Path, target: str, servicer: FakeRecognition) -> None:
        extract(target, "f.parquet")
        asked = len(servicer.requests)
        (clips / "04.mp4").write_bytes(b"another video")
        report = extract(target, "f.parquet")
        assert (report.videos, report.reused, report.changed) == (12, 11, ("clips/04.mp4",))
        assert len(servicer.requests) == asked + 2
        extract(target, "g.parquet")
        assert Path("f.parquet").read_bytes() == Path("g.parquet").read_bytes()
        assert not Path("f.parquet.partial").exists()
        assert extract(target, "f.parquet").changed == ()

    def test_same_size_and_another_time_is_a_change(self, clips: Path, target: str) -> None:
        extract(target, "f.parquet")
        status = (clips / "04.mp4").stat()
        (clips / "04.mp4").write_bytes(b"video X")
        os.utime(clips / "04.mp4", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert extract(target, "f.parquet").changed == ("clips/04.mp4",)

    def test_the_content_where_it_is_asked_for(self, clips: Path, target: str) -> None:
        by_content = EarlierRows(by_content=True)
        extract(target, "f.parquet", earlier=by_content)
        assert pq.read_table("f.parquet")["video_sha256"][0].as_py() == hashlib.sha256(b"video 0").hexdigest()
        status = (clips / "04.mp4").stat()
        (clips / "04.mp4").write_bytes(b"video X")
        os.utime(clips / "04.mp4", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert extract(target, "f.parquet").changed == (), "size and time are the same"
        assert extract(target, "f.parquet", earlier=by_content).changed == ("clips/04.mp4",)
        os.utime(clips / "05.mp4", ns=(0, 0))
        assert extract(target, "f.parquet").changed == (), "its hash says that it is the same"

    def test_rows_without_a_hash_get_one(self, clips: Path, target: str, servicer: FakeRecognition) -> None:
        extract(target, "f.parquet")
        asked = len(servicer.requests)
        report = extract(target, "f.parquet", earlier=EarlierRows(by_content=True))
        assert (report.reused, report.changed, len(servicer.requests)) == (12, (), asked + 1)
        hashes = pq.read_table("f.parquet")["video_sha256"].to_pylist()
        assert hashes[::CLIPS] == [hashlib.sha256(b"video %d" % i).hexdigest() for i in range(12)]
        before = os.stat("f.parquet").st_mtime_ns
        extract(target, "f.parquet", earlier=EarlierRows(by_content=True))
        assert os.stat("f.parquet").st_mtime_ns == before

    def test_new_videos_are_added(self, clips: Path, target: str) -> None:
        extract(target, "f.parquet", videos=["clips/0[1-5].mp4"])
        report = extract(target, "f.parquet")
        assert (report.videos, report.reused, report.changed, report.removed) == (12, 5, (), ())
        extract(target, "g.parquet")
        assert Path("f.parquet").read_bytes() == Path("g.parquet").read_bytes()

    def test_rows_of_removed_videos_are_kept_and_said(self, clips: Path, target: str) -> None:
        extract(target, "f.parquet")
        (clips / "04.mp4").unlink()
        (clips / "05.mp4").write_bytes(b"another video")
        report = extract(target, "f.parquet")
        assert (report.videos, report.removed, report.changed) == (12, ("clips/04.mp4",), ("clips/05.mp4",))
        names = pq.read_table("f.parquet")["video"].unique().to_pylist()
        assert names[-1] == "clips/04.mp4"
        again = extract(target, "f.parquet")
        assert (again.videos, again.removed) == (12, ("clips/04.mp4",))
        # Named by itself it is removed all the same, and not asked of the server.
        named = extract(target, "f.parquet", videos=["clips", "clips/04.mp4"])
        assert (named.removed, named.failures) == (("clips/04.mp4",), ())

    def test_prune_drops_them(self, clips: Path, target: str) -> None:
        extract(target, "f.parquet")
        (clips / "04.mp4").unlink()
        report = extract(target, "f.parquet", earlier=EarlierRows(prune=True))
        assert (report.videos, report.removed, report.pruned) == (11, (), ("clips/04.mp4",))
        extract(target, "g.parquet")
        assert Path("f.parquet").read_bytes() == Path("g.parquet").read_bytes()

    def test_a_changed_video_that_fails_loses_its_rows(self, clips: Path, target: str) -> None:
        extract(target, "f.parquet")
        (clips / "04.mp4").write_bytes(b"")
        report = extract(target, "f.parquet")
        assert (report.videos, [f.reason for f in report.failures]) == (11, ["EMPTY_VIDEO"])
        assert "clips/04.mp4" not in pq.read_table("f.parquet")["video"].to_pylist()

    def test_interrupted_while_it_is_brought_up_to_date(
        self, clips: Path, servicer: FakeRecognition, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(extract_module, "PATIENCE_SECONDS", 0.2)
        with serving(servicer) as target:
            extract(target, "f.parquet")
            whole = Path("f.parquet").read_bytes()
            (clips / "02.mp4").write_bytes(b"another video")
            (clips / "05.mp4").write_bytes(b"status UNAVAILABLE")
            with pytest.raises(ServerUnavailable):
                extract(target, "f.parquet", concurrency=1)
            assert Path("f.parquet").read_bytes() == whole, "as it was, until everything is there"
            (clips / "05.mp4").write_bytes(b"video 5 again")
            report = extract(target, "f.parquet")
            assert (report.reused, report.changed) == (11, ("clips/05.mp4",))
            extract(target, "g.parquet")
        assert Path("f.parquet").read_bytes() == Path("g.parquet").read_bytes()

    def test_a_table_without_stamps(self, clips: Path, target: str, servicer: FakeRecognition) -> None:
        extract(target, "g.parquet")
        table = pq.read_table("g.parquet").drop_columns(list(STAMP_COLUMNS))
        vectors = table["features"].combine_chunks()
        lists = pa.array(vectors.to_pylist(), pa.list_(pa.float32()))
        table = table.set_column(4, "features", lists).replace_schema_metadata(table.schema.metadata)
        pq.write_table(table, "f.parquet")
        with pytest.raises(DatasetError, match=r"f\.parquet: was written by an earlier version .*--trust-unstamped"):
            extract(target, "f.parquet")
        asked = len(servicer.requests)
        report = extract(target, "f.parquet", earlier=EarlierRows(trust_unstamped=True))
        assert (report.videos, report.reused) == (12, 12)
        assert len(servicer.requests) == asked + 1
        assert Path("f.parquet").read_bytes() == Path("g.parquet").read_bytes(), "with stamps, and of a fixed size"

    def test_names_that_differ_in_bytes_that_are_no_text(self, clips: Path, target: str) -> None:
        paths = [os.fsencode(clips) + b"/caf\xe9.mp4", os.fsencode(clips) + b"/caf\xe8.mp4"]
        inputs = []
        for path in paths:
            Path(os.fsdecode(path)).write_bytes(path)
            name = path.decode("utf-8", "backslashreplace")
            inputs.append(VideoInput(name, Path(os.fsdecode(path))))

        async def run() -> ExtractionReport:
            async with AsyncClient(target) as client:
                return await extract_to_parquet(client, inputs, Path("f.parquet"))

        assert asyncio.run(run()).videos == 2
        names = pq.read_table("f.parquet")["video"].unique().to_pylist()
        assert [os.fsencode(path_of_name(name)) for name in names] == paths


def test_a_server_that_gives_no_clips(clips: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.tenclip_client.servicer.CLIPS", 0)
    report = extract(target, "f.parquet")
    assert [f.reason for f in report.failures] == ["NO_FRAMES"] * 12
    assert "the server gave no clips" in report.failures[0].message


def test_vectors_of_other_lengths(clips: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (clips / "00.mp4").write_bytes(b"sleep 0.2")
    asked: list[int] = []

    def shrinking(data: bytes, num_clips: int) -> Any:
        monkeypatch.setattr("tests.tenclip_client.servicer.FEATURE_DIM", 8 if len(asked) < 3 else 5)
        asked.append(1)
        return features(data, num_clips)

    monkeypatch.setattr("tests.tenclip_client.servicer.features", shrinking)
    with pytest.raises(DatasetError, match=r"f\.parquet: clip 0 of clips/\d+\.mp4 has \d features, those before"):
        extract(target, "f.parquet", concurrency=1)


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


@pytest.mark.parametrize(
    ("number", "in_background"),
    [(signal.SIGKILL, False), (signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
)
def test_killed_in_the_middle(clips: Path, number: signal.Signals, in_background: bool) -> None:
    """in_background: as a script starts it with `&`, without Ctrl-C."""
    (clips / "07.mp4").write_bytes(b"raise NO_FRAMES")
    extract_here = [sys.executable, "-m", "tenclip_client", "features", "clips", "--concurrency", "3", "--json"]

    for limit in (4, 5):
        servicer = FakeRecognition(limit=limit)
        with serving(servicer) as target:
            command = [*extract_here, "--out", "cut.parquet", "--server", target]
            before = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_background else None
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            if in_background:
                signal.signal(signal.SIGINT, before)
            # The server answers no more than `limit`: the process is in the middle, and stays there.
            deadline = time.monotonic() + 60
            # Three wait for answers, so those of all before them are in the journal.
            while time.monotonic() < deadline and servicer.seen.total() < limit + 3:
                time.sleep(0.01)
            process.send_signal(number)
            _, said = process.communicate(timeout=120)
            assert process.returncode == (-number if number == signal.SIGKILL else 130)
            if number != signal.SIGKILL:
                assert said.splitlines()[-1] == "stopped; the same command goes on from here"
            servicer.released.set()
    with contextlib.closing(sqlite3.connect("cut.parquet.partial/journal.sqlite")) as journal:
        ((before, failed),) = journal.execute("SELECT count(*), count(reason) FROM videos")
    assert before == 9
    assert not Path("cut.parquet").exists()

    with serving(FakeRecognition()) as target:
        cut, whole = (
            subprocess.run([*extract_here, "--out", out, "--server", target], stdout=subprocess.PIPE, check=False)
            for out in ("cut.parquet", "whole.parquet")
        )
    assert (cut.returncode, whole.returncode) == (SOME_FAILED, SOME_FAILED)
    report = json.loads(cut.stdout)
    assert (report["videos"], [f["video"] for f in report["failures"]]) == (11, ["clips/07.mp4"])
    assert report["reused"] == before - failed
    assert Path("cut.parquet").read_bytes() == Path("whole.parquet").read_bytes()
