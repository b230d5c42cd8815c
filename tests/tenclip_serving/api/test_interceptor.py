"""Errors, ids and metrics of RPCs, against a server in this process whose methods fail as asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tenclip_api.errors import InvalidRequest, Overloaded, TenclipError, error_classes
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_serving.api.interceptor import Gate, Interceptor
from tenclip_serving.intake.admission import Admission
from tenclip_serving.telemetry.logs import REQUEST_ID
from tenclip_serving.telemetry.metrics import Metrics

LIST_MODELS = "/tenclip.v1.VideoRecognition/ListModels"
Answer = Callable[[pb.ListModelsRequest], Awaitable[pb.ListModelsResponse]]


class Servicer(tenclip_pb2_grpc.VideoRecognitionServicer):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:
        return await self.answer(request)

    async def Predict(self, request: Any, context: Any) -> pb.PredictResponse:
        raise NotImplementedError

    async def ExtractFeatures(self, request: Any, context: Any) -> pb.ExtractFeaturesResponse:
        raise NotImplementedError

    async def GetModel(self, request: Any, context: Any) -> pb.GetModelResponse:
        raise NotImplementedError


@contextlib.asynccontextmanager
async def serving(answer: Answer, *, gate: Gate | None = None) -> AsyncIterator[tuple[grpc.aio.Channel, Metrics]]:
    metrics = Metrics()
    server = grpc.aio.server(interceptors=[Interceptor(metrics, gate=gate, gated={LIST_MODELS})])
    servicer = Servicer(answer)  # type: ignore[abstract]  # not all methods
    tenclip_pb2_grpc.add_VideoRecognitionServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, metrics
    finally:
        await server.stop(None)


async def call(channel: grpc.aio.Channel, **options: Any) -> tuple[str, str, dict[str, str]]:
    """(code, message, trailing metadata) of ListModels."""
    rpc = tenclip_pb2_grpc.VideoRecognitionStub(channel).ListModels(pb.ListModelsRequest(), **options)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await rpc
    return (
        (await rpc.code()).name,
        await rpc.details() or "",
        {k: str(v) for k, v in await rpc.trailing_metadata() or ()},
    )


def raising(error: Exception) -> Answer:
    async def answer(request: Any) -> pb.ListModelsResponse:
        raise error

    return answer


async def good(request: Any) -> pb.ListModelsResponse:
    return pb.ListModelsResponse(failed=[pb.FailedModel(name=REQUEST_ID.get())])


def requests(metrics: Metrics, code: str) -> float:
    labels = {"method": "ListModels", "code": code, "transport": "grpc"}
    return metrics.registry.get_sample_value("tenclip_requests_total", labels) or 0.0


@pytest.mark.parametrize("kind", error_classes().values(), ids=lambda k: k.__name__)
def test_every_error_of_the_tree_has_its_status_and_reason(kind: type[TenclipError]) -> None:
    async def test() -> None:
        async with serving(raising(kind("said this"))) as (channel, metrics):
            code, message, metadata = await call(channel)
            assert (code, message) == (kind.grpc_status, "said this")
            assert metadata["tenclip-reason"] == kind.reason
            assert metadata["tenclip-request-id"]
            assert requests(metrics, kind.grpc_status) == 1

    asyncio.run(test())


def test_the_unforeseen_is_internal_and_tells_nothing_but_the_id(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(raising(KeyError("/secret/path"))) as (channel, metrics):
            code, message, metadata = await call(channel)
            assert code == "INTERNAL"
            assert message == f"internal error, request id {metadata['tenclip-request-id']}"
            assert metadata["tenclip-reason"] == "SERVER_ERROR"
            assert requests(metrics, "INTERNAL") == 1

    with caplog.at_level(logging.ERROR):
        asyncio.run(test())
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


def test_request_ids_are_the_callers_or_new() -> None:
    async def test() -> None:
        async with serving(good) as (channel, metrics):
            code, _, metadata = await call(channel, metadata=(("tenclip-request-id", "mine-1"),))
            assert (code, metadata["tenclip-request-id"]) == ("OK", "mine-1")
            _, _, replaced = await call(channel, metadata=(("tenclip-request-id", "not usable, too many words"),))
            _, _, fresh = await call(channel)
            assert len({replaced["tenclip-request-id"], fresh["tenclip-request-id"], "mine-1"}) == 3
            assert requests(metrics, "OK") == 3
            stub = tenclip_pb2_grpc.VideoRecognitionStub(channel)
            answered = await stub.ListModels(pb.ListModelsRequest(), metadata=(("tenclip-request-id", "inside"),))
            assert answered.failed[0].name == "inside"

    asyncio.run(test())


def test_a_malformed_message_is_the_callers_fault() -> None:
    async def test() -> None:
        async with serving(good) as (channel, _):
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/tenclip.v1.VideoRecognition/ListModels"
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(b"\xff\xff\xff")
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "not a valid protobuf message" in (caught.value.details() or "")
            assert (await call(channel))[0] == "OK"

    asyncio.run(test())


def test_a_long_message_is_shortened_so_that_it_arrives() -> None:
    async def test() -> None:
        async with serving(raising(InvalidRequest("ä" * 100_000))) as (channel, _):
            code, message, metadata = await call(channel)
            assert code == "INVALID_ARGUMENT"
            assert message.startswith("ää")
            assert message.endswith("...")
            assert metadata["tenclip-reason"] == "INVALID_REQUEST"

    asyncio.run(test())


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_cancelled_and_late_requests_are_counted_as_what_they_are(how: str) -> None:
    async def test() -> None:
        started, ended = asyncio.Event(), asyncio.Event()

        async def forever(request: Any) -> pb.ListModelsResponse:
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return pb.ListModelsResponse()

        async with serving(forever) as (channel, metrics):
            await channel.channel_ready()
            timeout = 2 if how == "deadline" else None
            rpc = tenclip_pb2_grpc.VideoRecognitionStub(channel).ListModels(pb.ListModelsRequest(), timeout=timeout)
            task = asyncio.ensure_future(rpc.code())
            await asyncio.wait_for(started.wait(), 60)
            if how == "cancel":
                rpc.cancel()
            code = (await task).name
            await asyncio.wait_for(ended.wait(), 60)
            await asyncio.sleep(0)
            assert code == ("CANCELLED" if how == "cancel" else "DEADLINE_EXCEEDED")
            # Where the call came to the server late, a caller that hangs up at its deadline is one that goes early.
            late = requests(metrics, "CANCELLED") if how == "deadline" else 0
            assert requests(metrics, code) + late == 1
            assert metrics.registry.get_sample_value("tenclip_requests_in_flight") == 0

    asyncio.run(test())


class Recorder:
    """A gate that writes down what it is asked, and refuses what it is told to."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.asked: list[str] = []

    def check_arrival(self, seconds_left: float | None) -> None:
        self._ask(f"arrival {'never' if seconds_left is None else 'in time'}")

    @contextlib.asynccontextmanager
    async def arriving(self, seconds_left: float | None, *, upload: bool) -> AsyncIterator[None]:
        yield
        self.asked.append("read")

    @contextlib.contextmanager
    def streaming(self) -> Iterator[None]:
        raise NotImplementedError
        yield

    def check(self, num_bytes: int) -> None:
        self._ask(f"{num_bytes} bytes")

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.refused:
            error = Overloaded("full")
            error.retry_after_seconds = 1.5
            raise error


