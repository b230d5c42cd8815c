"""One decode process: memory that is handed over, its sandbox, and what it may not say."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tenclip_api.errors import (
    DecodeWorkerDied,
    EmptyVideo,
    NotAVideo,
    VideoError,
    VideoTooLarge,
)
from tenclip_serving.decoding import child_process, shared_memory
from tenclip_serving.decoding import worker as decode_worker
from tenclip_serving.decoding.pool import DecodePool
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.decoding.worker_messages import Decoded
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection, SelectionMode
from tests.hostile import hostile_files, witness
from tests.tenclip_serving.decoding.helpers import decode, hostile_worker, open_pool, request, run, until
from tests.tenclip_serving.helpers import SPEC
from tests.videos import make_video

pytestmark = pytest.mark.filterwarnings("error")


def test_a_worker_ends_when_its_server_is_killed(videos: Path) -> None:
    """No cleaning up runs after SIGKILL: the worker has to notice by itself, even in the middle of a request."""
    code = (
        "import sys, time; from tenclip_serving.decoding.worker import DecodeWorker; "
        "w = DecodeWorker(); w.wait_ready(); print(w.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        parent.kill()
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running()


# -- memory and limits ------------------------------------------------------------------------------------------------


def clip_mappings() -> int:
    return Path("/proc/self/maps").read_text().count("/memfd:tenclip")


@pytest.mark.parametrize(("mode", "ranking"), [("salient", ()), ("uniform", (3, 7, 8))])
def test_a_ranking_that_is_not_of_the_clips(videos: Path, mode: SelectionMode, ranking: tuple[int, ...]) -> None:
    protocol = Protocol(selection=ClipSelection(mode=mode, num_clips=3))
    honest = read_clips(videos / "colors.mp4", SPEC, protocol, timeline=True)
    asked = replace(request(videos / "colors.mp4", protocol=protocol), timeline=True)
    kept = decode_worker._timeline(Decoded.of(honest), asked)
    assert kept is not None
    assert len(kept.ranking) == (3 if mode == "salient" else 0)
    selected = np.zeros_like(kept.selected)
    selected[list(ranking)] = True
    lie = replace(honest, timeline=replace(kept, ranking=ranking, selected=selected))
    with pytest.raises(child_process.ProtocolViolation, match=f"a ranking of {len(ranking)} windows for 3 clips"):
        decode_worker._timeline(Decoded.of(lie), asked)


@pytest.mark.skipif(not shared_memory.AVAILABLE, reason="Linux only")
def test_clips_come_in_memory_that_is_used_again_and_goes_with_the_worker(videos: Path) -> None:
    async def test() -> None:
        before = clip_mappings()
        async with open_pool() as (pool, _):
            result = await decode(pool, request(videos / "colors.mp4"))
            assert clip_mappings() == before + 1
            assert not result.clips.flags.writeable
            one = result.clips[3]
            expected = one.copy()
            del result
            for _ in range(3):
                await decode(pool, request(videos / "bar.mp4"))
            assert (one == expected).all()
            await until(lambda: clip_mappings() <= before + 3)
        await until(lambda: clip_mappings() == before + 1)
        assert (one == expected).all()
        del one
        await until(lambda: clip_mappings() == before)

    run(test)


@pytest.mark.parametrize("refused", ["all", "clips"])
def test_without_such_memory_bytes_go_over_the_socket(
    videos: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(shared_memory, "create", lambda size: None)
    if refused == "all":
        monkeypatch.setattr(shared_memory, "create_from", lambda data: None)
    expected = read_clips(videos / "colors.mp4", SPEC).clips
    data = (videos / "colors.mp4").read_bytes() + bytes(100_000)  # beyond what is sent over the socket anyway

    async def test() -> None:
        async with open_pool() as (pool, _):
            for asked in (request(videos / "colors.mp4"), request(videos / "x", source=data)):
                before = clip_mappings()
                result = await decode(pool, asked)
                assert (result.clips == expected).all()
                assert clip_mappings() <= before

    run(test)


@pytest.mark.skipif(not shared_memory.AVAILABLE, reason="Linux only")
def test_large_files_are_handed_over_and_nothing_stays_open(videos: Path) -> None:
    data = (videos / "colors.mp4").read_bytes() + bytes(30_000_000)

    async def test() -> None:
        async with open_pool() as (pool, _):
            await decode(pool, request(videos / "x", source=data))
            ours, theirs = await descriptors(pool)
            for _ in range(5):
                await decode(pool, request(videos / "x", source=data))
                with pytest.raises(NotAVideo):
                    await decode(pool, request(videos / "x", source=bytes(200_000)))
            # Fewer, where what other tests have left is collected meanwhile.
            while (now := await descriptors(pool))[0] > ours or now[1] > theirs:
                await asyncio.sleep(0.005)

    async def descriptors(pool: DecodePool) -> tuple[int, int]:
        with pytest.raises(EmptyVideo):
            await decode(pool, request(videos / "empty.mp4"))  # what the worker closes after an answer is closed now
        return psutil.Process().num_fds(), psutil.Process(pool.pids[0]).num_fds()

    run(test)


@pytest.mark.skipif(sys.platform != "linux", reason="psutil reads limits on Linux")
def test_workers_are_in_a_sandbox(videos: Path) -> None:
    async def test() -> None:
        async with open_pool(sandbox=SandboxLimits(memory_bytes=1 << 30, nice=2)) as (pool, _):
            process = psutil.Process(pool.pids[0])
            assert process.rlimit(psutil.RLIMIT_AS) == (1 << 30, 1 << 30)
            assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
            assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
            assert process.rlimit(psutil.RLIMIT_NOFILE)[1] <= 64
            assert process.nice() == min(19, psutil.Process().nice() + 2)
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10

    run(test)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold to RLIMIT_AS")
def test_a_video_beyond_the_memory_of_a_worker_is_refused_and_the_worker_lives(videos: Path, data_dir: Path) -> None:
    pictures_of_8k = data_dir / "odd" / "androidx_8k24fps_300ms.mp4"

    async def test() -> None:
        async with open_pool(sandbox=SandboxLimits(memory_bytes=400 << 20)) as (pool, reasons):
            with pytest.raises(VideoTooLarge, match="takes more memory than the 400 MiB that this process may use"):
                await decode(pool, request(pictures_of_8k))
            # As many clips as fit a request by number, but not into the process.
            many = Protocol(selection=ClipSelection(num_clips=10_000))
            with pytest.raises(VideoTooLarge, match="400 MiB"):
                await decode(pool, request(videos / "colors.mp4", spec=replace(SPEC, num_frames=16), protocol=many))
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert reasons == []
        async with open_pool() as (pool, reasons):
            assert (await decode(pool, request(pictures_of_8k), timeout=60)).info.width == 7680
            assert reasons == []

    run(test)


def test_pictures_come_from_the_sandbox_and_only_where_they_are_asked_for(videos: Path) -> None:
    async def test() -> None:
        async with open_pool(sandbox=SandboxLimits(memory_bytes=512 << 20)) as (pool, reasons):
            result = await decode(pool, request(videos / "colors.mp4", thumbnails=3))
            for picture in result.thumbnails:
                with Image.open(io.BytesIO(picture.jpeg)) as opened:
                    red, _, blue = np.asarray(opened.convert("RGB"), np.int64).mean((0, 1))
                    assert opened.size == (picture.width, picture.height) == (64, 48)
                # The video goes from red to blue in two seconds.
                assert (red > blue) == (picture.seconds < 1)
            assert len(result.thumbnails) == 3
            assert (await decode(pool, request(videos / "colors.mp4"))).thumbnails == ()
            assert reasons == []

    run(test)


# -- workers that a file has taken over -------------------------------------------------------------------------------

# What a worker does instead of decoding. `wanted`: an honest shape; `honest`: an honest decode; `ask()`: for memory.
HOSTILE = {
    "garbage": "sock.sendall(os.urandom(7) + b'x' * 100)",
    "endless message": "sock.sendall(b'\\x7f' + b'\\xff' * 15)",
    "code": "channel.send(pickle.dumps(Attack()))",
    "code in the end": "ask(); channel.send(pickle.dumps(Attack()))",
    "pixels unasked": "channel.send(encode(ClipsWanted(wanted)), bytes(1000))",
    "pixels beside the memory": "ask(); channel.send(encode(Decoded.of(honest)), honest.clips.tobytes())",
    "too many clips": "channel.send(encode(ClipsWanted((2**40, *wanted[1:]))))",
    "more clips than asked for": "channel.send(encode(ClipsWanted((11, *wanted[1:]))))",
    "negative": "channel.send(encode(ClipsWanted((-1, *wanted[1:]))))",
    "large pictures": "channel.send(encode(ClipsWanted((1, 4, 3200, 3200, 3))))",
    "no shape": "channel.send(encode(ClipsWanted('abc')))",
    "no such error": "channel.send(encode(Failure('NO_SUCH', 'x')))",
    "other clips": "ask(); channel.send(encode(replace(Decoded.of(honest), shape=(9, *wanted[1:]))))",
    "no result": "ask(); channel.send(encode(Ready()))",
    "asks twice": "ask(); channel.send(encode(ClipsWanted(wanted)))",
    "a short plan": "ask(); channel.send(encode(replace(Decoded.of(honest), plan=honest.plan[1:])))",
    "short clips": "ask(); channel.send(encode(replace(Decoded.of(honest), plan=(Clip((1,)),) * 10)))",
    "no seconds": "ask(); channel.send(encode(replace(Decoded.of(honest), seconds=())))",
    "views that are none": "ask(); channel.send(encode(replace(Decoded.of(honest), views=-1)))",
    "a timeline unasked": "ask(); channel.send(encode(replace(Decoded.of(honest), timeline=EMPTY)))",
    "pictures unasked": "ask(); channel.send(encode(replace(Decoded.of(honest), thumbnails=(PICTURE,))))",
    "a long story": "ask(); channel.send(encode(replace(Decoded.of(honest), plan=honest.plan * 100_000)))",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_worker_that_violates_the_protocol_is_replaced(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    python = sys.executable
    monkeypatch.setattr(sys, "executable", hostile_worker(tmp_path, HOSTILE[what]))

    async def test() -> None:
        async with open_pool() as (pool, reasons):
            (pid,) = pool.pids
            monkeypatch.setattr(sys, "executable", python)
            with pytest.raises(DecodeWorkerDied, match=r"colors\.mp4: .* was ended, for it answered with"):
                await decode(pool, request(videos / "colors.mp4"))
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert pool.pids != (pid,)
            assert reasons == ["died"]
            assert not (tmp_path / "taken-over").exists()

    run(test)


@pytest.mark.skipif(not shared_memory.AVAILABLE, reason="Linux only")
def test_a_worker_cannot_pull_the_memory_away_nor_push_descriptors(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapping whose file shrinks ends the process that reads it; descriptors that no one asked for fill a table."""
    action = """
fd = ask()
mapped = shared_memory.map_writable(fd, wanted)
refused = 0
for size in (0, 1, 10**9):
    try:
        os.ftruncate(fd, size)
    except PermissionError:
        refused += 1
mapped[:] = refused
import ctypes
# fallocate: punch a hole over all of it but the first page, keeping its size
ctypes.CDLL(None).fallocate(fd, 3, ctypes.c_long(4096), ctypes.c_long(mapped.size))
for _ in range(20):
    socket.send_fds(sock, [b""], [fd])
channel.send(encode(Decoded.of(honest)), descriptor=fd)
"""
    monkeypatch.setattr(sys, "executable", hostile_worker(tmp_path, action))

    async def test() -> None:
        async with open_pool() as (pool, _):
            before = psutil.Process().num_fds()
            result = await decode(pool, request(videos / "colors.mp4"))
            assert set(result.clips.reshape(-1)[:4096].tolist()) == {3}
            assert int(result.clips.reshape(-1)[4096:].sum()) == 0
            del result
            # One for the memory that waits for its next use, one for its mapping.
            await until(lambda: psutil.Process().num_fds() <= before + 2)

    run(test)


def test_a_worker_that_closes_its_socket_and_stays_is_ended(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "STOP_SECONDS", 0.2)
    python = sys.executable
    monkeypatch.setattr(sys, "executable", hostile_worker(tmp_path, "sock.close()"))

    async def test() -> None:
        async with open_pool() as (pool, reasons):
            monkeypatch.setattr(sys, "executable", python)
            with pytest.raises(DecodeWorkerDied, match="it had closed its socket"):
                await decode(pool, request(videos / "colors.mp4"))
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert reasons == ["died"]

    run(test)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_a_worker_follows_no_references(tmp_path: Path) -> None:
    target = tmp_path / "target.mp4"
    target.write_bytes(make_video())
    with witness(target) as seen:
        files = hostile_files(target.read_bytes(), target, seen.port)
        seen.touched()

        async def test() -> None:
            async with open_pool() as (pool, reasons):
                for kind, data in files.items():
                    path = tmp_path / kind
                    path.write_bytes(data)
                    for source in (str(path), data, data + bytes(100_000)):
                        with pytest.raises(VideoError):
                            await decode(pool, request(path, source=source))
                        assert seen.touched() == [], kind
                assert reasons == []

        run(test)
