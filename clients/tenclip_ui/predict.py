"""`POST /api/predict`: a video as the body, and as JSON lines each clip as soon as it is done, then the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.types import Send

from tenclip_api.errors import InvalidRequest, TenclipError
from tenclip_client import AsyncClient, ClipUpdate, ModelInfo, Pieces, Prediction
from tenclip_ui.answers import line, prediction_body, update_body
from tenclip_ui.link import ServerLink
from tenclip_ui.settings import PageSettings
from tenclip_ui.streamed import Running, StreamedEndpoint, length_of
from tenclip_ui.upload import UploadBody
from tenclip_ui.visitors import client_of

NUM_PICTURES = 16
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


class Predict(StreamedEndpoint):
    """The endpoint."""

    def __init__(self, link: ServerLink, running: Running, settings: PageSettings) -> None:
        super().__init__(link, running)
        self._settings = settings

    async def respond(self, request: Request, body: UploadBody, send: Send) -> None:
        started = False
        async with aclosing(self._lines(request, body)) as lines:
            async for written in lines:
                if not started:
                    await send({"type": "http.response.start", "status": 200, "headers": _NDJSON})
                    started = True
                await send({"type": "http.response.body", "body": written, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self, request: Request, body: UploadBody) -> AsyncGenerator[bytes, None]:
        arguments = prediction_arguments(request.query_params)
        client = client_of(request, self.link, self._settings)
        pieces = Pieces(length_of(request.headers), body.read)
        async with aclosing(client.predict_stream(pieces, **arguments)) as updates:
            async for update in updates:
                if isinstance(update, ClipUpdate):
                    yield line(update_body(update))
                else:
                    yield await _result(client, arguments["name"], update)


async def _result(client: AsyncClient, name: str, answer: Prediction) -> bytes:
    model = await _model_of(client, answer)
    return await asyncio.to_thread(lambda: line(prediction_body(name, answer, model)))


async def _model_of(client: AsyncClient, answer: Prediction) -> ModelInfo | None:
    try:
        return await client.get_model(f"{answer.provenance.model}:{answer.provenance.version}")
    except TenclipError:  # unloaded meanwhile
        return None
