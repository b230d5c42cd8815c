"""Pools of threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

from tenclip_serving.thread_pools import Pool

WHO = ContextVar("who", default="")


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 240))


def test_calls_have_their_callers_context_and_tell_what_became_of_them() -> None:
    async def test() -> None:
        pool = Pool("some", 1)
        WHO.set("me")
        assert await pool.run(WHO.get) == "me"
        assert (await pool.run(threading.current_thread)).name.startswith("some")
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        assert pool.close()
        with pytest.raises(RuntimeError):
            await pool.run(WHO.get)

    run(test)


def test_what_has_not_begun_is_never_made_when_nobody_waits_for_it() -> None:
    async def test() -> None:
        pool, release, made = Pool("some", 1), threading.Event(), list[int]()
        first = asyncio.create_task(pool.run(release.wait, 60))
        given_up = asyncio.create_task(pool.run(made.append, 1))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        kept = asyncio.create_task(pool.run(made.append, 2))
        release.set()
        await asyncio.gather(first, kept)
        assert made == [2]
        assert pool.close()

    run(test)


def test_closing_says_whether_something_still_runs() -> None:
    async def test() -> None:
        pool, release = Pool("some", 2), threading.Event()
        first = asyncio.create_task(pool.run(release.wait, 60))
        await asyncio.sleep(0)
        assert not await asyncio.to_thread(pool.close)
        release.set()
        assert await first
        assert await asyncio.to_thread(pool.close)

    run(test)
