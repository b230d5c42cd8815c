from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError, FetchFailed
from tenclip_training.data.shards.build import BuildResult, build_index, find_tars, save_index
from tenclip_training.data.shards.index import INDEX_NAME, read_index
from tenclip_training.data.shards.read import read_videos
from tenclip_training.data.shards.storage import Retries
from tests.tenclip_training.data.shards.server import Files


def write_tar(path: Path, members: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def build(folder: Path, **options: object) -> BuildResult:
    return build_index(find_tars([str(folder)]), **options)  # type: ignore[arg-type]


def test_our_own_tars_give_our_own_index(shards: Path) -> None:
    written = read_index(shards / INDEX_NAME, name="index")
    built = build(shards)
    assert built.problems == ()
    assert built.index.labels == written.labels
    assert built.index.rows == written.rows
    assert [dataclasses.replace(s, plan="") for s in written.shards] == list(built.index.shards)


def test_tars_of_webdataset_itself(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    (tmp_path / "t").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "t" / "val-%04d.tar"), maxcount=3, verbose=0) as writer:
        for i in range(5):
            writer.write({"__key__": f"clip{i}", "mp4": bytes([i]) * 100, "cls": i % 2})
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    result = build(tmp_path / "t", labels=tmp_path / "classes.txt")
    assert [(r.key, r.labels, r.split, r.shard) for r in result.index.rows] == [
        ("clip0", ("jump",), "val", 0), ("clip1", ("run",), "val", 0), ("clip2", ("jump",), "val", 0),
        ("clip3", ("run",), "val", 1), ("clip4", ("jump",), "val", 1),
    ]  # fmt: skip
    save_index(result, find_tars([str(tmp_path / "t")]), None)
    manifest = read_videos(tmp_path / "t", held_out=None)
    assert [s.source() for s in manifest.samples] == [bytes([i]) * 100 for i in range(5)]
    assert build(tmp_path / "t").index.labels == ("0", "1"), "without names, numbers"


@pytest.mark.parametrize(
    ("members", "options", "labels"),
    [
        ({"a.cls": "run\n"}, {}, ("run",)),
        ({"a.txt": "a man runs; fast\n"}, {}, ("a man runs; fast",)),
        ({"a.json": '{"label": "run"}'}, {}, ("run",)),
        ({"a.json": '{"labels": ["run", "fall"]}'}, {}, ("run", "fall")),
        ({"a.json": '{"class": "run|fall", "id": 3}'}, {}, ("run", "fall")),
        ({"a.json": '{"action": "run", "label": 3}'}, {"label_field": "action"}, ("run",)),
        ({"a.json": '{"label": "run"}', "a.cls": "jump"}, {}, ("jump",)),
    ],
)
def test_where_labels_are(
    tmp_path: Path, members: dict[str, bytes | str], options: dict[str, object], labels: tuple[str, ...]
) -> None:
    write_tar(tmp_path / "x.tar", {**members, "a.webm": b"v"})
    (row,) = build(tmp_path, **options).index.rows
    assert row.labels == labels
    assert (row.name, row.key) == ("x.tar/a.webm", "a")


@pytest.mark.parametrize(
    ("name", "about", "options", "split"),
    [
        ("train-0001.tar", {}, {}, "train"),
        ("k400-validation-0001.tar", {}, {}, "val"),
        ("test/0001.tar", {}, {}, "test"),
        ("0001.tar", {"split": "valid"}, {}, "val"),
        ("train-0001.tar", {"split": "test"}, {"split": "dev"}, "val"),
        ("0001.tar", {}, {}, ""),
    ],
)
def test_where_splits_are(
    tmp_path: Path, name: str, about: dict[str, str], options: dict[str, object], split: str
) -> None:
    write_tar(tmp_path / "set" / name, {"a.mp4": b"v", "a.json": json.dumps({"label": "run", **about})})
    (row,) = build(tmp_path / "set", **options).index.rows
    assert row.split == split


def test_parts_of_videos_in_json(tmp_path: Path) -> None:
    about = {"label": "run", "start_seconds": 1, "end_seconds": "0:02.5"}
    write_tar(tmp_path / "x.tar", {"a.mp4": b"v", "a.json": json.dumps(about)})
    (row,) = build(tmp_path).index.rows
    assert (row.start_seconds, row.end_seconds) == (1.0, 2.5)


