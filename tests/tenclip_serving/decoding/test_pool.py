"""The pool of decode processes, with real processes that are stopped and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import pytest

from tenclip_api.errors import (
    DecodeWorkerDied,
    EmptyVideo,
    Overloaded,
    ServerUnavailable,
)
from tenclip_serving.decoding import child_process, shared_memory
from tenclip_serving.decoding import pool as decode_pool
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.pool import DecodePool
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.decoding.worker import DecodeFault, DecodeWorker
from tenclip_video.clips import VideoClips
from tests.tenclip_serving.decoding.helpers import decode, hostile_worker, open_pool, request, run, until

pytestmark = pytest.mark.filterwarnings("error")


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


@pytest.mark.parametrize("inline", [False, True], ids=["descriptor", "bytes"])
def test_a_video_whose_worker_is_killed_is_decoded_by_another(videos: Path, inline: bool) -> None:
    retries: list[None] = []

    async def test() -> None:
        async with open_pool(2, on_retry=lambda: retries.append(None)) as (pool, reasons):
            with open(videos / "colors.mp4", "rb") as file:
                asked = request(videos / "colors.mp4", source=file.read() if inline else file.fileno())
                worker = await pool.acquire()
                os.kill(worker.pid, signal.SIGSTOP)
                decoding = asyncio.create_task(pool.decode(worker, asked, timeout=30))
                await decode(pool, request(videos / "bar.mp4"))  # on the other one
                assert not decoding.done()
                os.kill(worker.pid, signal.SIGKILL)
                assert (await decoding).info.num_frames == 40
            assert len((await decode(pool, request(videos / "colors.mp4"))).plan) == 10
            assert len(pool.pids) == 2
            assert reasons == ["died"]
            assert len(retries) == 1

    run(test)


def test_a_video_that_kills_two_workers_is_given_up(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, retries = sys.executable, list[None]()
    monkeypatch.setattr(sys, "executable", hostile_worker(tmp_path, "os.kill(os.getpid(), 9)"))

    async def test() -> None:
        async with open_pool(3, on_retry=lambda: retries.append(None)) as (pool, reasons):
            monkeypatch.setattr(sys, "executable", python)
            with pytest.raises(
                DecodeWorkerDied,
                match=r"colors\.mp4: the process that decoded this video died \(signal 9\), as one before it had",
            ):
                await decode(pool, request(videos / "colors.mp4"))
            assert reasons == ["died", "died"]
            assert len(retries) == 1

    run(test)


class _ReadyWorker:
    """Answers at once, and says so: what a decoder does is not what is tested here, but when it ends."""

    alive, pid, num_requests = True, 0, 0

    def __init__(self) -> None:
        self.answered = threading.Event()

    def decode(self, asked: DecodeRequest) -> VideoClips:
        self.answered.set()
        return cast(VideoClips, asked)


@pytest.mark.parametrize("turns", range(10))
def test_a_caller_who_is_cancelled_just_when_the_video_is_decoded_is_cancelled(videos: Path, turns: int) -> None:
    """However many turns of the event loop lie between the result and the cancellation, which is that of a deadline."""

    async def test() -> None:
        worker = _ReadyWorker()
        pool = DecodePool(1)
        asked = request(videos / "colors.mp4")
        decoding = asyncio.create_task(pool.decode(cast(DecodeWorker, worker), asked, timeout=30))
        while not worker.answered.is_set():
            await asyncio.sleep(0)
        pool._threads.shutdown()  # the thread has told the event loop
        for _ in range(turns):
            await asyncio.sleep(0)
        was_cancelled = decoding.cancel()
        await asyncio.wait([decoding])
        assert decoding.cancelled() == was_cancelled
        assert await pool.acquire() is cast(DecodeWorker, worker)

    run(test)


def test_a_second_worker_has_only_the_time_that_is_left(videos: Path) -> None:
    """Both together have `timeout` seconds."""
    now = [0.0]
    retries: list[None] = []

    async def test() -> None:
        async with open_pool(2, on_retry=lambda: retries.append(None), clock=lambda: now[0]) as (pool, reasons):
            for worker in pool._workers:
                os.kill(worker.pid, signal.SIGSTOP)
            worker = await pool.acquire()
            decoding = asyncio.create_task(pool.decode(worker, request(videos / "colors.mp4"), timeout=30))
            await asyncio.sleep(0.2)
            now[0] = 29.9
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(DecodeWorkerDied, match=r"took longer than the 30 seconds that this server allows"):
                await decoding
            assert sorted(reasons) == ["died", "timeout"]
            assert len(retries) == 1

    run(test)


def test_whoever_gives_up_while_a_second_worker_is_waited_for_leaves_nothing(videos: Path) -> None:
    async def test() -> None:
        async with open_pool(2) as (pool, reasons):
            first, second = await pool.acquire(), await pool.acquire()
            os.kill(first.pid, signal.SIGKILL)
            decoding = asyncio.create_task(pool.decode(first, request(videos / "colors.mp4"), timeout=30))
            await until(lambda: reasons == ["died"])
            decoding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await decoding
            pool._give_back(second)
            for _ in range(4):
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
            await asyncio.sleep(0.2)
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
            await asyncio.sleep(0.2)
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
    real, errors = DecodeWorker, [error]

    def start(sandbox: SandboxLimits | None) -> DecodeWorker:
        if errors:
            raise errors.pop()
        return real(sandbox)

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
def in_the_kernels_hands(worker: DecodeWorker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that no signal ends, as one that reads from a network file system which is gone."""
    monkeypatch.setattr(child_process, "STOP_SECONDS", 0.1)
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
            await asyncio.sleep(0.2)
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
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not left[0].done()
            if end == "drained":
                os.kill(worker.pid, signal.SIGCONT)
            await left[0]
            assert worker.ended == (end == "killed")

    run(test)
