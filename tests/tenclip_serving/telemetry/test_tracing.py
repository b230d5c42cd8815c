"""Traces as a collector receives them: over OTLP, on loopback, from a real server process."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tenclip_client import Client, InvalidRequest, NotAVideo, Unauthenticated
from tenclip_serving.telemetry.tracing import Tracing, stage
from tests.tenclip_serving.helpers import running_server, stop

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TOKEN = "predict-0123456789abcdef"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> trace_service_pb2.ExportTraceServiceResponse:
        with self._lock:
            for group in request.resource_spans:
                self.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Span]:
        return [s for s in self.spans if s.name == name]


@contextlib.contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector and its URL."""
    collector, server = Collector(), grpc.server(futures.ThreadPoolExecutor(2))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value") or "string_value") for a in span.attributes}


def test_requests_and_their_stages_arrive_in_the_callers_trace(
    one_model: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[me]\ntoken = "{TOKEN}"\npermissions = ["predict"]\n')
    with collecting() as (collector, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not for what is on this machine
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        options = ["--tracing", "--tokens-file", str(tokens), "--metrics-port", "-1", "--log-format", "json"]
        with running_server(one_model, *options) as server:
            sent = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tenclip-request-id", "mine")]
            with Client(server.address, token=TOKEN, metadata=sent) as client:
                client.predict(videos / "colors.mp4")
                with pytest.raises(NotAVideo):
                    client.predict(videos / "text.mp4")
                with pytest.raises(InvalidRequest):
                    client.predict(videos / "colors.mp4", num_clips=10**6)
            with Client(server.address) as client, pytest.raises(Unauthenticated):
                client.list_models()
            assert stop(server.process) == 0  # sends what is left
            log = server.log
    predicted = collector.named("tenclip.v1.VideoRecognition/Predict")
    assert [attributes(s)["rpc.grpc.status_code"] for s in predicted] == [0, 3, 3]
    for span in predicted:
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert span.kind == Span.SPAN_KIND_SERVER
        assert attributes(span)["tenclip.request_id"] == "mine"
        assert attributes(span)["rpc.service"] == "tenclip.v1.VideoRecognition"
        assert span.status.code == Status.STATUS_CODE_UNSET  # the caller's fault
    stages = [s for s in collector.spans if s.parent_span_id == predicted[0].span_id]
    assert {s.name for s in stages} == {"fetch", "queue", "decode", "infer", "aggregate"}
    assert all(predicted[0].start_time_unix_nano <= s.start_time_unix_nano for s in stages)
    assert all(s.end_time_unix_nano <= predicted[0].end_time_unix_nano for s in stages)
    (infer,) = (s for s in stages if s.name == "infer")
    assert attributes(infer) == {"tenclip.clips": 10, "tenclip.model": "tiny"}
    failed = [s.name for s in collector.spans if s.parent_span_id == predicted[1].span_id]
    assert failed[-1] == "decode"
    (refused,) = collector.named("tenclip.v1.VideoRecognition/ListModels")
    assert attributes(refused)["rpc.grpc.status_code"] == 16
    assert refused.trace_id.hex() != TRACE
    assert f'"trace_id": "{refused.trace_id.hex()}"' in log
    assert f'"trace_id": "{TRACE}"' in log
    assert {(r["service.name"], r["deployment.environment"]) for r in collector.resources} == {("tenclip", "test")}
    everything = "".join(map(str, collector.spans)) + log
    assert TOKEN not in everything


def test_requests_over_http_are_traced_as_those_over_grpc(
    one_model: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as (collector, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with running_server(one_model, "--tracing", "--http-port", "0", "--runtime", "onnxruntime") as server:
            address = f"http://{server.http_address}"
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
            with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=30) as client:
                file = {"video": (videos / "colors.mp4").read_bytes()}
                assert client.post("/v1/predict", files=file).status_code == 200
                assert client.get("/v1/models/absent").status_code == 404
                assert client.get("/healthz").status_code == 200
            assert stop(server.process) == 0
    (predicted,) = collector.named("POST /v1/predict")
    (missing,) = collector.named("GET /v1/models/{name}")
    assert [attributes(s)["http.response.status_code"] for s in (predicted, missing)] == [200, 404]
    assert predicted.trace_id.hex() == TRACE
    assert predicted.parent_span_id.hex() == PARENT
    assert attributes(predicted)["tenclip.request_id"] == "mine"
    stages = {s.name for s in collector.spans if s.parent_span_id == predicted.span_id}
    assert {"fetch", "decode", "infer"} <= stages
    assert collector.named("GET /healthz") == []


def test_streams_are_traced_and_closed_with_their_caller(caplog: pytest.LogCaptureFixture) -> None:
    exporter, ended = InMemorySpanExporter(), asyncio.Event()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            for i in range(3 if request == b"three" else 10**9):
                with stage("infer"):
                    await asyncio.sleep(0)
                yield str(i).encode()
        finally:
            ended.set()

    async def test() -> None:
        server = grpc.aio.server(interceptors=[Tracing(provider).interceptor])
        handlers: Any = {"Count": grpc.unary_stream_rpc_method_handler(count)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Counter", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                method: Any = channel.unary_stream("/tests.Counter/Count")
                assert [answer async for answer in method(b"three")] == [b"0", b"1", b"2"]
                ended.clear()
                endless = method(b"")
                assert await endless.read() == b"0"
                endless.cancel()
                await asyncio.wait_for(ended.wait(), 60)
        finally:
            await server.stop(None)

    asyncio.run(test())
    spans = [s for s in exporter.get_finished_spans() if s.name == "tests.Counter/Count"]
    assert [dict(s.attributes or {})["rpc.grpc.status_code"] for s in spans] == [0, 1]
    first = spans[0].context
    assert first is not None
    children = [s for s in exporter.get_finished_spans() if s.parent and s.parent.span_id == first.span_id]
    assert [s.name for s in children] == ["infer"] * 3
    assert "detach" not in caplog.text


def test_a_collector_that_is_not_there_harms_nobody(one_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with running_server(one_model, "--tracing", "--metrics-port", "-1") as server, Client(server.address) as client:
        assert client.list_models().models
        assert stop(server.process) == 0
        assert "the last traces could not be sent in time" in server.log


def test_nothing_is_imported_and_no_stage_recorded_without_it() -> None:
    program = (
        "import sys, tenclip_serving.server, tenclip_serving.commands\n"
        "print([m for m in sys.modules if 'opentelemetry' in m])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert stage("decode") is stage("infer", clips=3)


def test_a_missing_extra_is_named(one_model: Path) -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        f"sys.argv[1:] = [{str(one_model)!r}, '--port', '0', '--metrics-port', '-1', '--tracing']\n"
        "from tenclip_serving.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: --tracing needs opentelemetry: pip install 'tenclip[otel]'"
