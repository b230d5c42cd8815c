"""Waiting for grpc.aio so that nothing is left over where the wait is given up.

grpc.aio frees what a batch of operations holds when the coroutine that awaits it goes on, and never when that one is
cancelled (grpc/grpc#43360, open as of 1.85). So its own tasks are not cancelled here. The
call is cancelled below them, in gRPC's core, and they end by themselves a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


async def answer_of(rpc: Any, awaitable: Awaitable[T]) -> T:
    """What `awaitable`, the call itself or a read of it, gives or raises. To cancel this hangs up."""
    task = asyncio.ensure_future(_wait(awaitable))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        hang_up(rpc)
        raise


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable


def hang_up(rpc: Any) -> None:
    """End the call, if it has not ended."""
    if rpc.done():
        return
    core = getattr(rpc, "_cython_call", None)  # no public name gives it
    if core is None:
        rpc.cancel()
    else:
        core.cancel("the caller hung up")
