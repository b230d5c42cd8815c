"""One place that gives every RPC of ours its id, its status code, its log line and its metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from tenclip_api.errors import DecodeWorkerDied, InvalidRequest, Overloaded, TenclipError
from tenclip_serving.logs import REQUEST_ID, TRACE_ID, log, new_request_id, trace_id_of
from tenclip_serving.metrics import Metrics

REASON_KEY = "tenclip-reason"
REQUEST_ID_KEY = "tenclip-request-id"
RETRY_AFTER_KEY = "tenclip-retry-after-seconds"
# Bytes. A status message travels in a header, and clients refuse headers beyond 8 KiB in all.
_MAX_MESSAGE = 4000
# Bytes. A smaller request is parsed in no time.
_LARGE_REQUEST = 256 << 10

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Handler = Callable[[Any, Context], Awaitable[Any]]


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps the unary methods of services whose name begins with `tenclip.`.

    A TenclipError becomes its `grpc_status`, its message, and `tenclip-reason` in the trailing metadata. Anything else
    becomes INTERNAL with nothing but the request id, by which the log has the traceback. Every answer, good or bad,
    carries `tenclip-request-id`: the caller's own where it sent one.
    check_size: called with the bytes of a large request before it is parsed; it raises what refuses it. Parsing copies
    the video and holds up everyone, which is too dear for a request that is then refused.
    """

    def __init__(self, metrics: Metrics, *, check_size: Callable[[int], None] | None = None) -> None:
        self._metrics = metrics
        self._check_size = check_size or (lambda num_bytes: None)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Returns when no RPC of ours is being worked on."""
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MethodHandler:
        handler: Any = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or handler.unary_unary is None or not path.startswith("/tenclip."):
            return cast(MethodHandler, handler)
        call = self._wrap(handler.unary_unary, handler.request_deserializer, method=path.rpartition("/")[2])
        # Without a deserializer the wrapped method gets the bytes: gRPC itself would answer a malformed message with
        # INTERNAL and no id.
        return grpc.unary_unary_rpc_method_handler(call, None, handler.response_serializer)

    def _wrap(self, handler: Handler, parse: Callable[[bytes], Any], *, method: str) -> Handler:
        async def call(raw: bytes, context: Context) -> Any:
            sent = _metadata(context)
            request_id = new_request_id(sent.get(REQUEST_ID_KEY))
            REQUEST_ID.set(request_id)
            TRACE_ID.set(TRACE_ID.get() or trace_id_of(sent.get("traceparent")))
            context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
            started = time.perf_counter()
            code, error = grpc.StatusCode.OK, None
            try:
                with self._in_flight_for_now():
                    if len(raw) >= _LARGE_REQUEST:
                        self._check_size(len(raw))
                    return await handler(_parse(raw, parse), context)
            except TenclipError as err:
                code, error = grpc.StatusCode[err.grpc_status], err
            except asyncio.CancelledError:
                code = _why_cancelled(context)
                raise
            except Exception:
                code = grpc.StatusCode.INTERNAL
                log(logging.ERROR, "internal error", exc_info=True, method=method)
            finally:
                self._record(method, code, error, time.perf_counter() - started, len(raw))
            message = f"internal error, request id {request_id}" if error is None else error.message
            reason = "SERVER_ERROR" if error is None else error.reason
            metadata = ((REASON_KEY, reason), (REQUEST_ID_KEY, request_id), *_retry_advice(error))
            return await context.abort(code, _shorten(message), metadata)

        return call

    @contextmanager
    def _in_flight_for_now(self) -> Iterator[None]:
        self._in_flight += 1
        self._idle.clear()
        self._metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)
            if self._in_flight == 0:
                self._idle.set()

    def _record(
        self, method: str, code: grpc.StatusCode, error: TenclipError | None, seconds: float, num_bytes: int
    ) -> None:
        self._metrics.requests.labels(method, code.name).inc()
        self._metrics.request_seconds.labels(method).observe(seconds)
        fields: dict[str, Any] = {"method": method, "code": code.name, "seconds": round(seconds, 4), "bytes": num_bytes}
        if error is not None:
            fields |= {"reason": error.reason, "error": error.message}
        log(logging.INFO, "rpc", **fields)


def _retry_advice(error: TenclipError | None) -> tuple[tuple[str, str], ...]:
    """What a client that retries by itself should know."""
    if isinstance(error, DecodeWorkerDied):
        # This video killed its decoder; gRPC's own retry policy would have it kill some more.
        return (("grpc-retry-pushback-ms", "-1"),)
    if isinstance(error, Overloaded) and error.retry_after_seconds is not None:
        return ((RETRY_AFTER_KEY, f"{error.retry_after_seconds:.3f}"),)
    return ()


def _parse(raw: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(raw)
    except DecodeError as err:
        raise InvalidRequest(f"the request is not a valid protobuf message: {err}") from err


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _why_cancelled(context: Context) -> grpc.StatusCode:
    remaining = context.time_remaining()
    expired = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED


def _shorten(message: str) -> str:
    """Cut to what fits a header, in which every byte but printable ASCII takes three."""
    message = message.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates from names of files
    size = 0
    for i, char in enumerate(message):
        size += 1 if char.isascii() and char.isprintable() else 3 * len(char.encode("utf-8"))
        if size > _MAX_MESSAGE:
            return f"{message[:i]}..."
    return message
