"""Spooled videos: what is written is there, what is bounded stays bounded, and nothing is left over."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DeadlineExceeded, EmptyVideo, InvalidRequest, Overloaded, TenclipError, VideoTooLarge
from tenclip_serving.intake import spool as spool_module
from tenclip_serving.intake.spool import Spool, SpoolFile
from tenclip_serving.requests import Upload


async def pieces(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def spool(directory: Path | None = None, **options: float) -> Spool:
    bounds = {"max_bytes": 1000, "max_file_bytes": 500, **options}
    return Spool(directory=directory, **bounds)  # type: ignore[arg-type]


def content(file: SpoolFile) -> bytes:
    return os.pread(file.descriptor, 1 << 20, 0)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def fill(on: Spool, chunks: Iterable[bytes], num_bytes: int = 0) -> bytes:
    async with on.file("v.mp4", num_bytes=num_bytes) as file:
        await file.fill(Upload(chunks=pieces(chunks), num_bytes=num_bytes))
        assert file.size == on.held
        return content(file)


@settings(deadline=None, max_examples=40)
@given(chunks=st.lists(st.binary(max_size=90), max_size=5).filter(any), announced=st.booleans())
def test_what_is_written_is_there(chunks: list[bytes], announced: bool) -> None:
    on = spool()
    whole = b"".join(chunks)
    assert asyncio.run(fill(on, chunks, len(whole) if announced else 0)) == whole
    assert on.held == 0
    on.close()


def test_no_name_and_no_descriptor_is_left(tmp_path: Path) -> None:
    on = spool(tmp_path)

    async def run() -> None:
        async with on.file("v.mp4") as file:
            await file.write(b"12345")
            assert list(tmp_path.iterdir()) == []  # even now
            assert open_files() > before

    before = open_files()
    asyncio.run(run())
    assert open_files() == before
    on.close()


@pytest.mark.parametrize(
    ("chunks", "announced", "error", "message"),
    [
        ([], 0, EmptyVideo, "0 bytes"),
        ([b"", b""], 0, EmptyVideo, "0 bytes"),
        ([b"abc"], 4, InvalidRequest, "ended after 3 of the 4 bytes announced"),
        ([b"abc", b"de"], 4, InvalidRequest, "has more than the 4 bytes announced"),
        ([b"x" * 300, b"x" * 201], 0, VideoTooLarge, "max_upload_mb"),
        ([], 501, VideoTooLarge, "max_upload_mb"),
    ],
)
def test_refused(chunks: list[bytes], announced: int, error: type[TenclipError], message: str) -> None:
    on = spool()
    with pytest.raises(error, match=message):
        asyncio.run(fill(on, chunks, announced))
    assert on.held == 0
    on.close()


def test_each_that_is_too_large_is_counted() -> None:
    counted: list[None] = []
    on = Spool(max_bytes=100, max_file_bytes=10, on_too_large=lambda: counted.append(None))

    async def run() -> None:
        with pytest.raises(VideoTooLarge):
            async with on.file("announced", num_bytes=11):
                pass
        async with on.file("grows") as file:
            await file.write(b"x" * 10)
            with pytest.raises(VideoTooLarge):
                await file.write(b"x")

    asyncio.run(run())
    assert len(counted) == 2
    on.close()


def test_all_files_share_one_bound() -> None:
    refusals: list[None] = []
    seen: list[int] = []
    on = Spool(max_bytes=100, max_file_bytes=90, on_bytes=seen.append, on_refusal=lambda: refusals.append(None))

    async def run() -> None:
        async with on.file("a", num_bytes=60):
            assert on.held == 60  # announced is as good as taken
            with pytest.raises(Overloaded, match="max_spool_mb") as caught:
                async with on.file("b", num_bytes=41):
                    pass
            assert caught.value.retry_after_seconds == spool_module.RETRY_AFTER_SECONDS
            async with on.file("c") as unknown:
                await unknown.write(b"x" * 40)
                with pytest.raises(Overloaded):
                    await unknown.write(b"x")
            assert on.held == 60
        async with on.file("b", num_bytes=41):
            assert on.held == 41

    asyncio.run(run())
    assert len(refusals) == 2
    assert (max(seen), seen[-1]) == (100, 0)
    on.close()


def test_memory_is_charged_for_the_largest_piece_only() -> None:
    on = spool()
    charged: list[int] = []

    async def run() -> None:
        async with on.file("v") as file:
            await file.fill(Upload(chunks=pieces([b"x" * 10, b"x" * 30, b"x" * 20, b"x" * 31])), charge=charged.append)

    asyncio.run(run())
    assert charged == [10, 20, 1]
    on.close()


def test_a_slow_source_that_goes_on_is_waited_for() -> None:
    """Longer than it may stand still, all in all."""
    on = spool(idle_seconds=2.0, max_bytes=10 << 20, max_file_bytes=10 << 20)

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(16):
            await asyncio.sleep(0.2)
            yield bytes(16 << 10)

    async def run() -> None:
        async with on.file("v") as file:
            await file.fill(Upload(chunks=slow()))
            assert file.size == 16 * (16 << 10)

    asyncio.run(run())
    on.close()


@pytest.mark.parametrize("pause", [None, 0.002], ids=["nothing", "a byte now and then"])
def test_a_source_that_stands_still_is_given_up(pause: float | None) -> None:
    on = spool(idle_seconds=0.05)

    async def stands_still() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await (asyncio.Event().wait() if pause is None else asyncio.sleep(pause))

    async def run() -> None:
        async with on.file("v") as file:
            with pytest.raises(DeadlineExceeded, match=r"only \d+ bytes of it came in 0\.05 seconds"):
                await file.fill(Upload(chunks=stands_still()))

    asyncio.run(run())
    assert on.held == 0
    on.close()


def test_the_next_piece_is_taken_when_the_last_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    on = spool()
    go_on = threading.Event()
    real = spool_module._write_all
    taken: list[bytes] = []

    def slow(file: object, chunk: bytes) -> None:
        go_on.wait(30)
        real(file, chunk)  # type: ignore[arg-type]

    async def noted() -> AsyncIterator[bytes]:
        for chunk in (b"a", b"b", b"c"):
            taken.append(chunk)
            yield chunk

    async def run() -> None:
        async with on.file("v") as file:
            job = asyncio.create_task(file.fill(Upload(chunks=noted())))
            for _ in range(20):
                await asyncio.sleep(0)
            assert taken == [b"a"]
            go_on.set()
            await job
            assert content(file) == b"abc"

    monkeypatch.setattr(spool_module, "_write_all", slow)
    asyncio.run(run())
    on.close()


def test_a_file_is_not_closed_while_a_thread_writes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    on = spool()
    writing, go_on = threading.Event(), threading.Event()
    real = spool_module._write_all
    written: list[bytes] = []

    def slow(file: object, chunk: bytes) -> None:
        writing.set()
        go_on.wait(30)
        real(file, chunk)  # type: ignore[arg-type]  # raises ValueError for a closed file
        written.append(chunk)

    async def run() -> None:
        before = open_files()
        async with on.file("v") as file:
            job = asyncio.create_task(file.write(b"abc"))
            await asyncio.to_thread(writing.wait, 30)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
        assert on.held == 3  # still there
        go_on.set()
        while on.held:
            await asyncio.sleep(0.001)
        assert open_files() == before
        with pytest.raises(ValueError, match="closed"):
            _ = file.descriptor

    monkeypatch.setattr(spool_module, "_write_all", slow)
    asyncio.run(run())
    assert written == [b"abc"]
    on.close()


def test_a_full_disk_is_a_matter_of_time_and_a_broken_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    on = spool()

    def fail(number: int) -> None:
        def write(file: object, chunk: bytes) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(spool_module, "_write_all", write)

    fail(errno.ENOSPC)
    with pytest.raises(Overloaded, match="disk is full"):
        asyncio.run(fill(on, [b"abc"]))
    fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        asyncio.run(fill(on, [b"abc"]))
    assert on.held == 0
    on.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_no_descriptor_is_a_matter_of_time(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(**where: object) -> None:
        raise OSError(number, os.strerror(number))

    async def run() -> None:
        with pytest.raises(Overloaded, match=r"v\.mp4: the server is out of file descriptors; try again"):
            await fill(on, [b"x"])

    monkeypatch.setattr(tempfile, "TemporaryFile", no_file)
    on = spool()
    asyncio.run(run())
    assert on.held == 0
    on.close()


def test_a_disk_with_less_than_announced_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    on = spool()
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=99))
    with pytest.raises(Overloaded, match="its disk has less than"):
        asyncio.run(fill(on, [b"x" * 100], num_bytes=100))
    assert on.held == 0
    on.close()


@pytest.mark.parametrize("call", ["disk_usage", "TemporaryFile", "close"])
def test_a_disk_that_hangs_holds_up_nobody_else(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of it is asked in the spool's own threads: the event loop goes on."""
    threads: list[str] = []

    def noted(real: Any) -> Any:
        def ask(*arguments: Any, **options: Any) -> Any:
            threads.append(threading.current_thread().name)
            return real(*arguments, **options)

        return ask

    class File:
        def __init__(self, **where: Any) -> None:
            self.real = real(**where)
            self.fileno = self.real.fileno

        def close(self) -> None:
            if not self.real.closed:
                noted(self.real.close)()

    real = tempfile.TemporaryFile
    on = spool()
    if call == "close":
        monkeypatch.setattr(tempfile, "TemporaryFile", File)
    else:
        module: Any = tempfile if call == "TemporaryFile" else shutil
        monkeypatch.setattr(module, call, noted(getattr(module, call)))
    assert asyncio.run(fill(on, [b"12345"], num_bytes=5)) == b"12345"
    assert [name.startswith("spool") for name in threads] == [True]
    assert on.held == 0
    assert on.close()


