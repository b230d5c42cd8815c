"""Traces for OpenTelemetry: a span for each request, one for each of its stages below it. Needs tenclip[otel].

Where they go, which are kept and what the service is called is said by the variables of OpenTelemetry itself
(OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES ...). Nothing of it is
imported before `Tracing` is made, and a `stage` without it is one look at a variable.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

import grpc

from tenclip_api.errors import MissingDependency
from tenclip_api.proxies import route_to
from tenclip_serving.telemetry.logs import REQUEST_ID, TRACE_ID, log

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_TRACER: ContextVar[Tracer | None] = ContextVar("tracer", default=None)
_OFF: AbstractContextManager[Any] = nullcontext()
# Probes and tools, every few seconds: they would be most of all spans, and say nothing.
_UNTRACED = ("/grpc.health.", "/grpc.reflection.")
# Codes that are a server's fault; the others are the caller's, and no error of this span (OpenTelemetry's rule).
_OUR_FAULT = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
_LAST_SECONDS = 3.0
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def stage(name: str, **attributes: str | int | float) -> AbstractContextManager[Any]:
    """A span of this request's trace while the context lasts, or nothing where there is no trace."""
    tracer = _TRACER.get()
    if tracer is None:
        return _OFF
    return tracer.start_as_current_span(name, attributes={f"tenclip.{k}": v for k, v in attributes.items()})


class Tracing:
    """Spans of one server, sent in the background until `close`. Raises MissingDependency.

    provider: instead of the one that the environment describes.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        try:
            self._provider = provider or _provider()
        except ImportError as err:
            package = (err.name or "opentelemetry").partition(".")[0]
            raise MissingDependency(f"--tracing needs {package}: pip install 'tenclip[otel]'") from None
        self._tracer = self._provider.get_tracer("tenclip_serving")
        self.interceptor = TracingInterceptor(self._tracer)

    def http_request(
        self, verb: str, route: str, sent: Mapping[str, str], outcome: Callable[[], tuple[str, int]]
    ) -> AbstractContextManager[None]:
        """The span of one HTTP request. sent: its headers. outcome: its gRPC code and its status, asked at the end."""

        def said(guess: str) -> tuple[str, Mapping[str, Any]]:
            code, status = outcome()
            return (guess if code == "OK" else code), ({"http.response.status_code": status} if status else {})

        attributes = {"http.request.method": verb, "http.route": route}
        return _request_span(self._tracer, f"{verb} {route}", sent, attributes, said)

    async def close(self) -> None:
        """Sends what is left, and gives up soon: a collector that is gone must not hold the server for its retries."""
        sending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, _LAST_SECONDS)
        if sending.is_alive():
            log(logging.WARNING, "the last traces could not be sent in time", seconds=_LAST_SECONDS)


def _provider() -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # What is in the environment wins over this name.
    resource = Resource({"service.name": "tenclip"}).merge(_resource_of_environment())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(channel_options=_collector_options())))
    return provider


def _collector_options() -> Any:
    """Channel options for a collector on this machine or in no_proxy: gRPC would ask http_proxy for it."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = next((os.environ[n] for n in names if os.environ.get(n)), "http://localhost:4317")
    route = route_to(urlsplit(endpoint).netloc or endpoint)
    return route.options if route.proxy is None else None


def _resource_of_environment() -> Any:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    # Resource.create would call us unknown_service where the environment is silent.
    return OTELResourceDetector().detect().merge(Resource({}))


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Goes before all others, so that refusals are traced, too."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MethodHandler:
        path = str(handler_call_details.method)
        handler: Any = await continuation(handler_call_details)
        if handler is None or path.startswith(_UNTRACED):
            return cast(MethodHandler, handler)
        sent = {k: v for k, v in handler_call_details.invocation_metadata or () if isinstance(v, str)}
        sides = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if streaming else "unary" for streaming in sides)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrap = self._wrap_generator if inspect.isasyncgenfunction(getattr(handler, kind)) else self._wrap
        call = wrap(getattr(handler, kind), path, sent)
        return cast(MethodHandler, make(call, handler.request_deserializer, handler.response_serializer))

    def _wrap(self, handler: Any, path: str, sent: Mapping[str, str]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            with self._span(path, sent, context):
                return await handler(request, context)

        return call

    def _wrap_generator(
        self, handler: Any, path: str, sent: Mapping[str, str]
    ) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._span(path, sent, context):
                async with aclosing(handler(request, context)) as answers:
                    async for answer in answers:
                        yield answer

        return call

    def _span(self, path: str, sent: Mapping[str, str], context: Context) -> AbstractContextManager[None]:
        service, _, method = path.removeprefix("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}

        def outcome(fallback: str) -> tuple[str, Mapping[str, Any]]:
            code = _code(context)
            code = fallback if code == "OK" else code
            return code, {"rpc.grpc.status_code": _number(code)}

        return _request_span(self._tracer, f"{service}/{method}", sent, attributes, outcome)


@contextmanager
def _request_span(
    tracer: Tracer,
    name: str,
    sent: Mapping[str, str],
    attributes: Mapping[str, str],
    outcome: Callable[[str], tuple[str, Mapping[str, Any]]],
) -> Iterator[None]:
    """The span of one request, below the caller's own where `sent` names one.

    outcome: called at the end, with a guess at the gRPC code; the code, and attributes that say it.
    """
    from opentelemetry import context as trace_context
    from opentelemetry import propagate
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

    span = tracer.start_span(name, context=propagate.extract(sent), kind=SpanKind.SERVER, attributes={**attributes})
    # Never detached: the context is this request's own and ends with it, and a stream whose caller hangs up may be
    # closed from another one, where it could not be.
    trace_context.attach(set_span_in_context(span))
    TRACE_ID.set(f"{span.get_span_context().trace_id:032x}")
    _TRACER.set(tracer)
    guess = "OK"
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        guess = "CANCELLED"
        raise
    except Exception:  # an abort is one, too: then the context has its status
        guess = "UNKNOWN"
        raise
    finally:
        code, said = outcome(guess)
        span.set_attributes({**said})
        if request_id := REQUEST_ID.get():
            span.set_attribute("tenclip.request_id", request_id)
        if code in _OUR_FAULT:
            span.set_status(Status(StatusCode.ERROR, code))
        span.end()


def _code(context: Context) -> str:
    """gRPC gives a number, or the status itself where the handler set one."""
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _NAMES.get(code or 0, "UNKNOWN")


def _number(code: str) -> int:
    number: int = grpc.StatusCode[code].value[0]
    return number
