"""A running test server, and one way to call it through both clients."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tenclip_client import AsyncClient, Client

from .servicer import FakeRecognition, serving

# call("predict", b"...", target=..., timeout=3, top_k=2): settings of the client and arguments of the method at once.
Call = Callable[..., Any]


@pytest.fixture
def servicer() -> FakeRecognition:
    return FakeRecognition()


@pytest.fixture
def target(servicer: FakeRecognition) -> Iterator[str]:
    with serving(servicer) as address:
        yield address


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing listens, and that no server of another test is given meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, target: str) -> Call:
    """Calls one method of a fresh client, blocking or asyncio; `client=` are the client's settings."""

    def blocking(method: str, *args: Any, client: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        with Client(**{"target": target, **(client or {})}) as made:
            result = getattr(made, method)(*args, **kwargs)
            return list(result) if inspect.isgenerator(result) else result

    async def awaited(method: str, *args: Any, client: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        async with AsyncClient(**{"target": target, **(client or {})}) as made:
            result = getattr(made, method)(*args, **kwargs)
            return [r async for r in result] if inspect.isasyncgen(result) else await result

    def run(*args: Any, **kwargs: Any) -> Any:
        result = (blocking if request.param == "sync" else awaited)(*args, **kwargs)
        return asyncio.run(result) if inspect.iscoroutine(result) else result

    return run
