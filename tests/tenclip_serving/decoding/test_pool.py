"""The pool of decode processes, with real processes that are stopped and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tenclip_api.errors import (
    DecodeWorkerDied,
    EmptyVideo,
    NotAVideo,
    Overloaded,
    ServerUnavailable,
    VideoError,
    VideoTooLarge,
)
from tenclip_serving.decoding import pool as decode_pool
from tenclip_serving.decoding import shared_memory
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.pool import DecodeFault, DecodePool
from tenclip_serving.decoding.sandbox import Confinement
from tenclip_video.clips import VideoClips, read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tests.hostile import hostile_files, witness
from tests.tenclip_serving.helpers import SPEC
from tests.videos import make_video

pytestmark = pytest.mark.filterwarnings("error")


def request(path: Path, **changes: Any) -> DecodeRequest:
    values: dict[str, Any] = {"source": str(path), "name": path.name, "spec": SPEC}
    return DecodeRequest(**{**values, **changes})


async def decode(pool: DecodePool, asked: DecodeRequest, timeout: float = 30) -> VideoClips:
    return await pool.decode(await pool.acquire(), asked, timeout=timeout)


@contextlib.asynccontextmanager
async def open_pool(size: int = 1, **options: Any) -> AsyncIterator[tuple[DecodePool, list[str]]]:
    """A pool and the reasons of its restarts; no process of it is left behind."""
    reasons: list[str] = []
    pool = DecodePool(size, on_restart=reasons.append, **options)
    await pool.start()
    seen = set(pool.pids)
    try:
        yield pool, reasons
    finally:
        seen |= set(pool.pids)
        await pool.close()
        left = [p for p in seen if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
        assert not left


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_decodes_paths_and_bytes_and_carries_errors(videos: Path) -> None:
    async def test() -> None:
        async with open_pool() as (pool, reasons):
            (pid,) = pool.pids
            by_path = await decode(pool, request(videos / "colors.mp4"))
            inline = await decode(pool, request(videos / "x", source=(videos / "colors.mp4").read_bytes()))
            assert by_path.clips.shape == (10, 4, 32, 32, 3)
            assert (by_path.clips == inline.clips).all()
            with pytest.raises(EmptyVideo):
                await decode(pool, request(videos / "empty.mp4"))
            with pytest.raises(DecodeFault, match="Traceback"):
                await decode(pool, request(videos / "colors.mp4", spec=None))
            assert (await decode(pool, request(videos / "short.mp4"))).plan[0].looped
            assert pool.pids == (pid,)
            assert reasons == []

    run(test)


def test_a_worker_killed_while_idle_is_replaced_and_no_request_notices(videos: Path) -> None:
    async def test() -> None:
        async with open_pool() as (pool, reasons):
            for _ in range(3):
                (pid,) = pool.pids
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
                assert pool.pids != (pid,)
            assert reasons == ["died"] * 3

    run(test)


def test_a_worker_killed_in_the_middle_fails_its_own_request_only(videos: Path) -> None:
    async def test() -> None:
        async with open_pool(2) as (pool, reasons):
            worker = await pool.acquire()
            os.kill(worker.pid, signal.SIGSTOP)
            doomed = asyncio.create_task(pool.decode(worker, request(videos / "colors.mp4"), timeout=30))
            await decode(pool, request(videos / "colors.mp4"))  # on the other one
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(
                DecodeWorkerDied, match=r"colors\.mp4: the process that decoded this video died .signal 9"
            ):
                await doomed
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert reasons == ["died"]

    run(test)


def test_one_that_hangs_is_killed_after_its_time(videos: Path) -> None:
    async def test() -> None:
        async with open_pool() as (pool, reasons):
            (pid,) = pool.pids
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(DecodeWorkerDied, match=r"took longer than the 0\.2 seconds that this server allows"):
                await decode(pool, request(videos / "colors.mp4"), timeout=0.2)
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert reasons == ["timeout"]
            assert not psutil.pid_exists(pid)

    run(test)


def test_a_request_given_up_leaves_a_worker_that_still_serves(videos: Path) -> None:
    async def test() -> None:
        async with open_pool() as (pool, reasons):
            (pid,) = pool.pids
            given_up = asyncio.create_task(decode(pool, request(videos / "long.mp4")))
            while not pool._idle.empty():
                await asyncio.sleep(0)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            result = await decode(pool, request(videos / "colors.mp4"))
            assert result.info.num_frames == 40  # this request's answer, not that of the one before
            assert pool.pids == (pid,)
            assert reasons == []

    run(test)


def test_a_request_given_up_that_hangs_costs_the_worker(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "DRAIN_SECONDS", 0.1)

    async def test() -> None:
        async with open_pool() as (pool, reasons):
            worker = await pool.acquire()
            os.kill(worker.pid, signal.SIGSTOP)
            given_up = asyncio.create_task(pool.decode(worker, request(videos / "colors.mp4"), timeout=30))
            await asyncio.sleep(0.05)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert reasons == ["cancelled"]

    run(test)


def test_workers_are_recycled(videos: Path) -> None:
    async def test() -> None:
        async with open_pool(max_requests=2) as (pool, reasons):
            pids = []
            for _ in range(4):
                worker = await pool.acquire()
                pids.append(worker.pid)
                await pool.decode(worker, request(videos / "short.mp4"), timeout=30)
            assert pids[0] == pids[1] != pids[2] == pids[3]
            assert reasons[0] == "recycled"

    run(test)


def test_requests_beyond_the_workers_wait_their_turn(videos: Path) -> None:
    async def test() -> None:
        async with open_pool(2) as (pool, reasons):
            results = await asyncio.gather(*(decode(pool, request(videos / "colors.mp4")) for _ in range(9)))
            assert len(results) == 9
            assert len(pool.pids) == 2
            assert reasons == []

    run(test)


def test_closing_ends_a_worker_that_hangs(videos: Path) -> None:
    async def test() -> None:
        async with open_pool() as (pool, _):
            worker = await pool.acquire()
            os.kill(worker.pid, signal.SIGSTOP)
            task = asyncio.create_task(pool.decode(worker, request(videos / "colors.mp4"), timeout=30))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(ServerUnavailable, match="shutting down"):
            await pool.acquire()

    run(test)


def test_a_worker_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    async def test() -> None:
        with pytest.raises(DecodeWorkerDied, match="did not start"):
            await DecodePool(1).start()

    run(test)


def test_a_worker_ends_when_its_server_is_killed(videos: Path) -> None:
    """No cleaning up runs after SIGKILL: the worker has to notice by itself, even in the middle of a request."""
    code = (
        "import sys, time; from tenclip_serving.decoding.pool import DecodeWorker; "
        "w = DecodeWorker(); w.wait_ready(); print(w.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        parent.kill()
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running()


# -- a worker is never lost, and never waited for without an end ------------------------------------------------------


def test_without_descriptors_requests_are_refused_and_no_worker_is_lost(videos: Path) -> None:
    async def test() -> None:
        async with open_pool() as (pool, reasons):
            with open(videos / "colors.mp4", "rb") as file, no_descriptors():
                for _ in range(3):
                    with pytest.raises(Overloaded, match=r"colors\.mp4: the server is out of file descriptors"):
                        await decode(pool, request(videos / "colors.mp4", source=file.fileno()))
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert reasons == []

    run(test)


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """None is left to this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 10, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_all_threads_are_there_from_the_start(videos: Path) -> None:
    """An executor that cannot start a thread raises and keeps the work, for a worker that has been given back."""

    async def test() -> None:
        async with open_pool(3):
            assert sum(t.name.startswith("decode_") for t in threading.enumerate()) == 6

    run(test)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), OSError("no"), MemoryError()], ids=repr)
