"""Awaiting calls of grpc.aio without a memory leak when the wait is cancelled.

grpc.aio frees what a batch of operations holds when the coroutine that awaits it goes on, and never when that one is
cancelled (grpc/grpc#43360, open as of 1.85). So its own tasks are not cancelled here. The
call is cancelled below them, in gRPC's core, and they end by themselves a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


async def await_rpc(rpc: Any, awaitable: Awaitable[T]) -> T:
    """Await the call, or a read of it. Cancelling this cancels the call."""
    task = asyncio.ensure_future(_wait(awaitable))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        cancel_rpc(rpc)
        raise


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable


def cancel_rpc(rpc: Any) -> None:
    """Cancel the call, if it has not ended."""
    if rpc.done():
        return
    core = getattr(rpc, "_cython_call", None)  # no public name gives it
    if core is None:
        rpc.cancel()
    else:
        core.cancel("the caller cancelled the call")
