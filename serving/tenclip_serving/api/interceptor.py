"""One place that gives every RPC of ours its id, its status code, its log line and its metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias, cast

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from tenclip_api.errors import DeadlineExceeded, DecodeWorkerDied, InvalidRequest, Overloaded, TenclipError
from tenclip_api.wire import REASON_KEY, REQUEST_ID_KEY, RETRY_AFTER_KEY, RETRY_PUSHBACK_KEY
from tenclip_serving.api.message_limits import check_parts, request_type
from tenclip_serving.telemetry.call_records import CallRecords, why_cancelled
from tenclip_serving.telemetry.logs import REQUEST_ID, TRACE_ID, log, new_request_id, trace_id_of
from tenclip_serving.telemetry.metrics import Metrics

# A status message travels in a header, and clients refuse headers beyond 8 KiB in all.
_MAX_MESSAGE_BYTES = 4000
# A smaller request is parsed in no time.
_LARGE_REQUEST_BYTES = 256 << 10
# A server that stops waits no longer for the message of an RPC that it has accepted.
_MAX_ARRIVAL_SECONDS = 5.0
# To say how an RPC ended takes as long as the caller reads what came before.
_MAX_ABORT_SECONDS = 5.0
# When a caller hangs up, its request ends first, and the call is cancelled a moment later.
_HANG_UP_SECONDS = 0.1

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Handler = Callable[[Any, Context], Awaitable[Any]]
Parse = Callable[[bytes], Any]

# Paths of the services that are wrapped, which every server has.
OURS = ("/tenclip.", "/inference.")
_HEALTH = "/grpc.health."
# Whether the response is a stream -> what makes such a method. Requests always are one to gRPC: it reads the message of
# another one before it calls anything, and waits for it without an end; that of a stream when it is asked for.
_MAKERS: dict[bool, Callable[..., Any]] = {
    False: grpc.stream_unary_rpc_method_handler,
    True: grpc.stream_stream_rpc_method_handler,
}


class Gate(Protocol):
    """Asked before a large request is read; `Admission` is one. Each method raises where the request is refused."""

    def check_arrival(self, seconds_left: float | None) -> None:
        """Called before any of it is read. seconds_left: until the caller's deadline, if any."""

    def arriving(self, seconds_left: float | None, *, upload: bool) -> AbstractAsyncContextManager[None]:
        """The same, and its first message is read within. upload: others follow."""

    def streaming(self) -> AbstractContextManager[None]:
        """One of a method whose streams may stay open and idle: it is open within. Asked before any of it is read."""

    def check(self, num_bytes: int) -> None:
        """Called before `num_bytes` are parsed."""


@dataclass
class _Seen:
    """Messages and bytes that have come in for one RPC so far."""

    num_bytes: int = 0


class _Held:
    """The message of a request, until it is parsed: nothing else must keep a video in memory twice.

    None is in it for a stream of which nothing has been read.
    """

    def __init__(self, raw: bytes | None) -> None:
        self._raw = [raw]

    def take(self) -> bytes | None:
        """Once."""
        return self._raw.pop()


