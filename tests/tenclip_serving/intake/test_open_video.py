"""The one way from a request to the bytes of its video: all of them are at hand, and nothing is left open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from tenclip_api.errors import (
    EmptyVideo,
    InvalidRequest,
    Overloaded,
    PathNotAllowed,
    TenclipError,
    UriNotAllowed,
    VideoNotFound,
)
from tenclip_serving.decoding.shared_memory import AVAILABLE, WORTH_SHARING_BYTES
from tenclip_serving.intake.admission import Admission
from tenclip_serving.intake.open_video import Intake, OpenVideo
from tenclip_serving.intake.spool import Spool
from tenclip_serving.intake.uri_policy import UriPolicy
from tenclip_serving.requests import RecognitionRequest, Upload
from tenclip_serving.thread_pools import Threads

LARGE = bytes(range(256)) * (WORTH_SHARING_BYTES // 256 + 1)
MIB = 1 << 20


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def content(video: OpenVideo) -> bytes:
    return video.source if isinstance(video.source, bytes) else os.pread(video.source, 1 << 24, 0)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@contextlib.asynccontextmanager
async def opened(request: RecognitionRequest, root: Path) -> AsyncIterator[OpenVideo]:
    """The video of a request; nothing of it is left at the end."""
    threads, spool = Threads(), Spool(max_bytes=MIB, max_file_bytes=MIB)
    admission = Admission(max_bytes=4 * MIB, max_queue_bytes=2 * MIB, max_queue=1, max_active=1)
    gc.collect()  # files of tests before this one would be closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    intake = Intake(roots=[root], policy=UriPolicy(), spool=spool, threads=threads)
    try:
        async with admission.admit() as ticket, intake.open(request, ticket) as video:
            del request
            yield video
    finally:
        assert len(os.listdir("/proc/self/fd")) <= before
        assert spool.held == admission.held("encoded") == 0
        spool.close()
        assert threads.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 240))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "v.mp4").write_bytes(b"a file")
    return tmp_path


@pytest.mark.parametrize("way", ["few bytes", "many bytes", "path", "file: URI", "upload"])
def test_every_way_gives_the_bytes_and_a_name(root: Path, way: str) -> None:
    path = root / "v.mp4"
    upload = Upload(chunks=chunks(b"in ", b"pieces"), num_bytes=9)
    request, expected, name = {
        "few bytes": (RecognitionRequest(data=b"inline", name="n"), b"inline", "n"),
        "many bytes": (RecognitionRequest(data=LARGE, name="n"), LARGE, "n"),
        "path": (RecognitionRequest(path="v.mp4"), b"a file", "v.mp4"),
        "file: URI": (RecognitionRequest(uri=f"file:{path}"), b"a file", str(path)),
        "upload": (
            RecognitionRequest(upload=upload),
            b"in pieces",
            "<upload>",
        ),
    }[way]

    async def test() -> None:
        async with opened(request, root) as video:
            assert (content(video), video.name) == (expected, name)
            assert (video.fetch_seconds is not None) == (way == "upload")
            assert video.is_path == (way in ("path", "file: URI"))
            assert isinstance(video.source, bytes) == (way == "few bytes" or (way == "many bytes" and not AVAILABLE))

    run(test)


@pytest.mark.skipif(not AVAILABLE, reason="Linux only")
@pytest.mark.parametrize("way", ["many bytes", "upload", "path"])
def test_what_is_released_is_given_back_but_a_path_stays_open_for_its_stamp(root: Path, way: str) -> None:
    request = {
        "many bytes": RecognitionRequest(data=LARGE),
        "upload": RecognitionRequest(upload=Upload(chunks=chunks(b"in pieces"))),
        "path": RecognitionRequest(path="v.mp4"),
    }[way]

    async def test() -> None:
        async with opened(request, root) as video:
            assert isinstance(video.source, int)
            video.release()
            if way == "path":
                assert content(video) == b"a file"
            else:
                while is_open(video.source):
                    await asyncio.sleep(0.001)
            video.release()  # may be called again

    run(test)


def test_a_stamp_tells_whether_a_file_was_written_to(root: Path) -> None:
    async def test() -> None:
        async with opened(RecognitionRequest(path="v.mp4"), root) as video:
            before = await video.stamp()
            assert before is not None
            assert before[0] == len(b"a file")
            assert await video.stamp() == before
            (root / "v.mp4").write_bytes(b"another file")
            assert await video.stamp() != before
        async with opened(RecognitionRequest(data=LARGE), root) as video:
            assert await video.stamp() is None

    run(test)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (RecognitionRequest(), InvalidRequest, "no video: set video.data"),
        (RecognitionRequest(data=b"", name="n"), EmptyVideo, r"n: is empty \(0 bytes\)"),
        (RecognitionRequest(path="absent.mp4"), VideoNotFound, "absent.mp4: no such file"),
        (RecognitionRequest(path="/etc/passwd"), PathNotAllowed, "outside the directories"),
        (RecognitionRequest(uri="file:///etc/passwd"), PathNotAllowed, "outside the directories"),
        (RecognitionRequest(uri="https://media.example/v.mp4"), UriNotAllowed, "fetches file: and nothing else"),
    ],
)
def test_refused(root: Path, request_: RecognitionRequest, error: type[TenclipError], message: str) -> None:
    async def test() -> None:
        with pytest.raises(error, match=message):
            async with opened(request_, root):
                pass

    run(test)


def test_an_upload_of_nothing_and_one_that_breaks_leave_nothing(root: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise ConnectionResetError("gone")

    async def test() -> None:
        with pytest.raises(EmptyVideo):
            async with opened(RecognitionRequest(upload=Upload(chunks=chunks())), root):
                pass
        with pytest.raises(ConnectionResetError):
            async with opened(RecognitionRequest(upload=Upload(chunks=broken())), root):
                pass

    run(test)


def test_hosts_that_are_silent_hold_half_of_the_places_at_most() -> None:
    """They accept a connection and say nothing, so that no byte of the video ever comes."""

    async def test() -> None:
        admission = Admission(max_bytes=4 * MIB, max_queue_bytes=2 * MIB, max_queue=3, max_active=1)
        threads, spool = Threads(), Spool(max_bytes=MIB, max_file_bytes=MIB)
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        host = await asyncio.start_server(lambda reader, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
        address = f"127.0.0.1:{host.sockets[0].getsockname()[1]}"
        loopback = ip_network("127.0.0.1/32")
        policy = UriPolicy(schemes=("http",), hosts=(address,), networks=(loopback,), max_seconds=60)
        intake = Intake(roots=[], policy=policy, spool=spool, threads=threads)

        async def fetch() -> None:
            request = RecognitionRequest(uri=f"http://{address}/v.mp4")
            async with admission.admit() as ticket, intake.open(request, ticket):
                pass

        fetching = [asyncio.create_task(fetch()) for _ in range(2)]
        connections = [await accepted.get() for _ in fetching]
        with pytest.raises(Overloaded, match="2 videos are being uploaded or fetched"):
            await asyncio.wait_for(fetch(), 20)
        async with admission.admit() as ticket, intake.open(RecognitionRequest(data=b"inline"), ticket) as video:
            assert content(video) == b"inline"
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
        for connection in connections:
            connection.close()
            await connection.wait_closed()
        host.close()
        await host.wait_closed()
        spool.close()
        assert threads.close()

    run(test)