def raw(channel: grpc.aio.Channel, message: bytes, **options: Any) -> Any:
    """A call of ListModels with these bytes."""
    method: Any = channel.unary_unary(LIST_MODELS)
    return method(message, **options)


async def refusal(rpc: Any) -> str:
    """The advice in the refusal of a call."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        await rpc
    assert await rpc.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    return str(dict(await rpc.trailing_metadata())["tenclip-retry-after-seconds"])


def test_a_large_request_is_judged_before_it_is_parsed() -> None:
    gate = Recorder("300000 bytes")

    async def test() -> None:
        async with serving(good, gate=gate) as (channel, _):
            assert await refusal(raw(channel, b"\xff" * 300_000)) == "1.500"
            assert (await call(channel))[0] == "OK"

    asyncio.run(test())
    assert gate.asked == ["arrival never", "read", "300000 bytes", "arrival never", "read"]


@pytest.mark.parametrize(
    "path",
    [LIST_MODELS, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"],
    ids=lambda p: p.split("/")[-1],
)
def test_a_message_that_does_not_come_is_not_waited_for(path: str) -> None:
    """Of methods that no gate is asked for; on the wire the same as a unary call whose message is on its way."""

    async def test() -> None:
        interceptor = Interceptor(Metrics(), arrival_seconds=0.3)
        server = grpc.aio.server(interceptors=[interceptor])
        tenclip_pb2_grpc.add_VideoRecognitionServicer_to_server(Servicer(good), server)  # type: ignore[abstract]
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            make: Any = channel.stream_stream if path.endswith("Watch") else channel.stream_unary
            silent = make(path)(timeout=60)
            assert await silent.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert await silent.details() == "the request was not here after 0.3 seconds"
            empty = make(path)(iter(()), timeout=60)
            assert await empty.code() == grpc.StatusCode.INVALID_ARGUMENT
            bad = make(path)(iter([b"\xff"]), timeout=60)
            assert await bad.code() == grpc.StatusCode.INVALID_ARGUMENT
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=60)
            watched = await anext(aiter(stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=60)))
            assert answer.status == watched.status == health_pb2.HealthCheckResponse.SERVING
            assert (await call(channel))[0] == "OK"
            await interceptor.quiet(0)
        await server.stop(None)

    asyncio.run(test())


def test_a_request_is_judged_before_it_is_read() -> None:
    gate = Recorder("arrival in time")

    async def test() -> None:
        async with serving(good, gate=gate) as (channel, metrics):
            # More than gRPC takes of a stream that nobody reads: the answer comes while most of it is on its way.
            assert await refusal(raw(channel, b"\xff" * (3 << 20), timeout=30)) == "1.500"
            assert requests(metrics, "RESOURCE_EXHAUSTED") == 1
            assert (await call(channel))[0] == "OK"

    asyncio.run(test())
    assert gate.asked == ["arrival in time", "arrival never", "read"]


def test_a_rush_of_refusals_is_counted_and_not_all_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(good, gate=Recorder("arrival in time")) as (channel, metrics):
            refusals = [call(channel, timeout=30, metadata=(("tenclip-request-id", f"r-{i}"),)) for i in range(100)]
            answers = await asyncio.gather(*refusals)
            assert {(code, message) for code, message, _ in answers} == {("RESOURCE_EXHAUSTED", "full")}
            assert {metadata["tenclip-request-id"] for _, _, metadata in answers} == {f"r-{i}" for i in range(100)}
            assert requests(metrics, "RESOURCE_EXHAUSTED") == 100
            await asyncio.sleep(1.1)
            await call(channel, timeout=30)
            # Nobody waits for those that were refused.
            assert (await call(channel))[0] == "OK"

    with caplog.at_level(logging.INFO):
        asyncio.run(test())
    lines: list[dict[str, Any]] = [getattr(r, "fields", {}) for r in caplog.records]
    fields = [f for f in lines if f.get("code") == "RESOURCE_EXHAUSTED"]
    assert 10 <= len(fields) < 100
    assert sum(1 + f.get("not_logged_before", 0) for f in fields) == 101


def test_a_call_that_ends_without_its_message_is_the_callers_fault() -> None:
    async def test() -> None:
        async with serving(good, gate=Recorder()) as (channel, metrics):
            empty: Any = channel.stream_unary(LIST_MODELS)(iter(()))
            with pytest.raises(grpc.aio.AioRpcError, match="without its first message"):
                await empty
            assert await empty.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert requests(metrics, "INVALID_ARGUMENT") == 1

    asyncio.run(test())


def test_a_caller_who_hangs_up_while_its_message_comes_leaves_nothing() -> None:
    gate = Recorder()

    async def test() -> None:
        async with asyncio.timeout(60), serving(good, gate=gate) as (channel, metrics):
            assert (await call(channel))[0] == "OK"
            endless: Any = channel.stream_unary(LIST_MODELS)()
            while gate.asked.count("arrival never") < 2:
                await asyncio.sleep(0.01)
            endless.cancel()
            while requests(metrics, "CANCELLED") != 1:
                await asyncio.sleep(0.01)
            assert (await call(channel))[0] == "OK"

    asyncio.run(test())


# -- streams ----------------------------------------------------------------------------------------------------------


class Echo:
    """Methods with streams, which answer with the text that they get; "fail" and "bug" do what they say."""

    @staticmethod
    def parse(raw: bytes) -> str:
        if raw == b"malformed":
            raise DecodeError("no message")
        return raw.decode()

    @staticmethod
    def answer(text: str) -> bytes:
        if text == "fail":
            raise InvalidRequest("said this")
        if text == "bug":
            raise RuntimeError("nobody expected this")
        return text.encode()

    async def unary_stream(self, request: str, context: Any) -> AsyncIterator[bytes]:
        for letter in request.split():
            yield self.answer(letter)

    async def stream_unary(self, requests: AsyncIterator[str], context: Any) -> bytes:
        return b" ".join([self.answer(request) async for request in requests])

    async def stream_stream(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            if request == "hang":
                await asyncio.Event().wait()
            yield self.answer(request)


@contextlib.asynccontextmanager
async def echoing(
    service: str, *, gate: Gate | None = None
) -> AsyncIterator[tuple[grpc.aio.Channel, Metrics, Interceptor]]:
    metrics, echo = Metrics(), Echo()
    interceptor = Interceptor(metrics, gate=gate, gated={f"/{service}/SS"})
    coding: dict[str, Any] = {"request_deserializer": echo.parse}
    handlers = {
        "US": grpc.unary_stream_rpc_method_handler(echo.unary_stream, **coding),
        "SU": grpc.stream_unary_rpc_method_handler(echo.stream_unary, **coding),
        "SS": grpc.stream_stream_rpc_method_handler(echo.stream_stream, **coding),
    }
    server = grpc.aio.server(interceptors=[interceptor])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, metrics, interceptor
    finally:
        await server.stop(None)


async def stream_call(channel: grpc.aio.Channel, path: str, *texts: bytes) -> tuple[list[bytes], str, dict[str, str]]:
    """(answers, code, trailing metadata)."""
    kind = path.rpartition("/")[2]
    make: Any = {"US": channel.unary_stream, "SU": channel.stream_unary, "SS": channel.stream_stream}[kind]
    rpc = make(path)(texts[0] if kind == "US" else iter(texts), metadata=((("tenclip-request-id", "mine"),)))
    answers = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        if kind == "SU":
            answers.append(await rpc)
        else:
            async for answer in rpc:
                answers.append(answer)
    return answers, (await rpc.code()).name, {k: str(v) for k, v in await rpc.trailing_metadata() or ()}


@pytest.mark.parametrize("service", ["tenclip.v1.Echo", "inference.Echo"])
@pytest.mark.parametrize(
    ("kind", "texts", "answers"),
    [("US", (b"a b c",), [b"a", b"b", b"c"]), ("SU", (b"a", b"b"), [b"a b"]), ("SS", (b"a", b"b"), [b"a", b"b"])],
)
def test_streams_have_ids_status_and_metrics(
    service: str, kind: str, texts: tuple[bytes, ...], answers: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with echoing(service) as (channel, metrics, interceptor):
            got = await stream_call(channel, f"/{service}/{kind}", *texts)
            assert got[:2] == (answers, "OK")
            assert got[2]["tenclip-request-id"] == "mine"
            labels = {"method": kind, "code": "OK", "transport": "grpc"}
            assert metrics.registry.get_sample_value("tenclip_requests_total", labels) == 1
            # A good answer, then an error: what came before it has arrived.
            bad = (texts[0] + b" fail",) if kind == "US" else (*texts, b"fail")
            early, code, metadata = await stream_call(channel, f"/{service}/{kind}", *bad)
            assert early == ([] if kind == "SU" else answers)
            assert (code, metadata["tenclip-reason"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
            _, code, metadata = await stream_call(channel, f"/{service}/{kind}", b"malformed")
            assert (code, metadata["tenclip-reason"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
            _, code, metadata = await stream_call(channel, f"/{service}/{kind}", b"bug")
            assert (code, metadata["tenclip-reason"]) == ("INTERNAL", "SERVER_ERROR")
            assert "nobody expected this" in caplog.text
            await asyncio.wait_for(interceptor.quiet(0), 60)

    asyncio.run(test())


def test_a_caller_who_does_not_read_is_given_up() -> None:
    """Its answers are more than gRPC keeps of a stream that nobody reads."""

    async def endless(request: Any, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async def test() -> None:
        metrics = Metrics()
        interceptor = Interceptor(metrics, write_seconds=1.0)
        server = grpc.aio.server(interceptors=[interceptor])
        handlers: dict[str, Any] = {
            "Endless": grpc.unary_stream_rpc_method_handler(endless, request_deserializer=bytes)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tenclip.v1.Echo", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                method: Any = channel.unary_stream("/tenclip.v1.Echo/Endless")
                rpc = method(b"")
                assert len(await rpc.read()) == 1 << 20
                labels = {"method": "Endless", "code": "DEADLINE_EXCEEDED", "transport": "grpc"}
                async with asyncio.timeout(60):
                    while metrics.registry.get_sample_value("tenclip_requests_total", labels) != 1:
                        await asyncio.sleep(0.05)
                await asyncio.wait_for(interceptor.quiet(0), 60)
                rpc.cancel()
        finally:
            await server.stop(None)

    asyncio.run(test())


def test_many_parts_in_few_bytes_are_refused_before_they_are_parsed() -> None:
    async def test() -> None:
        async with serving(good) as (channel, _):
            with pytest.raises(grpc.aio.AioRpcError, match="more than 10000 parts") as caught:
                await raw(channel, b"\x12\x00" * (1 << 20))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(test())


def test_only_streams_that_ask_something_hold_a_stopping_server() -> None:
    """A stream of both sides may be open for days; its servicer says when it works."""

    async def test() -> None:
        async with echoing("inference.Echo") as (channel, metrics, interceptor):
            both: Any = channel.stream_stream("/inference.Echo/SS")()
            await both.write(b"a")
            assert await both.read() == b"a"
            await asyncio.wait_for(interceptor.quiet(0), 60)
            upload: Any = channel.stream_unary("/inference.Echo/SU")()
            await upload.write(b"a")
            while metrics.registry.get_sample_value("tenclip_requests_in_flight") != 1:
                await asyncio.sleep(0.01)
            await upload.done_writing()
            assert await upload == b"a"
            both.cancel()
            await asyncio.wait_for(interceptor.quiet(0), 60)

    asyncio.run(test())


def test_streams_that_may_stay_open_are_counted_and_no_longer_than_they_are_open() -> None:
    """Each may hold a message that has come in part. One that has its place keeps it, however long it asks nothing."""
    gate = Admission(
        max_bytes=1 << 20, max_queue_bytes=1 << 19, max_queue=1, max_active=1, max_arrivals=2, max_arrival_seconds=0.05
    )

    async def refused(channel: grpc.aio.Channel) -> str:
        rpc: Any = channel.stream_stream("/inference.Echo/SS")()
        assert await rpc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return str(await rpc.details())

    async def test() -> None:
        async with echoing("inference.Echo", gate=gate) as (channel, metrics, interceptor):
            streams: list[Any] = [channel.stream_stream("/inference.Echo/SS")() for _ in range(2)]
            await streams[0].write(b"a")
            assert await streams[0].read() == b"a"
            await asyncio.sleep(0.2)  # the other has said nothing for longer than a message may take
            assert "2 streams of requests are open" in await refused(channel)
            for stream in streams:
                await stream.write(b"b")
                assert await stream.read() == b"b"
            streams[0].cancel()
            await streams[1].done_writing()
            assert await streams[1].read() is grpc.aio.EOF
            async with asyncio.timeout(20):
                while gate._num_streams:
                    await asyncio.sleep(0.01)
            assert (await stream_call(channel, "/inference.Echo/SS", b"c"))[0] == [b"c"]
            labels = {"method": "SS", "code": "RESOURCE_EXHAUSTED", "transport": "grpc"}
            assert metrics.registry.get_sample_value("tenclip_requests_total", labels) == 1
            await asyncio.wait_for(interceptor.quiet(0), 10)

    asyncio.run(test())


def test_a_stream_that_stands_idle_keeps_no_message() -> None:
    size = 3 << 20

    async def sizes(requests: AsyncIterator[int], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield str(request).encode()

    async def test() -> None:
        server = grpc.aio.server(interceptors=[Interceptor(Metrics())])
        handlers: dict[str, Any] = {"SS": grpc.stream_stream_rpc_method_handler(sizes, request_deserializer=len)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.Echo", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stream: Any = channel.stream_stream("/inference.Echo/SS")()
                tracemalloc.start()
                await stream.write(bytes(size))
                assert await stream.read() == str(size).encode()
                await asyncio.sleep(0.1)
                held, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert held < size // 2
                await stream.done_writing()
                assert await stream.read() is grpc.aio.EOF
        finally:
            await server.stop(None)

    asyncio.run(test())


def test_a_stream_that_its_client_cancels_at_work_is_counted_so() -> None:
    """One that is cancelled while nothing was asked ends well: to the server it looks like the end of questions."""

    async def test() -> None:
        async with echoing("tenclip.v1.Echo") as (channel, metrics, _):
            both: Any = channel.stream_stream("/tenclip.v1.Echo/SS")()
            for text in (b"a", b"hang"):
                await both.write(text)
            assert await both.read() == b"a"
            both.cancel()
            labels = {"method": "SS", "code": "CANCELLED", "transport": "grpc"}
            async with asyncio.timeout(60):
                while metrics.registry.get_sample_value("tenclip_requests_total", labels) != 1:
                    await asyncio.sleep(0.01)

    asyncio.run(test())