@dataclass(frozen=True, kw_only=True)
class _Rpc:
    """Properties of one method."""

    method: str
    handler: Any
    parse: Parse
    kind: Descriptor | None  # of its messages
    one_message: bool
    open_ended: bool
    gate: Gate | None


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps the methods of services whose name begins with `tenclip.` or `inference.`.

    A TenclipError becomes its `grpc_status`, its message, and `tenclip-reason` in the trailing metadata. Anything else
    becomes INTERNAL with nothing but the request id, by which the log has the traceback. Every answer, good or bad,
    carries `tenclip-request-id`: the caller's own where it sent one. A stream counts as one RPC; methods that answer
    with a stream are asynchronous generators.
    gate: asked by the methods `gated` (their paths) before the request is read, and again before a large one is parsed.
    To read a video is most of what it costs to refuse it, and to parse it copies it and holds up everyone.
    arrival_seconds: for the message of an RPC that no gate is asked for, health's included: what has come in of it is
    held, as large as it may be. write_seconds: the longest that a caller may leave an answer of a stream unread.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        gate: Gate | None = None,
        gated: Collection[str] = (),
        arrival_seconds: float = 60.0,
        write_seconds: float = 30.0,
    ) -> None:
        self._metrics = metrics
        self._arrival_seconds = arrival_seconds
        self._write_seconds = write_seconds
        self._gate = gate
        self._gated = frozenset(gated)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # By path: the handler and what it is wrapped in.
        self._wrapped: dict[str, tuple[Any, MethodHandler]] = {}
        self._records = CallRecords(metrics, "grpc")
        # Tasks of RPCs that gRPC has accepted and whose message is still on its way, by when that was; oldest first.
        self._arriving: dict[object, float] = {}

    async def quiet(self, seconds: float) -> None:
        """Returns when no RPC of ours has been worked on for so long, and none is on its way to its handler.

        That long because an answer is still to be sent when its handler has returned.
        """
        while True:
            await self._idle.wait()
            await asyncio.sleep(seconds)
            self._forget_arrivals()
            if self._in_flight == 0 and not self._arriving:
                return

    def _arrives(self) -> None:
        self._forget_arrivals()
        self._arriving[asyncio.current_task()] = time.monotonic()

    def _has_arrived(self) -> None:
        self._arriving.pop(asyncio.current_task(), None)

    def _forget_arrivals(self) -> None:
        """Those whose callers hung up before their message was here: nobody tells."""
        before = time.monotonic() - _MAX_ARRIVAL_SECONDS
        while self._arriving and self._arriving[oldest := next(iter(self._arriving))] < before:
            del self._arriving[oldest]

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """An RPC is being worked on. One that may be open and idle, as ModelStreamInfer, says so itself."""
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

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MethodHandler:
        handler: Any = await continuation(handler_call_details)
        path = handler_call_details.method
        ours = path.startswith(OURS)
        if handler is None or not (ours or path.startswith(_HEALTH)):
            return cast(MethodHandler, handler)
        if ours:
            self._arrives()
        known = self._wrapped.get(path)
        if known is None or known[0] is not handler:
            wrapped = self._wrap_handler(handler, path) if ours else self._wrap_health(handler)
            known = self._wrapped[path] = handler, wrapped
        return known[1]

    def _wrap_handler(self, handler: Any, path: str) -> MethodHandler:
        rpc = _Rpc(
            method=path.rpartition("/")[2],
            handler=handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream,
            parse=handler.request_deserializer,
            kind=request_type(path),
            one_message=not handler.request_streaming,
            # Ours end by themselves: an upload, and the clips of it.
            open_ended=handler.request_streaming and handler.response_streaming and not path.startswith("/tenclip."),
            gate=self._gate if path in self._gated else None,
        )
        call = self._wrap_stream(rpc) if handler.response_streaming else self._wrap(rpc)
        # Without a deserializer the wrapped method gets the bytes: gRPC itself would answer a malformed message with
        # INTERNAL and no id.
        make = _MAKERS[handler.response_streaming]
        return cast(MethodHandler, make(call, None, handler.response_serializer))

    def _wrap_health(self, handler: Any) -> MethodHandler:
        """Check and Watch, and what else has one message in a request: it is read here, within `arrival_seconds`."""
        if handler.request_streaming:
            return cast(MethodHandler, handler)
        answer = handler.unary_stream if handler.response_streaming else handler.unary_unary

        async def call(_: AsyncIterator[bytes], context: Context) -> Any:
            try:
                request = handler.request_deserializer(await self._read(context))
            except TenclipError as err:
                await context.abort(grpc.StatusCode[err.grpc_status], err.message)
            except DecodeError as err:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(err))
            return await answer(request, context)

        make = _MAKERS[handler.response_streaming]
        return cast(MethodHandler, make(call, None, handler.response_serializer))

    def _wrap(self, rpc: _Rpc) -> Handler:
        async def call(_: AsyncIterator[bytes], context: Context) -> Any:
            await self._refuse_early(rpc, context)
            async with self._observed(context, rpc.method) as seen:
                arrived = _Held(await self._arrived(rpc, context))
                with self.in_flight():
                    return await rpc.handler(self._parsed(arrived, rpc, context, seen), context)

        return call

    def _wrap_stream(self, rpc: _Rpc) -> Handler:
        # Not a generator: when the caller goes while an answer is written, gRPC leaves a generator where it stands,
        # with all that it holds, until it is collected. This one is closed here and now.
        async def call(_: AsyncIterator[bytes], context: Context) -> None:
            await self._refuse_early(rpc, context)
            async with self._observed(context, rpc.method) as seen:
                arrived = _Held(await self._arrived(rpc, context))
                with self._held_open(rpc):
                    async with aclosing(rpc.handler(self._parsed(arrived, rpc, context, seen), context)) as answers:
                        async for answer in answers:
                            await self._write(answer, context)

        return call

    def _held_open(self, rpc: _Rpc) -> AbstractContextManager[None]:
        """What an RPC of a stream counts as while it is open."""
        if not rpc.open_ended:
            return self.in_flight()
        return nullcontext() if rpc.gate is None else rpc.gate.streaming()

    async def _arrived(self, rpc: _Rpc, context: Context) -> bytes | None:
        """The message, or the first of a stream, if the gate lets it in; None for a stream without a gate at its start.

        Raises InvalidRequest where there is none, DeadlineExceeded where it does not come.
        """
        try:
            if rpc.open_ended or (rpc.gate is None and not rpc.one_message):
                return None
            if rpc.gate is None:
                return await self._read(context)
            async with rpc.gate.arriving(context.time_remaining(), upload=not rpc.one_message):
                message = await context.read()
            return await _there(message)
        finally:
            self._has_arrived()

    async def _read(self, context: Context) -> bytes:
        """The one message of a request. Raises InvalidRequest where there is none, DeadlineExceeded."""
        try:
            async with asyncio.timeout(self._arrival_seconds):
                message = await context.read()
        except TimeoutError as err:
            raise DeadlineExceeded(f"the request was not here after {self._arrival_seconds:g} seconds") from err
        return await _there(message)

    async def _refuse_early(self, rpc: _Rpc, context: Context) -> None:
        """End a call that the gate refuses."""
        if rpc.gate is None:
            return
        try:
            if not rpc.open_ended:
                rpc.gate.check_arrival(context.time_remaining())
                return
            with rpc.gate.streaming():
                return
        except TenclipError as err:
            error = err
        self._has_arrived()
        request_id = _start(context)
        self._records.refused(rpc.method, error)
        metadata = ((REASON_KEY, error.reason), (REQUEST_ID_KEY, request_id), *_retry_advice(error))
        await context.abort(grpc.StatusCode[error.grpc_status], error.message, metadata)

    @asynccontextmanager
    async def _observed(self, context: Context, method: str) -> AsyncIterator[_Seen]:
        """Id, status, log line and metrics of the RPC that is answered within."""
        request_id = _start(context)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        started = time.perf_counter()
        code, error, seen = grpc.StatusCode.OK, None, _Seen()
        try:
            yield seen
            return
        except TenclipError as err:
            code, error = grpc.StatusCode[err.grpc_status], err
        except asyncio.CancelledError:
            code = grpc.StatusCode[why_cancelled(context.time_remaining())]
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            log(logging.ERROR, "internal error", exc_info=True, method=method)
        finally:
            self._records.answered(method, code.name, error, time.perf_counter() - started, seen.num_bytes)
        message = f"internal error, request id {request_id}" if error is None else error.message
        reason = "SERVER_ERROR" if error is None else error.reason
        metadata = ((REASON_KEY, reason), (REQUEST_ID_KEY, request_id), *_retry_advice(error))
        try:
            async with asyncio.timeout(_MAX_ABORT_SECONDS):
                await context.abort(code, _shorten(message), metadata)
        except TimeoutError:
            raise asyncio.CancelledError from None  # behind an answer that the caller does not read; gRPC ends the call

    async def _write(self, answer: Any, context: Context) -> None:
        """Raises DeadlineExceeded when the caller does not read: what it asked for is held meanwhile."""
        try:
            async with asyncio.timeout(self._write_seconds):
                await context.write(answer)
        except TimeoutError as err:
            raise DeadlineExceeded(f"the caller has not read its answers for {self._write_seconds:g} seconds") from err

    def _parsed(self, arrived: _Held, rpc: _Rpc, context: Context, seen: _Seen) -> Any:
        """The message, or the stream of messages. Raises InvalidRequest for bytes that are none."""
        if not rpc.one_message:
            return _Messages(arrived, rpc, context, seen)
        raw = arrived.take()
        assert raw is not None
        seen.num_bytes = len(raw)
        if rpc.gate is not None and len(raw) >= _LARGE_REQUEST_BYTES:
            rpc.gate.check(len(raw))
        return _parse(raw, rpc)


