"""What endpoints share that take a video as the body: they read it while the server takes it, and not before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from tenclip_api.errors import Overloaded, TenclipError
from tenclip_ui.answers import error_body, error_response, line
from tenclip_ui.link import ServerLink
from tenclip_ui.upload import Disconnected, UploadBody

# Videos that are on their way at once, by all endpoints; each takes a thread that waits.
MAX_RUNNING = 32
_RETRY_SECONDS = 5.0
_DRAIN_SECONDS = 5.0


class Running:
    """How many videos are on their way by this page. Used on one event loop."""

    def __init__(self) -> None:
        self._count = 0

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """While one more is on its way. Raises Overloaded where there are as many as may be."""
        if self._count >= MAX_RUNNING:
            again = f"try again in {_RETRY_SECONDS:g} seconds"
            error = Overloaded(f"{MAX_RUNNING} videos are on their way by this page already; {again}")
            error.retry_after_seconds = _RETRY_SECONDS
            raise error
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


class StreamedEndpoint:
    """Ends `respond` when the browser has gone, and with it the call to the server.

    An error before the answer has begun is the answer, with its own status; a later one is the last line of it.
    running: shared by all endpoints of a page.
    """

    def __init__(self, link: ServerLink, running: Running) -> None:
        self.link = link
        self._running = running

    async def respond(self, request: Request, body: UploadBody, send: Send) -> None:
        """Answer one request. Raises TenclipError, Disconnected."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = UploadBody(receive)
        answer = asyncio.create_task(self._answer(scope, receive, body, send))
        gone = asyncio.create_task(body.disconnected())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answered = answer.done()
            answer.cancel()
            gone.cancel()
            results = await asyncio.gather(answer, gone, return_exceptions=True)
        if answered and isinstance(results[0], Exception):
            raise results[0]

    async def _answer(self, scope: Scope, receive: Receive, body: UploadBody, send: Send) -> None:
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            with self._running.one_more():
                await self.respond(Request(scope), body, send_and_note)
        except Disconnected:
            return
        except TenclipError as err:
            error = self.link.without_address(err)
            if not started:
                await _refuse(error, scope, receive, body, send)
                return
            await send({"type": "http.response.body", "body": line(error_body(error)), "more_body": False})


async def _refuse(error: TenclipError, scope: Scope, receive: Receive, body: UploadBody, send: Send) -> None:
    async def send_and_wait(message: Any) -> None:
        last = message["type"] == "http.response.body"
        await send({**message, "more_body": True} if last else message)
        if last:
            await body.drain(_DRAIN_SECONDS)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    await error_response(error)(scope, receive, send_and_wait)


def length_of(headers: Headers) -> int:
    """What the browser says that it will send; 0 where it does not say."""
    value = headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else 0
