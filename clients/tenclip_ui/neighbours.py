"""Neighbours of a video, where the server has an index: which clips are alike, and where they can be played."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tenclip_api.errors import TenclipError, VideoNotFound
from tenclip_client import AsyncClient, Neighbour, Pieces
from tenclip_ui.answers import line
from tenclip_ui.link import ServerLink
from tenclip_ui.media import PlayableVideos
from tenclip_ui.settings import PageSettings
from tenclip_ui.streamed import Running, StreamedEndpoint, length_of
from tenclip_ui.upload import UploadBody
from tenclip_ui.visitors import client_of

NUM_NEIGHBOURS = 12


async def indexes_of(client: AsyncClient) -> list[dict[str, Any]]:
    """The indexes of the server; none of one that is older than they are, nor of one that does not say."""
    try:
        return [{"name": i.name, "clips": i.clips, "videos": i.videos} for i in await client.list_indexes()]
    except TenclipError:
        return []


class Similar(StreamedEndpoint):
    """`POST /api/similar`: a video as the body, its nearest videos as JSON, each with its nearest clip."""

    def __init__(self, link: ServerLink, running: Running, settings: PageSettings, videos: PlayableVideos) -> None:
        super().__init__(link, running)
        self._settings, self._videos = settings, videos

    async def respond(self, request: Request, body: UploadBody, send: Send) -> None:
        client, query = client_of(request, self.link, self._settings), request.query_params
        answer = await client.similar(
            Pieces(length_of(request.headers), body.read),
            name=query.get("name") or "upload",
            index=query.get("index", ""),
            k=NUM_NEIGHBOURS,
            by_video=True,
        )
        found = await asyncio.to_thread(lambda: [self._neighbour(n) for n in answer.neighbours])
        index = {"name": answer.index.name, "clips": answer.index.clips, "videos": answer.index.videos}
        answered = line({"neighbours": found, "index": index})
        await Response(answered, media_type="application/json")(request.scope, _nothing, send)

    def _neighbour(self, neighbour: Neighbour) -> dict[str, Any]:
        """Without the path that the index has of it."""
        return {
            "name": re.split(r"[/\\]", neighbour.video)[-1],
            "score": neighbour.score,
            "start_seconds": neighbour.start_seconds,
            "end_seconds": neighbour.end_seconds,
            "query_start_seconds": neighbour.query_clip.start_seconds,
            "query_end_seconds": neighbour.query_clip.end_seconds,
            "labels": list(neighbour.labels),
            "play": self._videos.id_of(neighbour.video),
        }


class PlayVideo:
    """`GET /videos/ID`: a neighbour, or the part of it that a Range header asks for, to whoever was told its number."""

    def __init__(self, videos: PlayableVideos) -> None:
        self._videos = videos

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response: Response = self._response(scope["path_params"]["id"])
        except VideoNotFound as err:
            response = JSONResponse({"error": err.message}, 404)
        await response(scope, receive, send)

    def _response(self, id: str) -> FileResponse:
        return self._videos.response(id)


async def _nothing() -> Any:
    raise RuntimeError("the body has been read")