async def _there(message: object) -> bytes:
    """What was read of a call, unless that is its end. Raises InvalidRequest."""
    if not isinstance(message, bytes):
        await asyncio.sleep(_HANG_UP_SECONDS)  # cancelled here, if the caller has hung up
        raise InvalidRequest("the call ended without its first message")
    return message


def _start(context: Context) -> str:
    """The id of the RPC, which its log lines have from now on, with that of its trace."""
    sent = _metadata(context)
    request_id = new_request_id(sent.get(REQUEST_ID_KEY))
    REQUEST_ID.set(request_id)
    TRACE_ID.set(TRACE_ID.get() or trace_id_of(sent.get("traceparent")))
    return request_id


def _retry_advice(error: TenclipError | None) -> tuple[tuple[str, str], ...]:
    """Trailing metadata for clients that retry by themselves."""
    if isinstance(error, DecodeWorkerDied):
        # This video killed its decoder; gRPC's own retry policy would have it kill some more.
        return ((RETRY_PUSHBACK_KEY, "-1"),)
    if isinstance(error, Overloaded) and error.retry_after_seconds is not None:
        return ((RETRY_AFTER_KEY, f"{error.retry_after_seconds:.3f}"),)
    return ()


class _Messages:
    """The messages of a stream, parsed. gRPC's own iterator, and a generator over it, keep each till the next is here.

    On a stream that stands idle that may be for days. first: that which has been read before.
    """

    def __init__(self, first: _Held, rpc: _Rpc, context: Context, seen: _Seen) -> None:
        self._first: _Held | None = first
        self._rpc, self._context, self._seen = rpc, context, seen

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Raises InvalidRequest for bytes that are no message."""
        first, self._first = self._first, None
        message = None if first is None else first.take()
        if message is None:
            message = await self._context.read()
        if not isinstance(message, bytes):
            raise StopAsyncIteration
        self._seen.num_bytes += len(message)
        return _parse(message, self._rpc)


def _parse(raw: bytes, rpc: _Rpc) -> Any:
    if rpc.kind is not None and len(raw) >= _LARGE_REQUEST_BYTES:
        check_parts(raw, rpc.kind)
    try:
        return rpc.parse(raw)
    except DecodeError as err:
        raise InvalidRequest(f"the request is not a valid protobuf message: {err}") from err


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _shorten(message: str) -> str:
    """Cut to what fits a header, in which every byte but printable ASCII takes three."""
    message = message.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates from names of files
    size = 0
    for i, char in enumerate(message):
        size += 1 if char.isascii() and char.isprintable() else 3 * len(char.encode("utf-8"))
        if size > _MAX_MESSAGE_BYTES:
            return f"{message[:i]}..."
    return message
