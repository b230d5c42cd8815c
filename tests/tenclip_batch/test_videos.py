"""Every kind of input gives the rows that its files give: lists of others, tar shards, Parquet, URIs."""

from __future__ import annotations

import functools
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from tenclip_api.errors import DatasetError
from tenclip_batch.containers import CellReader
from tenclip_batch.options import ResumeOptions, RuntimeOptions
from tenclip_batch.sources import BatchVideo, ParquetCell, TarMember, Uri
from tenclip_batch.videos import batch_videos, manifest_videos

from .helpers import SMALL, rows, run


@pytest.fixture(scope="module")
def files(shared_videos: Path) -> list[Path]:
    return sorted(shared_videos.glob("v*.mp4"))


@pytest.fixture(scope="module")
def expected(bundle: Path, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Rows of the files themselves."""
    out = tmp_path_factory.mktemp("expected") / "out"
    run(bundle, out, *files)
    return numbers(out)


def numbers(out: Path) -> pa.Table:
    return rows(out).select(["clip_index", "start_seconds", "end_seconds", "features"])


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
