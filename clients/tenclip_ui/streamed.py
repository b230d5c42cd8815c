"""What endpoints share that take a video as the body: they read it while the server takes it, and not before."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from tenclip_api.errors import TenclipError
from tenclip_ui.answers import error_body, error_response, line
from tenclip_ui.link import ServerLink
from tenclip_ui.upload import Disconnected, UploadBody

_DRAIN_SECONDS = 5.0


class StreamedEndpoint:
    """Ends `respond` when the browser has gone, and with it the call to the server.

    An error before the answer has begun is the answer, with its own status; a later one is the last line of it.
    """

    def __init__(self, link: ServerLink) -> None:
        self.link = link

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
