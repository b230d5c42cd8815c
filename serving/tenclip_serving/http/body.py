"""The body of one HTTP request, taken from the connection only as fast as it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from tenclip_api.errors import InvalidRequest, MessageTooLarge

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Body:
    """Read once: by `chunks` or by `read`.

    num_bytes: that the caller announced, None for a chunked body. num_read: that have come so far.
    ended: set when all of it has been read. on_disconnect: called when the caller hangs up before that; it must cancel
    the task that reads, for nobody waits for an answer any more.
    """

    def __init__(self, receive: Receive, *, num_bytes: int | None) -> None:
        self.num_bytes = num_bytes
        self.num_read = 0
        self.ended = asyncio.Event()
        self.on_disconnect: Callable[[], object] = lambda: None
        self._receive = receive
        if num_bytes == 0:
            self.ended.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces as they come; none of them is empty."""
        while not self.ended.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.on_disconnect()
                await asyncio.Event().wait()  # ends with this task
            chunk = message.get("body", b"")
            self.num_read += len(chunk)
            if not message.get("more_body", False):
                self.ended.set()
            if chunk:
                yield chunk

    async def read(self, most: int, *, what: str, instead: str = "") -> bytes:
        """All of it. Raises MessageTooLarge for more than `most` bytes: before any are read, where they are announced.

        what, instead: for the message: what is too large, and what would work.
        """
        if self.num_bytes is not None and self.num_bytes > most:
            raise _too_large(what, self.num_bytes, most, instead)
        parts: list[bytes] = []
        async for chunk in self.chunks():
            parts.append(chunk)
            if self.num_read > most:
                raise _too_large(what, self.num_read, most, instead)
        return b"".join(parts)

    async def disconnected(self) -> None:
        """Returns when the caller has hung up, or has its answer. For bodies that have ended."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def expect_none(self) -> None:
        """Raises InvalidRequest where there is a body."""
        async for _ in self.chunks():
            raise InvalidRequest("this request has a body, and must have none")

    async def drop(self, *, most: int) -> None:
        """Read and forget up to `most` bytes of what is left."""
        end = self.num_read + most
        async for _ in self.chunks():
            if self.num_read >= end:
                return


def _too_large(what: str, num_bytes: int, most: int, instead: str) -> MessageTooLarge:
    return MessageTooLarge(
        f"{what} has {num_bytes} bytes or more; this server takes at most {most}{f'; {instead}' if instead else ''}"
    )
