"""The routes as one Starlette application over the engine of a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from tenclip_api.errors import InvalidRequest
from tenclip_api.host_names import HostNames
from tenclip_serving.api.servicer import SERVICE
from tenclip_serving.engine import Engine
from tenclip_serving.http.call import JSON, Call
from tenclip_serving.http.docs_page import CONTENT_SECURITY_POLICY, docs_page
from tenclip_serving.http.endpoint import Endpoint, Handler, Surroundings
from tenclip_serving.http.open_inference import HttpOpenInference
from tenclip_serving.http.openapi import openapi
from tenclip_serving.http.problems import Refused, encode
from tenclip_serving.http.recognition import HttpRecognition
from tenclip_serving.http.routes import HEALTH, OPERATIONS, REFLECTION
from tenclip_serving.models.manager import ModelManager
from tenclip_serving.security.auth import Tokens
from tenclip_serving.telemetry.call_records import CallRecords
from tenclip_serving.telemetry.tracing import Tracing


def create_app(
    engine: Engine,
    *,
    tokens: Tokens | None,
    tracing: Tracing | None,
    manager: Callable[[], ModelManager],
    is_ready: Callable[[], bool],
    working: Callable[[], AbstractContextManager[None]],
) -> Starlette:
    """manager, is_ready, working: as for `OpenInference`."""
    config = engine.config
    surroundings = Surroundings(
        records=CallRecords(engine.metrics, "http"),
        admission=engine.admission,
        tokens=tokens,
        reflection=config.reflection,
        working=working,
        models=config.directory,
        host_names=HostNames(config.host, config.browser_names),
        tracing=tracing,
        write_seconds=min(config.upload_idle_seconds, config.max_request_seconds),
    )
    recognition = HttpRecognition(engine)
    inference = HttpOpenInference(engine, manager=manager, is_ready=is_ready, working=working)
    routes = []
    for operation in OPERATIONS:
        of = inference if operation.service != SERVICE else recognition
        endpoint = Endpoint(
            getattr(of, operation.handler),
            surroundings,
            rpc=operation.rpc,
            gated=operation.gated,
            quiet=operation.quiet,
            route=operation.path,
            v2=operation.is_v2,
        )
        routes.append(Route(operation.path, endpoint, methods=[operation.verb]))
    if config.reflection != "off":
        routes += _described(surroundings)
    # Without redirects: they would take the name of this server from the request.
    app = Starlette(routes=routes, exception_handlers={HTTPException: cast(Any, partial(_nowhere, surroundings))})
    app.router.redirect_slashes = False
    return app


def _described(surroundings: Surroundings) -> list[Route]:
    """/openapi.json and /docs, under the rule for gRPC's reflection."""
    document = encode(openapi(OPERATIONS, with_tokens=surroundings.tokens is not None))
    page = docs_page(OPERATIONS).encode()

    def route(path: str, body: bytes, media_type: str, headers: Mapping[str, str]) -> Route:
        async def show(call: Call) -> None:
            await call.body.expect_none()
            await call.answer(body, media_type, headers=headers)

        endpoint = Endpoint(show, surroundings, rpc=f"/{REFLECTION}/Describe", quiet=True)
        return Route(path, endpoint, methods=["GET"])

    policy = {"content-security-policy": CONTENT_SECURITY_POLICY, "referrer-policy": "no-referrer"}
    return [
        route("/openapi.json", document, JSON, {}),
        route("/docs", page, "text/html; charset=utf-8", policy),
    ]


async def _nowhere(surroundings: Surroundings, request: Any, error: Exception) -> Endpoint:
    """The answer to a path or a verb that there is not."""
    assert isinstance(error, HTTPException)
    path, verb = str(request.scope["path"])[:100], str(request.scope["method"])[:20]
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        message = f"{path} is not for {verb}; it takes {headers.get('allow', 'another method')}"
    else:
        message = f"there is nothing at {path}; /docs says what there is"

    async def refuse(call: Call) -> None:
        raise Refused(error.status_code, InvalidRequest(message), **headers)

    handler: Handler = refuse
    return Endpoint(handler, surroundings, rpc=f"/{HEALTH}/Unknown", v2=path.startswith("/v2"))
