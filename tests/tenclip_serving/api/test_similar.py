"""Similar and ListIndexes of a real server: the same as features and a search on this machine, to the bit."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tenclip_api.errors import (
    IndexMismatch,
    IndexNotFound,
    InvalidRequest,
    ModelNotFound,
    NotAVideo,
    PathNotAllowed,
    VersionNotFound,
)
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import AsyncClient, Client, ServerPath
from tenclip_data.manifest import read_manifest
from tenclip_features.weights import weights_hash
from tenclip_index import open_index
from tenclip_index.build import build_index
from tenclip_index.index import Index
from tenclip_index.results import Filters
from tenclip_serving.config import ServerConfig
from tenclip_serving.server import check_before_loading
from tenclip_video.bundle import read_bundle
from tests.tenclip_index.made_up import write
from tests.tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server

CLIPS = 40


def write_index(folder: Path, bundle: Path, *, seed: int = 0, rows: int = CLIPS, **settings: Any) -> Path:
    """An index of made-up features of a bundle, 6 numbers a clip, in which eight videos have labels."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    features = np.random.default_rng(seed).uniform(10, 255, (rows, 6)).astype(np.float32)
    info = read_bundle(bundle).info
    facts: dict[str, Any] = {
        "model": info.name,
        "version": info.version,
        "weights": weights_hash(info.to_dict()),
    } | settings
    table = write(folder.with_suffix(".parquet"), features, **facts)
    labels = folder.with_suffix(".csv")
    labels.write_text("path,label\n" + "".join(f"v/v{i:03d}.mp4,{'ab'[i % 2]}\n" for i in range(rows // 5)))
    build_index(
        [table],
        folder,
        labels=read_manifest(labels, missing="keep", leaks="allow", held_out=None),
        overwrite=True,
    )
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a model, an index of the first, one of a model that nobody serves, and videos."""
    folder = tmp_path_factory.mktemp("similar")
    make_bundle(folder / "models", "tiny", "1")
    make_bundle(folder / "models", "tiny", "2")
    write_index(folder / "clips", folder / "models" / "tiny" / "1")
    write_index(folder / "gone", folder / "models" / "tiny" / "1", model="gone")
    (folder / "videos").mkdir()
    make_video(folder / "videos" / "bar.mp4", num_frames=80, seconds_of_motion=0.5)
    (folder / "videos" / "text.mp4").write_text("this is no video\n" * 100)
    return folder


@pytest.fixture(scope="module")
def indexed(root: Path) -> Iterator[ServerProcess]:
    arguments = ["--index", str(root / "clips"), "--index", f"other={root / 'gone'}", "--allow-manage"]
    with running_server(root / "models", *arguments, "--allow-root", str(root / "videos")) as running:
        yield running


@pytest.fixture
def client(indexed: ServerProcess) -> Iterator[Client]:
    with Client(indexed.address) as connected:
        yield connected


@pytest.fixture
def index(root: Path) -> Index:
    return open_index(root / "clips")


@pytest.fixture
def video(root: Path) -> Path:
    return root / "videos" / "bar.mp4"


@pytest.mark.parametrize(
    ("asked", "filters"),
    [
        ({}, {}),
        ({"k": 3}, {}),
        ({"by_video": True, "k": 4}, {}),
        ({"labels": ["b"], "k": 30}, {"labels": ("b",)}),
        ({"sources": ["clips"], "without_videos": ["v/v001.mp4"]}, {"without_videos": ("v/v001.mp4",)}),
    ],
)
def test_the_same_as_features_and_a_search_here(
    client: Client, index: Index, video: Path, asked: dict[str, Any], filters: dict[str, Any]
) -> None:
    extracted = client.extract_features(video, model="tiny:1", clips="uniform", num_clips=3)
    here = index.neighbours(
        extracted.features.numpy(),
        k=asked.get("k", 10),
        by_video=asked.get("by_video", False),
        filters=Filters(**filters),
    )
    answer = client.similar(video, index="clips", clips="uniform", num_clips=3, features=True, **asked)
    assert [(n.score, n.video, n.clip_index, n.start_seconds, n.end_seconds, n.labels, n.source) for n in
            answer.neighbours] == [
        (n.score, n.video, n.clip_index, n.start_seconds, n.end_seconds, n.labels, n.source) for n in here
    ]  # fmt: skip
    clips = [c.clip for c in extracted.features.clips]
    assert [n.query_clip for n in answer.neighbours] == [clips[n.query_clip] for n in here]
    assert answer.features == extracted.features
    assert (answer.video, answer.report) == (extracted.video, extracted.report)
    assert (answer.provenance.model, answer.provenance.version) == ("tiny", "1")
    assert set(answer.provenance.timings) > set(extracted.provenance.timings)
    assert answer.provenance.timings["neighbours"] > 0


def test_every_way_to_send_a_video(client: Client, indexed: ServerProcess, video: Path) -> None:
    expected = client.similar(video, index="clips").neighbours
    assert client.similar(ServerPath(str(video)), index="clips").neighbours == expected
    assert client.similar(video.read_bytes(), index="clips", model="tiny:1").neighbours == expected
    assert client.similar(video, index="clips").features is None

    def pieces() -> Iterator[pb.SimilarUploadRequest]:
        yield pb.SimilarUploadRequest(request=pb.SimilarRequest(index="clips"))
        data = video.read_bytes()
        for begin in range(0, len(data), 1000):
            yield pb.SimilarUploadRequest(chunk=data[begin : begin + 1000])

    with indexed.stub() as stub:
        uploaded = stub.SimilarUpload(pieces(), timeout=60)
    assert [n.score for n in uploaded.neighbours] == [n.score for n in expected]

    async def ask() -> Any:
        async with AsyncClient(indexed.address) as awaited:
            return await awaited.similar(video, index="clips", thumbnails=2), await awaited.list_indexes()

    answer, indexes = asyncio.run(ask())
    assert answer.neighbours == expected
    assert len(answer.thumbnails) == 2
    assert answer.index == indexes[0]


def test_indexes_are_listed(client: Client, index: Index) -> None:
    ours, other = client.list_indexes()
    assert (ours.name, ours.model, ours.version, ours.weights) == ("clips", "tiny", "1", index.info.weights)
    assert (ours.kind, ours.dimension, ours.clips, ours.videos, ours.labels) == ("exact-fp16", 6, CLIPS, 8, 2)
    assert index.info.recall is not None
    assert (ours.recall_at_10, ours.sources) == (index.info.recall.value, ("clips",))
    assert (other.name, other.model) == ("other", "gone")


def test_the_index_may_be_told_by_the_model(client: Client, video: Path) -> None:
    assert client.similar(video, model="tiny:1").index.name == "clips"
    with pytest.raises(InvalidRequest, match=r"name an index: this server has clips \(of tiny version 1\), other \(of"):
        client.similar(video)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"index": "clip"}, IndexNotFound, "no index 'clip'; this server has clips, other"),
        (
            {"index": "clips", "model": "tiny:2"},
            IndexMismatch,
            r"tiny version 2 .*the index clips is of tiny version 1",
        ),
        ({"index": "other"}, IndexMismatch, "the index other is of gone version 1, and no model 'gone'; this server"),
        ({"index": "clips", "model": "big"}, ModelNotFound, "no model 'big'"),
        ({"index": "clips", "model": "tiny:7"}, VersionNotFound, "has no version '7'"),
        ({"index": "clips", "labels": ["c"]}, InvalidRequest, "has the label 'c'; it has a, b"),
        ({"index": "clips", "sources": ["web"]}, InvalidRequest, "has the source 'web'; it has clips"),
        ({"index": "clips", "k": 0}, InvalidRequest, "k must be at least 1"),
        ({"index": "clips", "labels": "a"}, InvalidRequest, "labels is a sequence of names"),
        ({"index": "clips", "num_clips": 10**6}, InvalidRequest, "clips"),
    ],
)
def test_what_is_refused(
    client: Client, video: Path, root: Path, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        client.similar(video, **arguments)
    assert str(root / "clips") not in str(caught.value), "no path of the server is told"


def test_videos_that_are_refused(client: Client, root: Path) -> None:
    with pytest.raises(NotAVideo):
        client.similar(root / "videos" / "text.mp4", index="clips")
    with pytest.raises(PathNotAllowed):
        client.similar(ServerPath(str(root / "clips.parquet")), index="clips")


def searchers(server: ServerProcess) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [c for c in children if "tenclip_index.search_process" in c.cmdline()]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_faiss_is_in_the_processes_that_search_alone(client: Client, indexed: ServerProcess, video: Path) -> None:
    client.similar(video, index="clips")
    found = searchers(indexed)
    assert len(found) == 2
    others = [psutil.Process(indexed.process.pid), *indexed.decode_workers()]
    assert len(others) >= 2
    for process in (*found, *others):
        has = "faiss" in Path(f"/proc/{process.pid}/maps").read_text()
        assert has == (process in found), process.cmdline()


def test_a_search_process_that_dies_is_replaced(client: Client, indexed: ServerProcess, video: Path) -> None:
    expected = client.similar(video, index="clips").neighbours
    for process in searchers(indexed):
        os.kill(process.pid, signal.SIGKILL)
    assert client.similar(video, index="clips").neighbours == expected


def test_an_index_is_opened_again_when_models_are_reloaded(client: Client, root: Path, video: Path) -> None:
    first = client.similar(video, index="clips")
    write_index(root / "clips", root / "models" / "tiny" / "1", seed=1, rows=50)
    assert client.similar(video, index="clips").neighbours == first.neighbours
    assert client.list_indexes()[0].clips == CLIPS
    assert client.reload_models().failed == ()
    assert client.list_indexes()[0].clips == 50
    here = open_index(root / "clips")
    again = client.similar(video, index="clips", features=True)
    assert again.features is not None
    assert [n.score for n in again.neighbours] == [n.score for n in here.neighbours(again.features.numpy())]
    path = root / "clips" / "index.json"
    kept = path.read_text()
    path.write_text("{")
    (failed,) = client.reload_models().failed
    assert failed.name == "index clips"
    assert "cannot be read" in failed.error
    assert client.similar(video, index="clips").neighbours == again.neighbours, "it stays as it was"
    path.write_text(kept)
    assert client.reload_models().failed == ()


def test_a_server_that_watches_an_index(root: Path, video: Path) -> None:
    folder = write_index(root / "watched", root / "models" / "tiny" / "2")
    arguments = ["--index", f"w={folder}", "--watch-seconds", "0.2", "--cache-mb", "8"]
    with running_server(root / "models", *arguments) as running, Client(running.address) as connected:
        assert connected.similar(video).index.name == "w"
        assert connected.similar(video).provenance.timings["decode"] == 0, "the video is in the cache"
        write_index(folder, root / "models" / "tiny" / "2", rows=45)
        until = time.monotonic() + 30
        while connected.list_indexes()[0].clips != 45 and time.monotonic() < until:
            time.sleep(0.1)
        assert connected.list_indexes()[0].clips == 45


def test_a_server_without_an_index(server: ServerProcess, video: Path) -> None:
    """The one that other tests share."""
    with Client(server.address) as connected:
        assert connected.list_indexes() == ()
        with pytest.raises(IndexNotFound, match=r"this server has no index; `tenclip serve --index DIR`"):
            connected.similar(video, model="tiny:2")


@pytest.mark.parametrize(
    ("indexes", "says"),
    [
        (("nothing",), "index nothing: nothing is not a directory; `tenclip index build` makes one"),
        (("a b=/tmp",), "write NAME=DIR"),
        (("a=/tmp", "a=/usr"), "two indexes have one name, of a: write NAME=DIR"),
    ],
)
def test_indexes_that_cannot_be_served(root: Path, indexes: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ServerConfig(directory=root, indexes=indexes)


def test_what_is_no_index_is_said_before_models_are_loaded(root: Path) -> None:
    config = ServerConfig(directory=root, indexes=(str(root / "models"),), port=0, metrics_port=-1)
    with pytest.raises(IndexNotFound, match="no index here"):
        check_before_loading(config)
