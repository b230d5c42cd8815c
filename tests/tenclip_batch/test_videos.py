"""Every kind of input gives the rows that its files give: lists of others, tar shards, Parquet, URIs."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from tenclip_api.errors import DatasetError, VideoNotFound, VideoNotReadable
from tenclip_batch.containers import CellReader
from tenclip_batch.options import ResumeOptions, RuntimeOptions
from tenclip_batch.sources import BatchVideo, ParquetCell, TarMember, Uri
from tenclip_batch.videos import batch_videos, manifest_videos
from tests.tenclip_serving.helpers import denied, stopped_by_permissions

from .helpers import SMALL, numbers, run


def test_tar_shards_of_webdataset(bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    with webdataset.ShardWriter(f"{folder}/%03d.tar", maxcount=3, verbose=0) as sink:
        for path in files:
            sink.write({"__key__": path.stem, "mp4": path.read_bytes(), "json": {"label": "run"}})
    videos = batch_videos([str(folder)])
    assert [v.name for v in videos] == [f"{folder}/00{i // 3}.tar/v{i}.mp4" for i in range(4)]
    run(bundle, tmp_path / "out", folder, resume=ResumeOptions(by_content=True))
    assert numbers(tmp_path / "out") == expected
    again = run(bundle, tmp_path / "out", f"{folder}/*.tar", resume=ResumeOptions(by_content=True))
    assert (again.worked, again.reused) == (0, 4)
    # The tar is written again, with the same videos in it: nothing to do by their content.
    data = (folder / "000.tar").read_bytes()
    (folder / "000.tar").write_bytes(data)
    assert run(bundle, tmp_path / "out", folder, resume=ResumeOptions(by_content=True)).worked == 0
    (folder / "000.tar").write_bytes(data[: len(data) // 2 // 512 * 512 + 100])
    cut = batch_videos([str(folder / "000.tar")])
    assert isinstance(cut[-1].error, DatasetError)


def test_tars_that_are_none(tmp_path: Path) -> None:
    packed, text, empty = tmp_path / "a.tar.gz", tmp_path / "b.tar", tmp_path / "c.tar"
    with tarfile.open(packed, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"), io.BytesIO())
    text.write_text("no tar" * 500)
    with tarfile.open(empty, "w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    found = [batch_videos([str(p)])[0].error for p in (packed, text, empty)]
    assert "unpack compressed ones" in str(found[0])
    assert "cannot be read as a tar file" in str(found[1])
    assert "holds no videos" in str(found[2])


def test_packed_tars_in_a_folder_are_errors_that_say_what_would_work(tmp_path: Path) -> None:
    """Beside others, whose videos are found; other packed files are no data."""
    (tmp_path / "sub").mkdir()
    for name in ("b.tgz", "sub/c.tar.gz", "sub/labels.txt.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"x" * 600))
    tar_of(tmp_path / "a.tar", "one.mp4")
    found = batch_videos([str(tmp_path)])
    assert [video.name for video in found] == [
        f"{tmp_path}/{name}" for name in ("a.tar/one.mp4", "b.tgz", "sub/c.tar.gz")
    ]
    assert [str(video.error).endswith("unpack compressed ones") for video in found[1:]] == [True, True]


def tar_of(path: Path, *names: str) -> Path:
    """A tar file with members of these names, a byte each."""
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"."))
    return path


def test_a_tar_that_may_not_be_read_is_one_row(bundle: Path, files: list[Path], tmp_path: Path) -> None:
    locked, good = tar_of(tmp_path / "a.tar", "a.mp4"), tmp_path / "b.tar"
    with tarfile.open(good, "w") as tar:
        tar.add(files[0], files[0].name)
    with stopped_by_permissions(), denied(locked):
        first, second = batch_videos([str(tmp_path)])
        assert isinstance(first.error, VideoNotReadable)
        assert str(first.error) == f"{locked}: cannot be read: Permission denied"
        assert second.name == f"{good}/{files[0].name}"
        report = run(bundle, tmp_path / "out", tmp_path)
    assert (report.done, report.failures) == (1, {"VIDEO_NOT_READABLE": 1})


@pytest.mark.parametrize("argument", ["locked/a.mp4", "locked/a.tar", "locked/{0..1}.tar", "locked"])
def test_what_is_in_a_folder_that_may_not_be_searched(tmp_path: Path, argument: str) -> None:
    """It is a row, which says so when it is opened or at once, and does not end the run."""
    (tmp_path / "locked").mkdir()
    tar_of(tmp_path / "locked" / "a.tar", "a.mp4")
    with stopped_by_permissions(), denied(tmp_path / "locked"):
        found = batch_videos([str(tmp_path / argument), str(tmp_path / "other.mp4")])
    assert found[0].name.startswith(f"{tmp_path}/locked")
    assert found[-1].name == f"{tmp_path}/other.mp4"


def test_a_pipe_that_is_called_as_shards_are_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.tar", "b.parquet"):
        os.mkfifo(tmp_path / name)
    tar_of(tmp_path / "c.tar", "c.mp4")
    assert batch_videos([str(tmp_path)])[-1].name == f"{tmp_path}/c.tar/c.mp4"


def test_damaged_headers_of_a_tar_are_one_row(tmp_path: Path) -> None:
    """`tarfile` raises ValueError for a sparse file whose map is none."""
    member = tarfile.TarInfo("a.mp4")
    member.size, member.pax_headers = 600, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(b"no map\n" * 100))
    (only,) = batch_videos([str(tmp_path / "a.tar")])
    assert isinstance(only.error, DatasetError)
    assert "cannot be read as a tar file" in str(only.error)


def test_folders_of_parquet_and_patterns_that_match_folders(tmp_path: Path) -> None:
    """As for tar. What is a list counts where it is named; what pandas and Spark write is a folder called .parquet."""
    for folder in ("one", "two.parquet", "plain"):
        (tmp_path / "all" / folder).mkdir(parents=True)
    pq.write_table(pa.table({"mp4": [b"1"]}), tmp_path / "all/one/rows.parquet")
    pq.write_table(pa.table({"path": ["a.mp4"]}), tmp_path / "all/one/list.parquet")
    (tmp_path / "all/one/x.mp4").write_bytes(b"1")
    pq.write_table(pa.table({"path": ["a"], "data": [b"1"]}), tmp_path / "all/two.parquet/part-0.pq")
    tar_of(tmp_path / "all/two.parquet/s.tar", "s.mp4")
    (tmp_path / "all/plain/p.mp4").write_bytes(b"1")
    one, two = ["one/x.mp4", "one/rows.parquet#0"], ["two.parquet/part-0.pq/a", "two.parquet/s.tar/s.mp4"]

    def found(argument: str) -> list[str]:
        videos = batch_videos([f"{tmp_path}/{argument}"])
        assert [v.error for v in videos] == [None] * len(videos)
        return [v.name.removeprefix(f"{tmp_path}/all/") for v in videos]

    assert found("all/one") == one
    assert found("all/two.parquet") == two
    assert found("all/*") == [*one, "plain/p.mp4", *two]
    assert found("all") == ["one/x.mp4", "plain/p.mp4", one[1], *two]


def test_a_pattern_finds_no_system_files(tmp_path: Path) -> None:
    for name in ("a.mp4", "Thumbs.db", "__MACOSX/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    assert [v.name for v in batch_videos([f"{tmp_path}/*"])] == [f"{tmp_path}/a.mp4"]
    (nothing,) = batch_videos([f"{tmp_path}/*.avi"])
    assert isinstance(nothing.error, VideoNotFound)


@pytest.mark.parametrize("shard", ["s.tar", "s.parquet"])
def test_a_folder_beside_shards_that_cannot_be_listed_is_a_row(tmp_path: Path, shard: str) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "b.mp4").write_bytes(b"1")
    if shard == "s.tar":
        tar_of(tmp_path / shard, "a.mp4")
    else:
        pq.write_table(pa.table({"id": ["a.mp4"], "video": [b"1"]}), tmp_path / shard)
    with stopped_by_permissions(), denied(tmp_path / "locked"):
        problem, video = batch_videos([str(tmp_path)])
    assert isinstance(problem.error, VideoNotReadable)
    assert str(problem.error) == f"{tmp_path}/locked: cannot be listed: Permission denied"
    assert video.name == f"{tmp_path}/{shard}/a.mp4"


@pytest.mark.parametrize("form", ["bytes", "hugging face"])
def test_a_column_of_bytes(bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path, form: str) -> None:
    data = [p.read_bytes() for p in files]
    if form == "bytes":
        table = pa.table({"id": [p.stem for p in files], "label": [1] * 4, "mp4": data})
        column, names = "mp4", [f"{tmp_path}/rows.parquet/{p.stem}" for p in files]
    else:
        cells = [{"bytes": d, "path": p.name} for d, p in zip(data, files, strict=True)]
        table = pa.table({"video": cells, "label": [1] * 4})
        column, names = "video.bytes", [f"{tmp_path}/rows.parquet/{p.name}" for p in files]
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path, row_group_size=3)
    videos = batch_videos([str(path)])
    assert videos == [BatchVideo(n, ParquetCell(path, i, column)) for i, n in enumerate(names)]
    run(bundle, tmp_path / "out", path)
    assert numbers(tmp_path / "out") == expected
    assert run(bundle, tmp_path / "out", path).worked == 0


def test_cells_of_parquet_in_any_order(files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    data = [p.read_bytes() for p in files]
    pq.write_table(pa.table({"data": [*data, None], "n": range(5)}), path, row_group_size=2)
    reader = CellReader(path, "data")
    assert [reader.read(i) for i in (0, 2, 1, 3, 4)] == [data[0], data[2], data[1], data[3], b""]
    reader.close()


@pytest.mark.parametrize(
    "table",
    [
        {"path": ["a.mp4"], "md5": [b"1"]},
        {"video": ["a.mp4"], "video_md5": [b"1"], "sha256": [b"2"]},
        {"filename": pa.array(["a.mp4"]).dictionary_encode(), "Embedding": [b"1"]},
        {"path": [b"a.mp4"]},  # of a writer that knows no text
        {"path": [b"a.mp4"], "md5": [b"1"]},
    ],
)
def test_bytes_beside_names_of_files_are_no_videos(tmp_path: Path, table: dict[str, list[object]]) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table(table), path)
    assert batch_videos([str(path)]) == [BatchVideo("a.mp4", tmp_path / "a.mp4")]
    assert batch_videos([f"{tmp_path}/*.parquet"], column="clip") == batch_videos([str(path)])
    for name in set(table) & {"md5", "video_md5"}:  # who names one may have them so called
        assert [v.source for v in batch_videos([str(path)], column=name)] == [ParquetCell(path, 0, name)]


@pytest.mark.parametrize("column", ["mp4", "Video", "clip.webm", "raw_video", "video_data"])
def test_videos_beside_names_of_files_and_hashes(tmp_path: Path, column: str) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"path": ["a.mp4"], "md5": [b"2"], column: [b"1"]}), path)
    assert batch_videos([str(path)]) == [BatchVideo(f"{path}/a.mp4", ParquetCell(path, 0, column))]


@pytest.mark.parametrize("name", ["video.path", "id"])
def test_names_that_are_no_text_are_not_taken(tmp_path: Path, name: str) -> None:
    """And end nothing."""
    damaged, video = pa.array([b"\xff\xfe"]).view(pa.string()), pa.array([b"1"])
    if name == "id":
        columns = {"video": video, "id": damaged}
    else:
        columns = {"video": pa.StructArray.from_arrays([video, damaged], ["bytes", "path"])}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    assert [v.name for v in batch_videos([f"{tmp_path}/rows.parquet"])] == [f"{tmp_path}/rows.parquet#0"]


def test_a_column_with_a_dot_in_its_name(bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path) -> None:
    """As webdataset calls them; fields of structs are asked for only where no column has the whole name."""
    path = tmp_path / "rows.parquet"
    data = [p.read_bytes() for p in files]
    pq.write_table(pa.table({"__key__": [p.stem for p in files], "clip.mp4": data}), path, row_group_size=3)
    assert batch_videos([str(path)])[0] == BatchVideo(f"{path}/v0", ParquetCell(path, 0, "clip.mp4"))
    run(bundle, tmp_path / "out", path)
    assert numbers(tmp_path / "out") == expected


def test_fields_and_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    structs = [{"mp4": b"in", "path": "x"}, None]
    pq.write_table(pa.table({"clip": structs, "clip.mp4": [b"whole", b"2"], "a.b": structs, "clip.x": structs}), path)
    cells = {"clip.mp4": [b"whole", b"2"], "a.b.mp4": [b"in", b""], "clip.x.mp4": [b"in", b""]}
    for column, held in cells.items():
        reader = CellReader(path, column)
        assert [reader.read(row) for row in range(2)] == held
        reader.close()
    videos = batch_videos([str(path)], column="a.b.mp4")
    assert [v.name for v in videos] == [f"{path}#0", f"{path}#1"]
    reader = CellReader(path, "gone.mp4")
    with pytest.raises(VideoNotReadable, match=r"has no column 'gone\.mp4' any more"):
        reader.read(0)


def test_columns_that_could_all_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"left": [b"1"], "right": [b"2"]}), path)
    assert "name one with --bytes-column" in str(batch_videos([str(path)])[0].error)
    assert batch_videos([str(path)], column="right")[0].source == ParquetCell(path, 0, "right")
    assert "such are: left, right" in str(batch_videos([str(path)], column="up")[0].error)


@pytest.mark.parametrize(
    "text",
    [
        "{0} 3\n{1} 4\n{2} 5\n{3} 6\n",
        "\ufeff{0},3\r\n{1},4\r\n{2},5\r\n{3},6\r\n",
        '"{0}",3\n"{1}",4\n"{2}",5\n"{3}",6\n',
        "path,label\r\n{0},run\r\n{1},run\r\n{2},jump\r\n{3},jump\r\n",
        "# mine\n{0}\n\n{1}\n{2}\n{3}",
    ],
)
def test_lists_of_others(files: list[Path], tmp_path: Path, text: str) -> None:
    listed = tmp_path / "list.txt"
    listed.write_bytes(text.format(*[p.name for p in files]).encode())
    expected = [BatchVideo(p.name, p) for p in files]
    assert batch_videos([str(listed)], list_root=files[0].parent) == expected
    assert manifest_videos(listed, list_root=files[0].parent) == expected


def test_uris_in_lists(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("https://example.org/a.mp4 1\ns3://bucket/b.mp4 2\n")
    assert batch_videos([str(tmp_path / "list.txt"), "s3://bucket/b.mp4"]) == [
        BatchVideo("https://example.org/a.mp4", Uri("https://example.org/a.mp4")),
        BatchVideo("s3://bucket/b.mp4", Uri("s3://bucket/b.mp4")),
    ]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web(shared_videos: Path) -> Iterator[str]:
    """An HTTP server on loopback with the videos."""
    handler = functools.partial(_Quiet, directory=str(shared_videos))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_videos_by_http(bundle: Path, web: str, expected: pa.Table, tmp_path: Path) -> None:
    uris = [f"{web}/v{i}.mp4" for i in range(4)]
    near = RuntimeOptions(
        **{**vars(SMALL), "allow_hosts": (web.removeprefix("http://"),), "allow_networks": ("127.0.0.0/8",)}
    )
    report = run(bundle, tmp_path / "out", *uris, f"{web}/none.mp4", runtime=near)
    assert report.failures == {"VIDEO_NOT_FOUND": 1}
    assert numbers(tmp_path / "out") == expected
    assert run(bundle, tmp_path / "out", *uris, runtime=near).reused == 4
    # A list of somebody else's must not make this machine ask its own network, unless that is allowed.
    refused = run(bundle, tmp_path / "other", *uris)
    assert refused.failures == {"URI_NOT_ALLOWED": 4}


def test_members_are_where_their_bytes_are(tmp_path: Path, files: list[Path]) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, f"./x/{file.name}")
    for video, file in zip(batch_videos([str(path)]), files, strict=True):
        assert isinstance(video.source, TarMember)
        assert video.name == f"{path}/x/{file.name}"
        data = path.read_bytes()[video.source.offset : video.source.offset + video.source.size]
        assert data == file.read_bytes()
