"""Shards at URLs give the rows that their videos give as files, from stores of every kind, and again when resumed."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import socket
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_batch import remote
from tenclip_batch.options import OutputOptions, ResumeOptions, RuntimeOptions
from tenclip_batch.remote import BlockReader, RemoteFiles
from tenclip_batch.run import Watching
from tenclip_batch.sources import BatchVideo, RemoteShard, Uri
from tenclip_batch.videos import batch_videos, manifest_videos
from tenclip_serving.intake.uri_policy import UriPolicy

from .helpers import numbers, rows, run
from .store import Store, serving


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried three times, without the time that a network may need."""
    monkeypatch.setattr(remote, "_PAUSES_SECONDS", (0.01, 0.01))


def errors(out: Path) -> dict[str, str]:
    table = rows(out, "videos").to_pylist()
    return {row["video"]: f"{row['error_kind']}: {row['error']}" for row in table if row["state"] == "failed"}


def tar_of(*paths: Path) -> bytes:
    """A shard as WebDataset writes it: a label before each video."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for path in paths:
            for name, data in ((f"{path.stem}.cls", b"1"), (path.name, path.read_bytes())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return held.getvalue()


def with_shards(store: Store, files: list[Path]) -> Store:
    store.files = {"/d/s-00.tar": tar_of(*files[:2]), "/d/s-01.tar": tar_of(*files[2:])}
    return store


@pytest.mark.parametrize(
    ("parts", "tags", "announced"), [(True, True, True), (True, False, True), (False, True, True), (False, True, False)]
)
def test_shards_by_http(
    bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path, parts: bool, tags: bool, announced: bool
) -> None:
    """Only what is needed is fetched; from a store without parts each shard once to list it, and once to work."""
    out = tmp_path / "out"
    with serving(with_shards(Store(parts=parts, tags=tags, announced=announced), files)) as store:
        shards = f"{store.url}/d/s-{{00..01}}.tar?key=secret"
        report = run(bundle, out, shards, runtime=store.near())
        assert (report.done, report.failed) == (4, 0)
        assert numbers(out) == expected
        assert rows(out, "videos")["video"].to_pylist() == [f"{store.url}/d/s-0{i // 2}.tar/v{i}.mp4" for i in range(4)]
        sent = sum(size for _, size in store.seen)
        if parts:
            assert sent < sum(map(len, store.files.values())) + 6 * (64 << 10), "videos once, and headers"
        else:
            assert store.requests() == 6, "whether it sends parts, the list, the videos; of two shards"
        store.requests()
        again = run(bundle, out, shards, runtime=store.near())
        assert (again.worked, again.reused) == (0, 4)
        assert store.requests() == 2, "whether they are as they were"
    assert "secret" not in "".join(p.read_text() for p in (out / ".shards").iterdir())


def test_a_shard_that_changed_is_worked_on_anew_and_no_other_one(
    bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with serving(with_shards(Store(), files)) as store:
        first, second = f"{store.url}/d/s-00.tar", f"{store.url}/d/s-01.tar"
        run(bundle, out, first, second, runtime=store.near())
        store.files["/d/s-00.tar"] = tar_of(files[3], files[1])
        report = run(bundle, out, first, second, runtime=store.near())
        assert (report.worked, report.reused) == (2, 2)
        assert report.changed == (f"{first}/v1.mp4",)
        assert report.removed == (f"{first}/v0.mp4",)
        run(bundle, out, first, second, runtime=store.near(), resume=ResumeOptions(prune=True))
        run(bundle, tmp_path / "fresh", first, second, runtime=store.near())
        assert rows(out) == rows(tmp_path / "fresh")
        assert rows(out, "videos") == rows(tmp_path / "fresh", "videos")
        # What says which state the rows are of is lost: they are made anew.
        for listing in (out / ".shards").iterdir():
            listing.write_text("{")
        assert run(bundle, out, first, second, runtime=store.near()).worked == 4


def test_a_run_that_ended_goes_on_in_the_middle_of_a_shard(
    bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path
) -> None:
    """What is done of it is not fetched again."""
    out, seen = tmp_path / "out", list[str]()

    def end(name: str, clips: int, failure: object) -> None:
        seen.append(name)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with serving(Store()) as store:
        store.files["/s.tar"] = tar_of(*files)
        one_by_one = OutputOptions(part_videos=1)
        with pytest.raises(KeyboardInterrupt):
            run(
                bundle,
                out,
                f"{store.url}/s.tar",
                runtime=store.near(),
                output=one_by_one,
                watching=Watching(on_result=end),
            )
        store.requests()
        report = run(bundle, out, f"{store.url}/s.tar", runtime=store.near(), output=one_by_one)
        assert (report.worked, report.reused) == (2, 2)
        assert store.requests() == 3, "whether it is as it was, and two videos"
    assert numbers(out) == expected


def test_a_shard_that_changes_while_it_is_worked_on(bundle: Path, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(with_shards(Store(), files)) as store:
        url = f"{store.url}/d/s-00.tar"

        def change(total: int, before: int) -> None:
            store.files["/d/s-00.tar"] = tar_of(files[1], files[0])

        report = run(bundle, out, url, runtime=store.near(), watching=Watching(on_start=change))
        assert report.failures == {"VIDEO_NOT_READABLE": 2}
        assert f"{url} was changed while it was worked on" in errors(out)[f"{url}/v0.mp4"]
        report = run(bundle, out, url, runtime=store.near())
        assert (report.worked, report.done, report.failed) == (2, 2, 0)


@pytest.mark.parametrize("parts", [True, False])
def test_connections_that_are_cut(
    bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path, parts: bool
) -> None:
    """With parts a video goes on where it was, however often; without, all of the file is fetched again."""
    with serving(with_shards(Store(parts=parts), files)) as store:
        store.cuts, store.cut_after = (1000, 1000) if parts else (2, 5000)
        report = run(bundle, tmp_path / "out", f"{store.url}/d/s-{{00..01}}.tar", runtime=store.near())
        assert store.cuts < (990 if parts else 1)
    assert (report.done, report.failed) == (4, 0)
    assert numbers(tmp_path / "out") == expected


def test_shards_that_cannot_be_had(bundle: Path, files: list[Path], tmp_path: Path) -> None:
    """Each is a failure with its URL and what is wrong; the others go on, and so does the next run."""
    out = tmp_path / "out"
    with socket.socket() as free, serving(with_shards(Store(), files)) as store:
        free.bind(("127.0.0.1", 0))  # nobody listens
        near = store.near(allow_hosts=(store.url.removeprefix("http://"), f"127.0.0.1:{free.getsockname()[1]}"))
        whole = store.files["/d/s-01.tar"]
        store.files |= {
            "/text.tar": b"this is no tar" * 100,
            "/cut.tar": whole[: len(whole) // 512 * 512 // 2 + 100],
            "/empty.tar": b"",
            "/other.tar": tar_of(),
            "/packed.tar.gz": b"",
            "/rows.parquet": b"no parquet",
        }
        bad = ("text.tar", "cut.tar", "empty.tar", "other.tar", "packed.tar.gz", "rows.parquet", "gone.tar")
        named = [*(f"{store.url}/{name}" for name in bad), f"http://127.0.0.1:{free.getsockname()[1]}/a.tar"]
        named += ["http://elsewhere.example/a.tar", f"{store.url}/d/s-00.tar"]
        report = run(bundle, out, *named, runtime=near)
        assert report.done >= 2
        found = errors(out)
        for url, message in zip(
            named,
            (
                "DATASET_ERROR: {}: cannot be read as a tar file",
                "DATASET_ERROR: {}: ends in the middle of v",
                "DATASET_ERROR: {}: is empty (0 bytes)",
                "DATASET_ERROR: {}: holds no videos",
                "DATASET_ERROR: {}: is compressed",
                "DATASET_ERROR: {}: cannot be read as Parquet",
                "VIDEO_NOT_FOUND: {}: 127.0.0.1 has no such file (status 404)",
                "FETCH_FAILED: {}: cannot be fetched from 127.0.0.1: Connection refused (tried 3 times",
                "URI_NOT_ALLOWED: {}: this server does not fetch from elsewhere.example",
            ),
            strict=False,
        ):
            assert found[url].startswith(message.format(url)), found[url]
        assert len(found) == len(named) - 1
        # It is mended: its failure is gone, and its videos are done.
        store.files["/text.tar"] = tar_of(files[3])
        report = run(bundle, out, *named, runtime=near)
        assert f"{store.url}/text.tar" in report.pruned
        assert f"{store.url}/text.tar/v3.mp4" not in errors(out)
        # The store is down for a while: what is done stays, although what is not named is to be dropped.
        store.down = True
        done = report.done
        report = run(bundle, out, *named, runtime=near, resume=ResumeOptions(prune=True))
        assert (report.worked, report.done) == (2, done), "two shards that were there"
        assert "127.0.0.1: it hung up (tried 3 times" in errors(out)[f"{store.url}/d/s-00.tar"]


def test_a_shard_that_vanishes_while_it_is_worked_on(bundle: Path, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(with_shards(Store(), files)) as store:

        def vanish(total: int, before: int) -> None:
            store.down = True

        report = run(bundle, out, f"{store.url}/d/s-00.tar", runtime=store.near(), watching=Watching(on_start=vanish))
        assert report.failures == {"FETCH_FAILED": 2}
        assert all(f"{store.url}/d/s-00.tar: " in message for message in errors(out).values())
        store.down = False
        assert run(bundle, out, f"{store.url}/d/s-00.tar", runtime=store.near()).worked == 0
        retried = run(
            bundle, out, f"{store.url}/d/s-00.tar", runtime=store.near(), resume=ResumeOptions(retry_failed=True)
        )
        assert (retried.done, retried.failed) == (2, 0)


@pytest.mark.parametrize("announced", [True, False])
def test_a_shard_that_is_too_large_for_the_disk(
    bundle: Path, files: list[Path], tmp_path: Path, announced: bool
) -> None:
    """Where its store sends no parts; else it never lies there."""
    with serving(with_shards(Store(parts=False, announced=announced), files)) as store:
        store.files["/d/s-00.tar"] = tar_of(*files) + bytes(2 << 20)
        url = f"{store.url}/d/s-00.tar"
        run(bundle, tmp_path / "out", url, runtime=store.near(max_shard_mb=1))
        message = f"{url}: is larger than 1.0 MiB (--max-shard-mb), and its server sends no parts of files"
        assert message in errors(tmp_path / "out")[url]
        assert run(bundle, tmp_path / "fits", url, runtime=store.near(max_shard_mb=3)).done == 4
        store.parts = store.announced = True
        assert run(bundle, tmp_path / "parts", url, runtime=store.near(max_shard_mb=1)).done == 4


def test_many_small_shards_of_a_store_without_parts(bundle: Path, files: list[Path], tmp_path: Path) -> None:
    """More at once than may lie on disk."""
    with serving(Store(parts=False)) as store:
        store.files = {f"/{i:03d}.tar": tar_of(files[0]) for i in range(12)}
        near = store.near(in_flight=6, max_shard_mb=1)
        report = run(bundle, tmp_path / "out", f"{store.url}/{{000..011}}.tar", runtime=near)
    assert (report.done, report.failed) == (12, 0)


@pytest.mark.parametrize("parts", [True, False])
def test_parquet_by_http(bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path, parts: bool) -> None:
    held = io.BytesIO()
    table = pa.table({"id": [p.stem for p in files], "x": [p.read_bytes() for p in files]})
    pq.write_table(table, held, row_group_size=3)
    with serving(Store(parts=parts)) as store:
        store.files["/rows.parquet"] = held.getvalue()
        names = io.BytesIO()
        pq.write_table(pa.table({"path": ["a.mp4"]}), names)
        store.files["/names.parquet"] = names.getvalue()
        url = f"{store.url}/rows.parquet"
        report = run(bundle, tmp_path / "out", url, f"{store.url}/names.parquet", runtime=store.near())
        assert report.done == 4
        assert numbers(tmp_path / "out") == expected
        assert rows(tmp_path / "out", "videos")["video"].to_pylist()[1:] == [f"{url}/v{i}" for i in range(4)]
        assert "has no column of bytes, so it is a list" in errors(tmp_path / "out")[f"{store.url}/names.parquet"]
        assert run(bundle, tmp_path / "out", url, runtime=store.near()).worked == 0
        # Connections that are cut: twice, and as often as is tried without a byte.
        store.cuts = 2
        assert run(bundle, tmp_path / "cut", url, runtime=store.near()).done == 4
        if parts:
            store.cut_after = 0
            failing = Watching(on_start=lambda total, before: setattr(store, "cuts", 3))
            report = run(bundle, tmp_path / "failed", url, runtime=store.near(), watching=failing)
            assert (report.done, report.failures) == (3, {"FETCH_FAILED": 1})
            report = run(
                bundle, tmp_path / "failed", url, runtime=store.near(), resume=ResumeOptions(retry_failed=True)
            )
            assert (report.worked, report.done) == (1, 4)
        store.files.clear()
        report = run(bundle, tmp_path / "out", url, runtime=store.near())
        assert (report.done, report.failures) == (4, {"VIDEO_NOT_FOUND": 1})


def test_shards_in_s3(
    bundle: Path, files: list[Path], expected: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "key"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with serving(Store()) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        store.files = {"/videos/s-00.tar": tar_of(*files[:2]), "/videos/s-01.tar": tar_of(*files[2:])}
        near = RuntimeOptions(**{**vars(store.near()), "allow_hosts": ("videos",)})
        named = ["s3://videos/s-{00..02}.tar", "s3://others/s-00.tar"]
        report = run(bundle, tmp_path / "out", *named, runtime=near)
        assert report.failures == {"URI_NOT_ALLOWED": 1, "VIDEO_NOT_FOUND": 1}
        assert "the bucket videos has no such object" in errors(tmp_path / "out")["s3://videos/s-02.tar"]
        assert numbers(tmp_path / "out") == expected
        store.requests()
        assert run(bundle, tmp_path / "out", "s3://videos/s-{00..01}.tar", runtime=near).worked == 0
        assert store.requests() == 2
        store.files["/videos/s-00.tar"] = tar_of(files[1], files[0])
        assert run(bundle, tmp_path / "out", "s3://videos/s-{00..01}.tar", runtime=near).worked == 2


def test_shards_in_lists(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("s3://b/{0..1}.tar\nhttps://example.org/a.mp4\nhttps://example.org/b.parquet?v={x}\n")
    expected = [
        BatchVideo("s3://b/0.tar", RemoteShard("s3://b/0.tar")),
        BatchVideo("s3://b/1.tar", RemoteShard("s3://b/1.tar")),
        BatchVideo("https://example.org/a.mp4", Uri("https://example.org/a.mp4")),
        BatchVideo("https://example.org/b.parquet?v={x}", RemoteShard("https://example.org/b.parquet?v={x}", "video")),
    ]
    assert batch_videos([str(listed)], column="video") == expected
    assert manifest_videos(listed, column="video") == expected


def test_braces_of_shards_in_files(tmp_path: Path, files: list[Path]) -> None:
    for i in range(2):
        (tmp_path / f"s-{i}.tar").write_bytes(tar_of(files[i]))
    names = [video.name for video in batch_videos([f"{tmp_path}/s-{{0..1}}.tar"])]
    assert names == [f"{tmp_path}/s-{i}.tar/v{i}.mp4" for i in range(2)]


def test_one_name_for_two_urls(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"https://h\.example/a\.tar: is named twice with different queries"):
        run(bundle, tmp_path / "out", "https://h.example/a.tar?v=1", "https://h.example/a.tar?v=2")


def test_a_reader_of_blocks() -> None:
    """Any reading and seeking gives what a file gives, and at most a block more is asked for."""
    data, asked = bytes(range(256)) * 40, list[int]()

    def read(first: int, num_bytes: int) -> bytes:
        asked.append(num_bytes)
        return data[first : first + num_bytes]

    reader, plain = BlockReader(read, len(data), 1000), io.BytesIO(data)
    for move, count in ((0, 10), (10, 5000), (len(data) - 20, 50), (3, 2500), (2600, len(data)), (len(data) + 5, 1)):
        assert reader.seek(move) == plain.seek(move)
        assert reader.read(count) == plain.read(count)
        assert reader.tell() == plain.tell()
    assert reader.seek(-7, 2) == plain.seek(-7, 2)
    assert reader.seek(3, 1) == plain.seek(3, 1)
    assert reader.read() == plain.read()
    assert sum(asked) < 2 * len(data)


def test_memory_does_not_grow_with_a_file() -> None:
    """64 MiB of one, in pieces of at most one."""
    size = 64 << 20
    with serving(Store()) as store:
        store.files["/a.tar"] = bytes(size)
        near = ipaddress.ip_network("127.0.0.0/8")
        policy = UriPolicy(schemes=("http",), hosts=(store.url.removeprefix("http://"),), networks=(near,))

        async def fetched() -> list[int]:
            async with RemoteFiles(policy, max_whole_bytes=1) as found:
                file = await found.look(f"{store.url}/a.tar")
                return [len(piece) async for piece in found.pieces(file, 5, size - 5, "a")]

        sizes = asyncio.run(fetched())
    assert max(sizes) <= 1 << 20
    assert sum(sizes) == size - 5
