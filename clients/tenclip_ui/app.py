"""The page as an ASGI application: its files, and what its scripts ask for."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tenclip_api.errors import TenclipError, VideoNotFound
from tenclip_ui.answers import error_response, model_body
from tenclip_ui.guard import Guard
from tenclip_ui.link import ServerLink
from tenclip_ui.media import MediaFolder, PlayableVideos
from tenclip_ui.neighbours import PlayVideo, Similar, indexes_of
from tenclip_ui.predict import Predict
from tenclip_ui.settings import PageSettings
from tenclip_ui.streamed import Running
from tenclip_ui.visitors import client_of, models_for

Handler = Callable[[ServerLink, PageSettings, Request], Awaitable[Response]]


def create_app(link: ServerLink, settings: PageSettings) -> ASGIApp:
    """The application. link: the server that it speaks to."""

    def api(path: str, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            try:
                return await handler(link, settings, request)
            except TenclipError as err:
                return error_response(link.without_address(err))

        return Route(path, answer, methods=["GET"])

    videos, running = PlayableVideos(settings.videos), Running()
    routes = [
        Route("/", _index, methods=["GET"]),
        Route("/favicon.ico", partial(_static, "icon.svg"), methods=["GET"]),
        Mount("/static", StaticFiles(directory=static_folder())),
        Route("/api/predict", Predict(link, running, settings), methods=["POST"]),
        Route("/api/similar", Similar(link, running, settings, videos), methods=["POST"]),
        Route("/videos/{id}", PlayVideo(videos), methods=["GET"]),
        api("/api/page", _page),
        api("/api/samples/{id}", _sample),
    ]
    return Guard(Starlette(routes=routes), settings)


def static_folder() -> Path:
    """The folder with the page's files, which is part of the package."""
    return Path(str(importlib.resources.files("tenclip_ui"))) / "static"


async def _index(request: Request) -> Response:
    return await _static("index.html", request)


async def _static(name: str, request: Request) -> Response:
    return FileResponse(static_folder() / name)


async def _page(link: ServerLink, settings: PageSettings, request: Request) -> Response:
    """What the page begins with. Models that could not be loaded are the operator's business."""
    models = await models_for(request, link, settings)
    samples = [] if settings.samples is None else MediaFolder(settings.samples).list()
    return JSONResponse(
        {
            "version": importlib.metadata.version("tenclip"),
            "models": [model_body(model) for model in models],
            "samples": [{"id": sample.id, "name": sample.name} for sample in samples],
            "max_upload_bytes": settings.max_upload_bytes,
            "indexes": await indexes_of(client_of(request, link, settings)),
        }
    )


async def _sample(link: ServerLink, settings: PageSettings, request: Request) -> Response:
    await models_for(request, link, settings)
    if settings.samples is None:
        raise VideoNotFound("this page has no samples")
    return MediaFolder(settings.samples).response(request.path_params["id"])
