from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, read_manifest
from tenclip_training.data.shards.index import INDEX_NAME, read_index
from tenclip_training.data.shards.write import WriteResult, write_shards


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def small_set(folder: Path, count: int, num_bytes: int = 1000) -> Manifest:
    """Files of random bytes in two classes: shards are copies, whatever is in the files."""
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(num_bytes))
    return read_manifest(folder, held_out=None)


def test_shards_hold_the_files_and_what_they_show(shards: Path, validated_videos: Path) -> None:
    manifest = read_manifest(validated_videos)
    index = read_index(shards / INDEX_NAME, name="index")
    assert [(s.name, s.num_bytes) for s in index.shards] == [
        (name, (shards / name).stat().st_size) for name in (*(f"train-{i:06d}.tar" for i in range(4)),
        "val-000000.tar", "val-000001.tar")
    ]  # fmt: skip
    assert index.labels == manifest.labels
    assert json.loads((shards / "labels.json").read_text()) == list(manifest.labels)
    assert (shards / "failures.jsonl").read_text() == ""
    assert not (shards / ".writing").exists()
    by_name = {s.name: s for s in manifest.samples}
    assert [r.name for r in index.rows] == [s.name for split in ("train", "val") for s in manifest.split(split).samples]
    for row in index.rows:
        sample = by_name[row.name]
        data = (shards / index.shards[row.shard].name).read_bytes()
        assert data[row.offset : row.offset + row.num_bytes] == sample.path.read_bytes()
        assert (row.labels, row.split) == (sample.labels, sample.split)
        assert row.extra == dict(sample.extra.items())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it leaves closing to the garbage collector
def test_webdataset_reads_them(shards: Path, validated_videos: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    manifest = read_manifest(validated_videos)
    names = [str(p) for p in sorted(shards.glob("train-*.tar"))]
    found: list[dict[str, Any]] = list(webdataset.WebDataset(names, shardshuffle=False).decode())
    assert len(found) == 12
    for read, sample in zip(found, manifest.split("train").samples, strict=True):
        assert read["mp4"] == sample.path.read_bytes()
        assert read["json"]["name"] == sample.name
        assert read["json"]["labels"] == list(sample.labels)
        assert manifest.labels[read["cls"]] == sample.labels[0]
    gc.collect()


def test_the_same_call_gives_the_same_bytes(validated_videos: Path, tmp_path: Path) -> None:
    manifest = read_manifest(validated_videos)
    for name, threads in (("one", 1), ("two", 4)):
        write_shards(manifest, tmp_path / name, videos_per_shard=5, threads=threads)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_parts_of_a_video_share_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "long.mp4").write_bytes(b"long" * 100)
    (tmp_path / "list.csv").write_text(
        "path,label,split,start_seconds,end_seconds,actor\n"
        "long.mp4,run,train,0,1,ann\nlong.mp4,jump|fall,train,1,2,bo\nlong.mp4,run,val,5,,\n"
    )
    result = write_shards(read_manifest(tmp_path / "list.csv"), tmp_path / "out")
    first, second, third = result.index.rows
    assert (first.offset, first.sha256, first.shard) == (second.offset, second.sha256, second.shard)
    assert third.shard == 1
    assert (first.start_seconds, second.end_seconds, third.end_seconds) == (0.0, 2.0, None)
    assert (second.labels, second.extra) == (("jump", "fall"), {"actor": "bo"})
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        assert tar.getnames() == ["00000000.json", "00000000.mp4"], "no .cls where there is no single class"
        about = json.load(tar.extractfile("00000000.json"))  # type: ignore[arg-type]
    assert about["parts"][1] == {
        "labels": ["jump", "fall"],
        "start_seconds": 1.0,
        "end_seconds": 2.0,
        "extra": {"actor": "bo"},
    }
    with tarfile.open(tmp_path / "out" / "val-000000.tar") as tar:
        assert tar.getnames() == ["00000000.cls", "00000000.json", "00000000.mp4"]


