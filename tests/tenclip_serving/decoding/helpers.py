"""Decode pools for tests, whose processes never outlive the test."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.pool import DecodePool
from tenclip_video.clips import VideoClips
from tests.tenclip_serving.helpers import SPEC


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
    asyncio.run(asyncio.wait_for(test(), 240))


async def until(condition: Callable[[], bool]) -> None:
    """The thread that decoded lets go of its result a moment after the result is here."""
    while not condition():
        await asyncio.sleep(0.005)


# What `hostile_worker` runs instead of our own worker.
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
PICTURE = Thumbnail(seconds=0.0, jpeg=b'', width=1, height=1)
{action}
time.sleep(60)
"""


def hostile_worker(folder: Path, action: str) -> str:
    """An executable to be started as a decode worker that does `action` with its first request."""
    program = folder / "worker"
    program.write_text(HOSTILE_PROGRAM.format(python=sys.executable, mark=folder / "taken-over", action=action))
    program.chmod(0o755)
    return str(program)
