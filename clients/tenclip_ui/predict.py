"""`POST /api/predict`: a video as the body, and as JSON lines each clip as soon as it is done, then the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tenclip_api.errors import InvalidRequest, Overloaded, TenclipError
from tenclip_client import AsyncClient, ClipUpdate, ModelInfo, Pieces, Prediction
from tenclip_ui.answers import error_body, error_response, line, prediction_body, update_body
from tenclip_ui.link import ServerLink
from tenclip_ui.settings import PageSettings
from tenclip_ui.upload import Disconnected, UploadBody
from tenclip_ui.visitors import client_of

NUM_PICTURES = 16
# Predictions that run at once; each takes a thread that waits.
MAX_RUNNING = 32
_RETRY_SECONDS = 5.0
_DRAIN_SECONDS = 5.0
_NDJSON = [(b"content-type", b"application/x-ndjson"), (b"x-accel-buffering", b"no")]


def prediction_arguments(query: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `AsyncClient.predict_stream`. Raises InvalidRequest for what is no number."""
    adaptive = query.get("adaptive") == "1"
    return {
        "name": query.get("name") or "upload",
        "model": query.get("model", ""),
        "clips": query.get("clips") or ("salient" if adaptive else None),
        "num_clips": _count(query, "num_clips"),
        "adaptive": adaptive,
        "top_k": _count(query, "top_k") or 5,
        "clip_scores": True,
        "timeline": True,
        "thumbnails": NUM_PICTURES,
    }


def _count(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name, "")
    if not value:
        return None
    if not (value.isascii() and value.isdigit()):
        raise InvalidRequest(f"{name} must be a whole number, got {value!r}")
    return int(value)


class Predict:
    """The endpoint, which reads the body itself: while the server takes it, and not before."""

    def __init__(self, link: ServerLink, settings: PageSettings) -> None:
        self._link, self._settings = link, settings
        self._running = 0

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
        try:
            async with aclosing(self._lines(Request(scope), body)) as lines:
                async for written in lines:
                    if not started:
                        await send({"type": "http.response.start", "status": 200, "headers": _NDJSON})
                        started = True
                    await send({"type": "http.response.body", "body": written, "more_body": True})
        except Disconnected:
            return
        except TenclipError as err:
            error = self._link.without_address(err)
            if not started:
                await self._refuse(error, scope, receive, body, send)
                return
            await send({"type": "http.response.body", "body": line(error_body(error)), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _refuse(self, error: TenclipError, scope: Scope, receive: Receive, body: UploadBody, send: Send) -> None:
        async def send_and_wait(message: Any) -> None:
            last = message["type"] == "http.response.body"
            await send({**message, "more_body": True} if last else message)
            if last:
                await body.drain(_DRAIN_SECONDS)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await error_response(error)(scope, receive, send_and_wait)

    async def _lines(self, request: Request, body: UploadBody) -> AsyncGenerator[bytes, None]:
        arguments = prediction_arguments(request.query_params)
        client = client_of(request, self._link, self._settings)
        if self._running >= MAX_RUNNING:
            error = Overloaded(
                f"{MAX_RUNNING} videos are on their way already; try again in {_RETRY_SECONDS:g} seconds"
            )
            error.retry_after_seconds = _RETRY_SECONDS
            raise error
        self._running += 1
        try:
            pieces = Pieces(_length(request.headers), body.read)
            async with aclosing(client.predict_stream(pieces, **arguments)) as updates:
                async for update in updates:
                    if isinstance(update, ClipUpdate):
                        yield line(update_body(update))
                    else:
                        yield await self._result(client, arguments["name"], update)
        finally:
            self._running -= 1

    async def _result(self, client: AsyncClient, name: str, answer: Prediction) -> bytes:
        model = await _model_of(client, answer)
        return await asyncio.to_thread(lambda: line(prediction_body(name, answer, model)))


async def _model_of(client: AsyncClient, answer: Prediction) -> ModelInfo | None:
    try:
        return await client.get_model(f"{answer.provenance.model}:{answer.provenance.version}")
    except TenclipError:  # unloaded meanwhile
        return None


def _length(headers: Headers) -> int:
    """What the browser says that it will send; 0 where it does not say."""
    value = headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else 0