def test_who_is_cancelled_while_its_file_is_opened_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    opening, go_on = threading.Event(), threading.Event()
    real = tempfile.TemporaryFile

    def slow(**where: Any) -> Any:
        opening.set()
        go_on.wait(30)
        return real(**where)

    async def run() -> None:
        job = asyncio.create_task(fill(on, [b"x"]))
        await asyncio.to_thread(opening.wait, 30)
        before = open_files()
        job.cancel()
        await asyncio.wait([job])
        assert on.held == 0
        go_on.set()
        assert await asyncio.to_thread(on.close)
        await asyncio.sleep(0.01)
        assert open_files() == before

    monkeypatch.setattr(tempfile, "TemporaryFile", slow)
    on = spool()
    asyncio.run(run())


def test_closing_does_not_wait_for_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def hang(file: object, chunk: bytes) -> None:
        writing.set()
        go_on.wait(30)

    async def run() -> None:
        job = asyncio.create_task(fill(on, [b"x"]))
        await asyncio.to_thread(writing.wait, 30)
        job.cancel()
        await asyncio.wait([job])
        assert not await asyncio.to_thread(on.close)
        go_on.set()
        while on.held:
            await asyncio.sleep(0.001)
        assert await asyncio.to_thread(on.close)

    monkeypatch.setattr(spool_module, "_write_all", hang)
    on = spool()
    asyncio.run(run())