def test_samples_that_cannot_be_used_are_said_and_left_out(tmp_path: Path) -> None:
    good: dict[str, bytes | str] = {"good.mp4": b"v", "good.cls": "run"}
    write_tar(
        tmp_path / "a.tar",
        {
            **good, "none.cls": "run", "two.mp4": b"v", "two.webm": b"v", "two.cls": "run", "bare.mp4": b"v",
            "odd.mp4": b"v", "odd.json": "{", "._x.mp4": b"v", "when.mp4": b"v",
            "when.json": '{"label": "run", "start_seconds": "soon"}',
        },
    )  # fmt: skip
    result = build(tmp_path)
    assert [r.key for r in result.index.rows] == ["good"]
    messages = {f.video: f.message for f in result.problems}
    assert messages["a.tar/none"] == "a.tar: no video in the sample 'none': none.cls"
    assert "several videos in the sample 'two': two.mp4, two.webm" in messages["a.tar/two"]
    assert "no label for 'bare': it has neither .cls nor .txt" in messages["a.tar/bare"]
    assert "odd.json: cannot be read as JSON" in messages["a.tar/odd"]
    assert sorted(messages) == ["a.tar/bare", "a.tar/none", "a.tar/odd", "a.tar/two", "a.tar/when"]
    path = save_index(result, find_tars([str(tmp_path)]), None)
    lines = (tmp_path / "index_failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["video"] for line in lines] == [f.video for f in result.problems]
    assert [r.key for r in read_index(path, name="index").rows] == ["good"]


def test_a_tar_that_is_cut_off_gives_what_is_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"{i}.{kind}": b"x" * 600 for i in range(3) for kind in ("cls", "mp4")})
    path.write_bytes(path.read_bytes()[: 3 * 1536 + 1536 - 100 - 512])
    result = build(tmp_path)
    assert [r.key for r in result.index.rows] == ["0"]
    assert [f.video for f in result.problems] == ["a.tar/1", "a.tar"]
    assert {f.reason for f in result.problems} == {"TRUNCATED_VIDEO"}


def test_packed_tars_beside_plain_ones_are_problems(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.mp4": b"x" * 600, "0.cls": "run"})
    (tmp_path / "more").mkdir()
    (tmp_path / "more/b.tar.gz").touch()
    (tmp_path / "a.tar.idx").touch()
    result = build(tmp_path)
    assert [shard.name for shard in result.index.shards] == ["a.tar"]
    (problem,) = result.problems
    assert problem.video == "more/b.tar.gz"
    assert "more/b.tar.gz: is packed: unpack it to a plain tar first" in problem.message


def test_folders_without_tars_that_can_be_used(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder of tars"):
        find_tars([str(tmp_path / "no")])
    with pytest.raises(DatasetError, match=r"holds no \.tar files$"):
        find_tars([str(tmp_path)])
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(DatasetError, match=r"but a.tar.gz, which is packed: unpack it"):
        find_tars([str(tmp_path)])
    (tmp_path / "b.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(DatasetError, match=r"b.tar: is packed with gzip"):
        build(tmp_path)
    write_tar(tmp_path / "b.tar", {"readme.txt": "hello"})
    with pytest.raises(DatasetError, match=r"no sample of 1 tars can be used\. The first: b.tar: no video in the"):
        build(tmp_path)
    with pytest.raises(DatasetError, match="name one folder, or URLs"):
        find_tars([str(tmp_path), "http://host/a.tar"])


def test_an_index_is_not_overwritten(shards: Path) -> None:
    tars = find_tars([str(shards)])
    with pytest.raises(DatasetError, match="is there already; remove it to make it anew"):
        save_index(build_index(tars), tars, None)


def test_an_index_elsewhere_names_the_folder(shards: Path, tmp_path: Path) -> None:
    tars = find_tars([str(shards)])
    save_index(build_index(tars), tars, tmp_path / "index")
    assert [s.source() for s in read_videos(tmp_path / "index").samples] == [
        s.source() for s in read_videos(shards).samples
    ]


def test_tars_behind_urls_stay_there(server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(3):
        write_tar(server.folder / "set" / f"train-{i:02d}.tar", {f"{i}.mp4": b"v" * i, f"{i}.cls": "run"})
    server.fail["set/train-01.tar"] = [503]
    tars = find_tars([f"{server.url}/set/train-{{00..02}}.tar"])
    assert tars.base == f"{server.url}/set"
    result = build_index(tars, retries=Retries(attempts=2, first_wait_seconds=0.01))
    save_index(result, tars, tmp_path / "index")
    manifest = read_videos(tmp_path / "index")
    assert [s.source() for s in manifest.samples] == [b"", b"v", b"vv"]
    server.fail["set/train-03.tar"] = [500]
    gone = find_tars([f"{server.url}/set/train-03.tar"])
    with pytest.raises(FetchFailed, match=r"train-03\.tar"):
        build_index(gone, retries=Retries(attempts=1))
