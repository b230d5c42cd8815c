"""What a second run does with what the first one left: nothing twice, nothing lost, nothing of another kind."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError, NoClassifier
from tenclip_batch.ledger import summarize
from tenclip_batch.options import ClipChoices, OutputOptions, ResumeOptions, RuntimeOptions
from tenclip_batch.run import Watching
from tests.tenclip_serving.helpers import SPEC, make_bundle, make_video

from .helpers import command, rows, run, tenclip

# A part after every third video, so that there are several.
PARTS = OutputOptions(part_clips=30)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(4):
        make_video(folder / f"{i}.mp4", num_frames=20 + 5 * i)
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    return folder


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*.parquet")}


def test_a_second_run_changes_nothing(bundle: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(bundle, out, videos, output=PARTS)
    before = contents(out)
    second = run(bundle, out, videos, output=PARTS)
    assert (first.worked, first.reused, first.failed) == (5, 0, 1)
    assert (second.worked, second.reused, second.failed) == (0, 4, 1)
    assert second.named[0].reason == "NOT_A_VIDEO"  # of the first run, still named
    assert contents(out) == before
    assert summarize(out) == {
        "videos": 5, "clips": 40, "done": 4, "failed": 1, "failures": {"NOT_A_VIDEO": 1},
    }  # fmt: skip


def test_what_changed_is_done_anew_and_nothing_else(bundle: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hashed = ResumeOptions(by_content=True)
    run(bundle, out, videos, output=PARTS, resume=hashed)
    before = {row["video"]: row for row in rows(out, "videos").to_pylist()}
    make_video(videos / "0.mp4", num_frames=90)
    os.utime(videos / "1.mp4", (1, 1))  # another time, the same bytes
    (videos / "2.mp4").unlink()
    shutil.copy(videos / "1.mp4", videos / "text.mp4")  # a failure whose file is another one now
    make_video(videos / "new.mp4")
    report = run(bundle, out, videos, output=PARTS, resume=hashed)
    name = str(videos)
    assert report.changed == (f"{name}/0.mp4",)
    assert report.removed == (f"{name}/2.mp4",)
    assert (report.worked, report.reused, report.failed, report.done) == (3, 2, 0, 6)
    after = {row["video"]: row for row in rows(out, "videos").to_pylist()}
    assert after[f"{name}/0.mp4"]["frames"] == 90
    assert after[f"{name}/1.mp4"] == before[f"{name}/1.mp4"]
    pruned = run(bundle, out, videos, output=PARTS, resume=ResumeOptions(prune=True))
    assert pruned.pruned == (f"{name}/2.mp4",)
    assert pruned.done == 5
    # Everything is as if it had been done at once.
    run(bundle, tmp_path / "fresh", videos)
    assert rows(out).drop(["video_sha256", "video_mtime_ns"]) == rows(tmp_path / "fresh").drop(
        ["video_sha256", "video_mtime_ns"]
    )


def test_videos_of_a_shard_that_cannot_be_read_now_are_not_pruned(bundle: Path, videos: Path, tmp_path: Path) -> None:
    shard, gone, out = tmp_path / "a.tar", tmp_path / "b.tar", tmp_path / "out"
    for path, name in ((shard, "0.mp4"), (gone, "1.mp4")):
        with tarfile.open(path, "w") as tar:
            tar.add(videos / name, name)
    assert run(bundle, out, shard, gone).done == 2
    whole = shard.read_bytes()
    shard.write_bytes(whole[:1000])
    gone.unlink()
    report = run(bundle, out, shard, gone, resume=ResumeOptions(prune=True))
    assert (report.pruned, report.done) == ((f"{gone}/1.mp4",), 1)
    shard.write_bytes(whole)
    report = run(bundle, out, shard, resume=ResumeOptions(prune=True))
    assert (report.done, report.failed) == (1, 0)


def test_failures_are_tried_again_when_asked_for(bundle: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(bundle, out, videos)
    assert run(bundle, out, videos, resume=ResumeOptions(retry_failed=True)).worked == 1
    table = rows(out, "videos")
    assert table["video"].to_pylist().count(str(videos / "text.mp4")) == 1


def test_failures_of_what_is_not_named_any_more_are_dropped(bundle: Path, videos: Path, tmp_path: Path) -> None:
    """A video that was deleted, and a shard that was mended, so that its videos are named and no longer itself."""
    out, shard = tmp_path / "out", videos / "000.tar"
    shard.write_text("no tar" * 500)
    assert run(bundle, out, videos).failures == {"NOT_A_VIDEO": 1, "DATASET_ERROR": 1}
    (videos / "text.mp4").unlink()
    with tarfile.open(shard, "w") as tar:
        tar.add(videos / "0.mp4", "in.mp4")
    report = run(bundle, out, videos)
    assert (report.failed, report.failures, report.done, report.named) == (0, {}, 5, ())
    assert sorted(report.pruned) == [str(shard), str(videos / "text.mp4")]
    assert report.removed == ()
    assert set(rows(out, "videos")["state"].to_pylist()) == {"done"}
    # What is done is kept, and only what is done.
    report = run(bundle, out, videos / "0.mp4")
    assert (report.pruned, len(report.removed), report.done) == ((), 4, 5)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_goes_on(bundle: Path, tmp_path: Path, ending: signal.Signals) -> None:
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    make_video(folder / "000.mp4")
    for i in range(1, 60):
        shutil.copy(folder / "000.mp4", folder / f"{i:03d}.mp4")
    part_clips = 100 if ending == signal.SIGKILL else 10_000
    arguments = command(
        "batch", "features", folder, "--bundle", bundle, "--out", out, "--part-clips", part_clips,
        "--decode-workers", 1, "--in-flight", 4, "--threads", 1, "--show", "--json",
    )  # fmt: skip
    # It waits when it has said a page more than is read: it is not done before it is ended, however late that is.
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(25):
            assert process.stdout.readline()
        process.send_signal(ending)
        _, said = process.communicate()
    assert process.returncode == (-ending if ending == signal.SIGKILL else 130)
    done = summarize(out)["done"]
    if ending == signal.SIGKILL:
        assert done in (20, 30, 40, 50), "whole parts"
    else:
        assert said.splitlines()[-1] == b"stopped; the same command goes on from here"
        assert 25 <= done < 60, "what was finished is written"
        assert not list((out / ".attempts").iterdir())
    report = run(bundle, out, folder, output=OutputOptions(part_clips=100))
    assert (report.reused, report.worked, report.done, report.failed) == (done, 60 - done, 60, 0)
    run(bundle, tmp_path / "whole", folder)
    assert rows(out) == rows(tmp_path / "whole")
    assert rows(out, "videos") == rows(tmp_path / "whole", "videos")


def test_two_runs_into_one_folder(bundle: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(bundle, out, videos)
    seen: list[subprocess.CompletedProcess[str]] = []

    def another(*_: object) -> None:
        if not seen:
            seen.append(tenclip("batch", "features", videos, "--bundle", bundle, "--out", out))

    run(bundle, out, videos, resume=ResumeOptions(retry_failed=True), watching=Watching(on_result=another))
    assert seen[0].returncode == 1
    assert f"{out}: another run is writing into it" in " ".join(seen[0].stderr.split())


def test_a_folder_of_something_else(bundle: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(bundle, out, videos)
    before = contents(out)
    other = make_bundle(tmp_path / "models", "tiny", "2", spec=replace(SPEC, crop=24))
    with pytest.raises(DatasetError, match=r"version was 1, now 2; weights was \w+, now \w+.*--overwrite"):
        run(other, out, videos)
    with pytest.raises(DatasetError, match="protocol was ten-clip, now tsn-3"):
        run(bundle, out, videos, choices=ClipChoices(protocol="tsn-3"))
    with pytest.raises(DatasetError, match="task was features, now predict"):
        run(bundle, out, videos, output=OutputOptions(task="predict"))
    with pytest.raises(DatasetError, match="runtime was openvino, now onnxruntime"):
        run(bundle, out, videos, runtime=RuntimeOptions(runtime="onnxruntime", decode_workers=1))
    with pytest.raises(DatasetError, match="holds something else than a batch dataset"):
        run(bundle, videos, videos)
    with pytest.raises(DatasetError, match="is a file; --out is the folder"):
        run(bundle, videos / "0.mp4", videos)
    assert contents(out) == before
    (out / "notes.txt").write_text("mine")
    assert run(other, out, videos, resume=ResumeOptions(overwrite=True)).version == "2"
    assert (out / "notes.txt").read_text() == "mine"
    assert summarize(out)["done"] == 4
    (out / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="is damaged"):
        run(other, out, videos)


def test_predictions_of_a_bundle_without_classes(videos: Path, tmp_path: Path) -> None:
    backbone = make_bundle(tmp_path / "models", labels=())
    with pytest.raises(NoClassifier, match="tenclip batch features"):
        run(backbone, tmp_path / "out", videos, output=OutputOptions(task="predict"))
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full(bundle: Path, videos: Path, tmp_path: Path) -> None:
    """The system refuses to let a file of this process grow beyond 2 kB, from the first video on."""
    out = tmp_path / "out"
    run(bundle, out, videos / "0.mp4")
    before = contents(out)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = Watching(on_result=lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard)))
    try:
        with pytest.raises(DatasetError, match=r"part-0000\d.parquet: cannot be written: File too large; the same"):
            run(bundle, out, videos, output=PARTS, watching=full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(out) == before
    assert not [p for p in out.rglob("*") if p.name.endswith(".part")]
    report = run(bundle, out, videos)
    assert (report.reused, report.done) == (1, 4)


def test_what_a_killed_process_left_is_cleaned(bundle: Path, videos: Path, tmp_path: Path) -> None:
    """Clips without their videos, half a file, and a part that another one has replaced."""
    out = tmp_path / "out"
    run(bundle, out, videos, output=PARTS)
    expected = rows(out), rows(out, "videos")
    first = out / "videos" / "part-00000.parquet"
    kept = {table: (out / table / first.name).read_bytes() for table in ("clips", "videos")}
    run(bundle, out, videos)  # joins the small parts
    assert len(list(out.glob("videos/part-*.parquet"))) == 1
    assert (rows(out), rows(out, "videos")) == expected
    for table, data in kept.items():  # as if it had been killed before it deleted what it had replaced
        (out / table / first.name).write_bytes(data)
    (out / "clips" / "part-00099.parquet").write_bytes(kept["clips"])
    (out / "clips" / ".part-00098.parquet.0123.part").write_bytes(b"half")
    assert run(bundle, out, videos).worked == 0
    assert (rows(out), rows(out, "videos")) == expected
    assert sorted(p.name for p in (out / "clips").iterdir()) == sorted(p.name for p in (out / "videos").iterdir())
    part = next((out / "videos").iterdir())
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"cannot be read as Parquet.*delete it"):
        run(bundle, out, videos)