def test_a_worker_that_cannot_be_started_is_tried_again(
    videos: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real, errors = decode_pool.DecodeWorker, [error]

    def start(confinement: Confinement | None) -> decode_pool.DecodeWorker:
        if errors:
            raise errors.pop()
        return real(confinement)

    async def test() -> None:
        async with open_pool() as (pool, reasons):
            monkeypatch.setattr(decode_pool, "DecodeWorker", start)
            os.kill(pool.pids[0], signal.SIGKILL)
            os.waitid(os.P_PID, pool.pids[0], os.WEXITED | os.WNOWAIT)
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert errors == []
            assert reasons == ["died"]

    run(test)


@pytest.mark.parametrize("where", ["take", "lend"])
def test_a_worker_that_may_be_out_of_step_is_replaced(
    videos: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It waits for memory, or has answered already: the next request must not get this one's clips."""

    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    async def test() -> None:
        async with open_pool() as (pool, reasons):
            with monkeypatch.context() as patched:
                patched.setattr(shared_memory.Segments, where, fail)
                with pytest.raises(RuntimeError, match="in the middle"):
                    await decode(pool, request(videos / "long.mp4"))
            assert (await decode(pool, request(videos / "colors.mp4"))).info.num_frames == 40
            assert reasons == ["died"]

    run(test)


@contextlib.contextmanager
def in_the_kernels_hands(worker: decode_pool.DecodeWorker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that no signal ends, as one that reads from a network file system which is gone."""
    monkeypatch.setattr(decode_pool, "_STOP_SECONDS", 0.1)
    monkeypatch.setattr(decode_pool, "_LOOK_SECONDS", 0.01)
    os.kill(worker.pid, signal.SIGSTOP)
    monkeypatch.setattr(worker._process, "kill", lambda: None)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker._process.wait()


def test_a_worker_that_nothing_ends_is_replaced_and_its_memory_counted_until_it_is_gone(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with open_pool() as (pool, reasons):
            worker = await pool.acquire()
            left: list[asyncio.Task[None]] = []
            with in_the_kernels_hands(worker, monkeypatch):
                with pytest.raises(DecodeWorkerDied, match="took longer"):
                    await pool.decode(worker, request(videos / "colors.mp4"), timeout=0.1, on_leave=left.append)
                assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
                assert not left[0].done()
            await left[0]
            assert reasons == ["timeout"]

    run(test)


def test_closing_waits_for_no_worker_that_nothing_ends(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        pool = DecodePool(2)
        await pool.start()
        worker = await pool.acquire()
        with in_the_kernels_hands(worker, monkeypatch):
            task = asyncio.create_task(pool.decode(worker, request(videos / "colors.mp4"), timeout=30))
            await asyncio.sleep(0.05)
            await pool.close()
            with pytest.raises(DecodeWorkerDied):
                await task
            assert not worker.ended

    run(test)


@pytest.mark.parametrize("end", ["drained", "killed"])
def test_whoever_leaves_is_told_when_the_worker_holds_nothing_any_more(
    videos: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(decode_pool, "DRAIN_SECONDS", 30 if end == "drained" else 0.1)

    async def test() -> None:
        async with open_pool() as (pool, _):
            worker = await pool.acquire()
            os.kill(worker.pid, signal.SIGSTOP)
            left: list[asyncio.Task[None]] = []
            asked = request(videos / "colors.mp4")
            task = asyncio.create_task(pool.decode(worker, asked, timeout=30, on_leave=left.append))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not left[0].done()
            if end == "drained":
                os.kill(worker.pid, signal.SIGCONT)
            await left[0]
            assert worker.ended == (end == "killed")

    run(test)


# -- memory and limits ------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    """The thread that decoded lets go of its result a moment after the result is here."""
    while not condition():
        await asyncio.sleep(0.005)


def clip_mappings() -> int:
    return Path("/proc/self/maps").read_text().count("/memfd:tenclip")


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
            ours_and_theirs = await descriptors(pool)
            for _ in range(5):
                await decode(pool, request(videos / "x", source=data))
                with pytest.raises(NotAVideo):
                    await decode(pool, request(videos / "x", source=bytes(200_000)))
            while await descriptors(pool) != ours_and_theirs:
                await asyncio.sleep(0.005)

    async def descriptors(pool: DecodePool) -> tuple[int, int]:
        with pytest.raises(EmptyVideo):
            await decode(pool, request(videos / "empty.mp4"))  # what the worker closes after an answer is closed now
        return psutil.Process().num_fds(), psutil.Process(pool.pids[0]).num_fds()

    run(test)


@pytest.mark.skipif(sys.platform != "linux", reason="psutil reads limits on Linux")
def test_workers_are_confined(videos: Path) -> None:
    async def test() -> None:
        async with open_pool(confinement=Confinement(memory_bytes=1 << 30, nice=2)) as (pool, _):
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
        async with open_pool(confinement=Confinement(memory_bytes=400 << 20)) as (pool, reasons):
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
    "a long story": "ask(); channel.send(encode(replace(Decoded.of(honest), plan=honest.plan * 100_000)))",
}
HOSTILE_PROGRAM = """#!{python}
import os, pickle, socket, sys, time
from msgspec.structs import replace
from tenclip_serving.decoding import shared_memory
from tenclip_serving.decoding.worker_messages import *
from tenclip_serving.decoding.child import Channel, decode
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import Clip

class Attack:
    def __reduce__(self):
        return os.system, ("touch {mark}",)

def ask():
    channel.send(encode(ClipsWanted(wanted)))
    return channel.receive_with_descriptor()[2]

sock = socket.socket(fileno=int(sys.argv[4]))
channel = Channel(sock)
channel.send(encode(Ready()))
request = pickle.loads(channel.receive_with_descriptor()[0])
honest = decode(request)
wanted = honest.clips.shape
EMPTY = Timeline('', b'', b'', b'')
{action}
time.sleep(60)
"""


def hostile_worker(folder: Path, action: str) -> str:
    program = folder / "worker"
    program.write_text(HOSTILE_PROGRAM.format(python=sys.executable, mark=folder / "taken-over", action=action))
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_worker_that_talks_nonsense_is_replaced(
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
    monkeypatch.setattr(decode_pool, "_STOP_SECONDS", 0.2)
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
