"""The body of a request on its way to the server: piece by piece, as the server takes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.types import Receive


class Disconnected(Exception):
    """The browser has gone, or has given up its upload."""


class UploadBody:
    """The body of one request. A piece is asked of the browser when the one before it has been sent on.

    `read` is called in a thread of gRPC; everything else in the event loop.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._complete = False
        self._gone = False
        self._ended = asyncio.Event()

    def read(self) -> Iterator[bytes]:
        """The pieces. Raises Disconnected where the browser does not send all of them."""
        while piece := asyncio.run_coroutine_threadsafe(self._next(), self._loop).result():
            yield piece

    async def disconnected(self) -> None:
        """Returns when the browser has gone."""
        await self._ended.wait()
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"

    async def drain(self, seconds: float) -> None:
        """Take what still comes, for a moment: a browser that is cut off while it sends may not read the answer."""
        with contextlib.suppress(TimeoutError, Disconnected):
            async with asyncio.timeout(seconds):
                while await self._next():
                    pass

    async def _next(self) -> bytes:
        """The next piece; empty at the end."""
        async with self._lock:
            while not self._complete:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._gone = True
                    self._ended.set()
                    raise Disconnected
                self._complete = not message.get("more_body", False)
                if self._complete:
                    self._ended.set()
                if piece := message.get("body", b""):
                    return bytes(piece)
            return b""
