from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError, FetchFailed, MissingDependency, VideoNotFound, VideoNotReadable
from tenclip_training.data.shards import storage as storage_module
from tenclip_training.data.shards.index import Shard
from tenclip_training.data.shards.places import as_path, as_url, find_index, open_file_system
from tenclip_training.data.shards.storage import RemoteShards, Retries, default_cache
from tests.tenclip_training.data.shards.server import Files

QUICK = Retries(attempts=3, first_wait_seconds=0.01)


def put(server: Files, name: str, num_bytes: int = 1000) -> Shard:
    data = os.urandom(num_bytes)
    (server.folder / name).write_bytes(data)
    return Shard(name=name, num_bytes=num_bytes, sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def remote(server: Files, tmp_path: Path) -> RemoteShards:
    return RemoteShards(url=server.url, cache=tmp_path / "cache", max_bytes=10_000, retries=QUICK)


def tars(remote: RemoteShards) -> list[str]:
    return sorted(p.stem for p in remote.cache.glob("*.tar"))


def test_a_shard_is_fetched_once_by_many(server: Files, remote: RemoteShards) -> None:
    shard = put(server, "a.tar")
    server.seconds = 0.05
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda _: pickle.loads(pickle.dumps(remote)).file_of(shard), range(8)))
    assert server.requests == {"a.tar": 1}
    assert {f.read_bytes() for f in files} == {(server.folder / "a.tar").read_bytes()}
    assert tars(remote) == [shard.sha256]
    assert list(remote.cache.glob("*.part")) == list(remote.cache.glob(".*.part")) == []


def test_what_may_pass_is_tried_again(server: Files, remote: RemoteShards) -> None:
    shard = put(server, "a.tar")
    server.fail["a.tar"] = [503]
    server.cut["a.tar"] = 1
    assert remote.file_of(shard).stat().st_size == 1000
    assert server.requests["a.tar"] == 3


