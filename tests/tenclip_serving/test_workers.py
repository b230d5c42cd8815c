"""The pool of decode processes, with real processes that are stopped and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tenclip_api.errors import DecodeWorkerDied, EmptyVideo, ServerUnavailable
from tenclip_serving import workers
from tenclip_serving.decode_worker import DecodeRequest
from tenclip_serving.workers import DecodeFault, DecodePool
from tenclip_video.clips import VideoClips
from tenclip_video.sampling import ClipSelection

from .helpers import SPEC

pytestmark = pytest.mark.filterwarnings("error")


def request(path: Path, **changes: Any) -> DecodeRequest:
    values: dict[str, Any] = {"source": str(path), "name": path.name, "spec": SPEC, "selection": ClipSelection()}
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
    monkeypatch.setattr(workers, "DRAIN_SECONDS", 0.1)

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
        "import sys, time; from tenclip_serving.workers import DecodeWorker; "
        "w = DecodeWorker(); w.wait_ready(); print(w.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        parent.kill()
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running()
