"""Many calls at once, a bounded number of them in flight; and calls that are repeated while a server is busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

from tenclip_api.errors import (
    Cancelled,
    InvalidRequest,
    MissingDependency,
    ModelError,
    Overloaded,
    PermissionDenied,
    ServerUnavailable,
    TenclipError,
    Unauthenticated,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Errors that are not about one video: the next one would fail in the same way.
SYSTEMIC = (Cancelled, MissingDependency, ModelError, PermissionDenied, ServerUnavailable, Unauthenticated)
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.5, 30.0


async def run_bounded(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, concurrency: int
) -> AsyncGenerator[tuple[Item, Result | TenclipError], None]:
    """(item, result or error) as they finish, at most `concurrency` at a time. `items` is drawn from as places free up.

    Errors about one video are yielded; systemic ones are raised, and the rest is cancelled.
    """
    if concurrency < 1:
        raise InvalidRequest(f"concurrency must be at least 1, got {concurrency}")
    waiting = iter(items)
    running: dict[asyncio.Future[Result], Item] = {}
    try:
        while True:
            for item in waiting:
                running[asyncio.ensure_future(work(item))] = item
                if len(running) >= concurrency:
                    break
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Answers first: what did arrive is handed on even when the server has just gone.
            for task in sorted(done, key=lambda t: t.exception() is not None):
                item, error = running.pop(task), task.exception()
                if isinstance(error, TenclipError) and not isinstance(error, SYSTEMIC):
                    yield item, error
                else:
                    yield item, task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def in_order(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, concurrency: int
) -> AsyncGenerator[tuple[Item, Result | TenclipError], None]:
    """`run_bounded`, with results in the order of `items`, each as soon as those before it are done."""
    ready: dict[int, tuple[Item, Result | TenclipError]] = {}
    turn = 0

    async def numbered(entry: tuple[int, Item]) -> Result:
        return await work(entry[1])

    async with aclosing(run_bounded(enumerate(items), numbered, concurrency=concurrency)) as finished:
        async for (number, item), outcome in finished:
            ready[number] = item, outcome
            while turn in ready:
                yield ready.pop(turn)
                turn += 1


async def retry_with_backoff(
    call: Callable[[], Awaitable[Result]],
    *,
    max_wait_seconds: float,
    waits_for: tuple[type[TenclipError], ...] = (Overloaded,),
    on_pause: Callable[[TenclipError, float], None] | None = None,
) -> Result:
    """Await `call`, repeating it while it raises one of `waits_for`, for `max_wait_seconds` at most.

    The pause between attempts is what the server asks for; otherwise it doubles from 0.5 s to 30 s. `on_pause` is
    called with the error and the seconds of each pause.
    """
    clock = asyncio.get_running_loop().time
    pauses = _Pauses(clock() + max_wait_seconds, on_pause)
    while True:
        try:
            return await call()
        except waits_for as err:
            seconds = pauses.after(err, clock())
        await asyncio.sleep(seconds)


def retry_blocking(call: Callable[[], Result], *, max_wait_seconds: float) -> Result:
    """`retry_with_backoff` for a call that blocks, while the server refuses it for now."""
    pauses = _Pauses(time.monotonic() + max_wait_seconds, None)
    while True:
        try:
            return call()
        except Overloaded as err:
            seconds = pauses.after(err, time.monotonic())
        time.sleep(seconds)


class _Pauses:
    """Pauses between the attempts for one call, none of which ends after `give_up`, a time of the caller's clock."""

    def __init__(self, give_up: float, on_pause: Callable[[TenclipError, float], None] | None) -> None:
        self._give_up, self._on_pause = give_up, on_pause
        self._next = _FIRST_PAUSE_SECONDS

    def after(self, err: TenclipError, now: float) -> float:
        """Seconds till the next attempt. Raises the error itself where that would be too late."""
        asked = err.retry_after_seconds if isinstance(err, Overloaded) else None
        seconds = self._next if asked is None else asked
        if now + seconds > self._give_up:
            raise err
        if self._on_pause is not None:
            self._on_pause(err, seconds)
        self._next = min(2 * self._next, _MAX_PAUSE_SECONDS)
        return seconds