def test_what_does_not_pass_ends_in_an_error_that_is_remembered_for_a_while(
    server: Files, remote: RemoteShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = put(server, "a.tar")
    server.fail["a.tar"] = [500] * 3
    with pytest.raises(FetchFailed, match=r"/a.tar: could not be fetched after 3 tries: HTTP 500") as caught:
        remote.file_of(shard)
    assert caught.value.source == f"{server.url}/a.tar"
    with pytest.raises(FetchFailed, match="after 3 tries"):
        pickle.loads(pickle.dumps(remote)).file_of(shard)
    assert server.requests["a.tar"] == 3, "its other videos do not wait, whichever process reads them"
    monkeypatch.setattr(storage_module, "_SECONDS_TO_FORGET_FAILURE", 0.0)
    assert remote.file_of(shard).is_file()
    assert not list(remote.cache.glob(".*.failed"))


def test_errors_that_stay_are_not_tried_again(server: Files, remote: RemoteShards) -> None:
    with pytest.raises(VideoNotFound, match=r"/gone.tar: there is no such file"):
        remote.file_of(Shard(name="gone.tar", num_bytes=1, sha256="0"))
    assert server.requests["gone.tar"] == 1
    server.fail["secret.tar"] = [403]
    with pytest.raises(VideoNotReadable, match=r"/secret.tar: may not be read \(HTTP 403\)"):
        remote.file_of(put(server, "secret.tar"))
    assert server.requests["secret.tar"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_bytes": 999}, "came as 1000 bytes, where the index says 999"), ({"sha256": "1" * 64}, "another one")],
)
def test_another_file_than_the_index_was_made_of(
    server: Files, remote: RemoteShards, changes: dict[str, object], message: str
) -> None:
    shard = dataclasses.replace(put(server, "a.tar"), **changes)  # type: ignore[arg-type]
    with pytest.raises(FetchFailed, match=message):
        remote.file_of(shard)
    assert tars(remote) == []


def test_no_server(remote: RemoteShards, tmp_path: Path) -> None:
    nowhere = dataclasses.replace(remote, url="http://user:word@127.0.0.1:1")
    with pytest.raises(FetchFailed, match=r"^http://127.0.0.1:1/a.tar: could not be fetched after 3 tries") as caught:
        nowhere.file_of(Shard(name="a.tar", num_bytes=1, sha256="0"))
    assert "word" not in caught.value.message


# -- the limit --


def test_shards_that_were_not_used_for_longest_go(server: Files, remote: RemoteShards) -> None:
    first, second, third, fourth = (put(server, f"{i}.tar", 3000) for i in range(4))
    for age, shard in ((300, first), (200, second), (100, third)):
        path = remote.file_of(shard)
        os.utime(path, (time.time() - age, time.time() - age))
    remote.file_of(first)  # used again
    remote.file_of(fourth)
    assert tars(remote) == sorted(s.sha256 for s in (first, third, fourth))
    remote.file_of(second)
    assert server.requests == {"0.tar": 1, "1.tar": 2, "2.tar": 1, "3.tar": 1}


def test_drafts_count_and_those_of_killed_processes_go(server: Files, remote: RemoteShards) -> None:
    first, second = put(server, "a.tar", 4000), put(server, "b.tar", 4000)
    remote.file_of(first)
    draft = remote.cache / ".x.7000.abc.part"
    draft.touch()  # on its way: it will have 7000 bytes
    remote.file_of(second)
    assert tars(remote) == [second.sha256]
    os.utime(draft, (0, 0))
    remote.file_of(first)
    assert not draft.exists()
    assert len(tars(remote)) == 2


def test_a_shard_beyond_the_limit(server: Files, remote: RemoteShards) -> None:
    with pytest.raises(DatasetError, match=r"20,000 bytes do not fit into the cache of 10,000 bytes"):
        remote.file_of(put(server, "a.tar", 20_000))


# -- places --


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://host/a b", "http://host/a b"),
        (Path("s3://bucket/x"), "s3://bucket/x"),  # pathlib makes one slash of two
        ("HTTPS://host", "https://host"),
        ("file:///data/x", None),
        ("C:/videos", None),
        ("videos/http:", None),
        ("/a/s3://b", None),
    ],
)
def test_urls(text: str | Path, url: str | None) -> None:
    assert as_url(text) == url


def test_paths_and_indices(shards: Path) -> None:
    assert as_path(f"file://{shards}") == shards
    assert as_path("file:///a%20b") == Path("/a b")
    assert find_index(f"file://{shards}") == shards / "index.parquet" == find_index(shards / "index.parquet")
    assert find_index(shards.parent) is None
    assert find_index("http://h/d/") == "http://h/d/index.parquet" == find_index("http://h/d/index.parquet")


def test_any_file_system_of_fsspec(tmp_path: Path) -> None:
    import fsspec

    data = b"x" * 100
    fsspec.filesystem("memory").pipe_file("/set/a.tar", data)
    shard = Shard(name="a.tar", num_bytes=100, sha256=hashlib.sha256(data).hexdigest())
    remote = RemoteShards(url="memory://set", cache=tmp_path, max_bytes=1000, retries=QUICK)
    assert remote.file_of(shard).read_bytes() == data
    with pytest.raises(MissingDependency, match="Protocol not known: nonsense"):
        open_file_system("nonsense://x")


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Access Denied", "s3://bucket/key?signature=secret")

    with pytest.raises(VideoNotReadable, match=r"^p: may not be read \(PermissionError\)$"):
        storage_module.with_retries(refuse, "p", QUICK)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "tenclip" / "shards"


def test_waits_grow_and_end() -> None:
    waits = list(Retries(attempts=6, first_wait_seconds=1, longest_wait_seconds=5).waits())
    assert len(waits) == 5
    assert all(0.5 * limit <= wait <= limit for wait, limit in zip(waits, (1, 2, 4, 5, 5), strict=True))