def test_files_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    small_set(tmp_path / "v", 6)
    rows = [f"v/{'ab'[i % 2]}/{i}.mp4,{'ab'[i % 2]},train" for i in range(6)]
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    rows += ["gone.mp4,a,train", "empty.mp4,b,train", "folder.mp4,b,train"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    manifest = read_manifest(tmp_path / "list.csv", missing="keep")
    result = write_shards(manifest, tmp_path / "out", videos_per_shard=2)
    assert sorted((f.video, f.reason, f.split) for f in result.failures) == [
        ("empty.mp4", "EMPTY_VIDEO", "train"),
        ("folder.mp4", "VIDEO_NOT_READABLE", "train"),
        ("gone.mp4", "VIDEO_NOT_FOUND", "train"),
    ]
    listed = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [f["video"] for f in listed] == [f.video for f in result.failures]
    assert sorted(r.name for r in result.index.rows) == sorted(f"v/{'ab'[i % 2]}/{i}.mp4" for i in range(6))
    again = write_shards(manifest, tmp_path / "out", videos_per_shard=2)
    assert again.failures == result.failures


def test_a_file_that_shrinks_while_it_is_written(tmp_path: Path) -> None:
    manifest = small_set(tmp_path / "v", 4)

    def shrink(done: int, total: int) -> None:
        if done == 1:
            manifest.samples[2].path.write_bytes(b"short")

    result = write_shards(manifest, tmp_path / "out", threads=1, shuffle_seed=None, progress=shrink)
    (failure,) = result.failures
    assert failure.reason == "VIDEO_NOT_READABLE"
    assert "changed while it was copied" in failure.message
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        keys = [m.name.split(".")[0] for m in tar if m.name.endswith("mp4")]
    assert keys == ["00000000", "00000001", "00000003"], "nothing is left of the one that failed"
    assert [r.key for r in result.index.rows] == keys


def test_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,split\na.mp4,x,train\n")
    with pytest.raises(DatasetError, match=r"none of 1 videos can be read\. The first: a.mp4: no such file"):
        write_shards(read_manifest(tmp_path / "list.csv", missing="keep"), tmp_path / "out")
    assert not (tmp_path / "out" / INDEX_NAME).exists()


# -- folders that hold something --


def test_a_finished_folder_is_left_as_it_is(tmp_path: Path) -> None:
    manifest = small_set(tmp_path / "v", 6)
    first = write_shards(manifest, tmp_path / "out", videos_per_shard=2)
    assert first.kept == 0
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert write_shards(manifest, tmp_path / "out", videos_per_shard=2).kept == 3
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == times
    with pytest.raises(DatasetError, match="holds shards of other videos, labels or options; name another folder"):
        write_shards(manifest, tmp_path / "out", videos_per_shard=3)
    with pytest.raises(DatasetError, match="is not an empty folder"):
        write_shards(manifest, tmp_path / "v")


SLOW_WRITE = """
import sys, time
from pathlib import Path
from tenclip_data.manifest import read_manifest
from tenclip_training.data.shards.write import write_shards

def progress(done, total):
    print(done, flush=True)
    if done >= int(sys.argv[3]):
        time.sleep(600)

write_shards(read_manifest(sys.argv[1], held_out=None), Path(sys.argv[2]), videos_per_shard=3, threads=2,
             progress=progress)
"""


@pytest.mark.parametrize("after", [1, 7, 11])
def test_a_write_that_was_killed_goes_on(tmp_path: Path, after: int) -> None:
    manifest = small_set(tmp_path / "v", 14)
    whole = write_shards(manifest, tmp_path / "whole", videos_per_shard=3)
    out = tmp_path / "out"
    command = [sys.executable, "-c", SLOW_WRITE, str(tmp_path / "v"), str(out), str(after)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= after:
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL
    assert not (out / INDEX_NAME).exists()
    tars = sorted(out.glob("*.tar"))
    assert all(t.read_bytes() == (tmp_path / "whole" / t.name).read_bytes() for t in tars), "whole or not at all"
    result: WriteResult = write_shards(manifest, out, videos_per_shard=3)
    assert result.kept >= len(tars) - 2, "two threads may each have died before their shard was noted"
    assert after < 11 or result.kept > 0
    assert contents(out) == contents(tmp_path / "whole")
    assert result.index == whole.index


def test_a_write_of_something_else_does_not_go_on(tmp_path: Path) -> None:
    manifest = small_set(tmp_path / "v", 4)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(manifest, tmp_path / "out", videos_per_shard=1, progress=stop)
    assert list((tmp_path / "out").glob("*.part")) == []
    with pytest.raises(DatasetError, match="holds a write that was begun with other videos"):
        write_shards(manifest, tmp_path / "out", videos_per_shard=2)
    assert len(write_shards(manifest, tmp_path / "out", videos_per_shard=1).index.rows) == 4


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from tenclip_client.cli.main import main
main(["shards", "write", sys.argv[1], "--out", sys.argv[2]])
"""


def test_a_disk_that_is_full_ends_the_write_in_one_line(tmp_path: Path) -> None:
    small_set(tmp_path / "v", 4, 90_000)
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "v"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".writing"], "no half shard"
