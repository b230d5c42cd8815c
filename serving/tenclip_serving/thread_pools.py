"""Threads for what blocks, in pools by what they wait for, so that one kind of trouble holds up nothing else.

asyncio's own pool is one for everything, and has few threads: names that no DNS server answers, or a file system that
hangs, would take all of them, and every video would wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
# How long `close` waits for calls that run. A name or a file may take minutes, and nobody waits for its outcome.
_CLOSE_SECONDS = 1.0


class Pool:
    """At most `size` threads, until `close`."""

    def __init__(self, name: str, size: int) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._running = 0
        self._changed = threading.Condition()

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """The result of the call, made in a thread with the caller's context variables.

        A caller who is cancelled does not wait for it, and it is not made at all when it has not begun.
        """
        return await self.submit(function, *args)

    def submit(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """As `run`, for those who do not wait. Raises RuntimeError after `close`."""
        call = partial(self._call, copy_context().run, function, *args)
        return asyncio.get_running_loop().run_in_executor(self._executor, call)

    def _call(self, run: Callable[..., T], *args: Any) -> T:
        with self._changed:
            self._running += 1
        try:
            return run(*args)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> bool:
        """Nothing begins any more. False when something still runs after a moment; Python's own end waits for it."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, _CLOSE_SECONDS)


class Threads:
    """All pools of an engine.

    names: DNS, which may hang for callers' names. files: the file system, which may be a network; paths of callers.
    hashes: CPU time, of videos that are at hand. answers: CPU time, little of it, at the end of every request.
    """

    def __init__(self) -> None:
        self.names = Pool("names", 16)
        self.files = Pool("files", 8)
        self.hashes = Pool("hashes", 2)
        self.answers = Pool("answers", 2)

    def close(self) -> bool:
        """Close all pools. False when something still runs after a moment, as in `Pool.close`."""
        ended = [pool.close() for pool in (self.names, self.files, self.hashes, self.answers)]
        return all(ended)
