"""Compression, keepalive and the age of connections, seen from the wire."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionStub
from tenclip_client import Client
from tenclip_client._channel import DEFAULT_KEEPALIVE_SECONDS
from tenclip_client._channel import channel_options as client_options
from tenclip_serving.api.connections import channel_options
from tenclip_serving.config import ServerConfig
from tests.tenclip_serving.helpers import ServerProcess, running_server
from tests.tenclip_serving.proxy import counting_proxy
from tests.tenclip_serving.test_server import wait_until

# A frame of HTTP/2: nine bytes of header, eight of the ping.
PING_BYTES = 17
# Of acknowledgements that may still be on their way when the first answer is here.
FIRST_BYTES = 2 * PING_BYTES + 13


def test_options_of_the_defaults(tmp_path: Path) -> None:
    options = dict(channel_options(ServerConfig(directory=tmp_path)))
    assert options["grpc.keepalive_time_ms"] == 120_000
    assert options["grpc.keepalive_timeout_ms"] == 20_000
    assert options["grpc.http2.min_ping_interval_without_data_ms"] == 5_000
    assert not {"grpc.max_connection_age_ms", "grpc.max_connection_idle_ms"} & options.keys()


def test_options_that_are_set(tmp_path: Path) -> None:
    config = ServerConfig(
        directory=tmp_path,
        keepalive_seconds=1.5,
        max_connection_idle_seconds=3,
        max_connection_age_seconds=4,
        max_connection_age_grace_seconds=0.0001,
    )
    options = dict(channel_options(config))
    assert options["grpc.keepalive_time_ms"] == 1500
    assert options["grpc.max_connection_idle_ms"] == 3000
    assert options["grpc.max_connection_age_ms"] == 4000
    assert options["grpc.max_connection_age_grace_ms"] == 1


@pytest.mark.parametrize(
    "field", ["keepalive_seconds", "keepalive_timeout_seconds", "max_connection_age_grace_seconds"]
)
def test_what_grpc_cannot_take_is_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        ServerConfig(directory=tmp_path, **{field: 0.0})  # type: ignore[arg-type]


def get_model(address: str, compression: grpc.Compression | None = None) -> pb.GetModelResponse:
    with grpc.insecure_channel(address, compression=compression) as channel:
        return VideoRecognitionStub(channel).GetModel(pb.GetModelRequest(model=pb.ModelRef(name="tiny")), timeout=20)


def test_answers_are_compressed_where_that_is_set(server: ServerProcess, one_model: Path) -> None:
    with counting_proxy(server.address) as plain:
        answer = get_model(plain.address)
    with (
        running_server(one_model, "--compression", "gzip", "--metrics-port", "-1") as other,
        counting_proxy(other.address) as gzip,
    ):
        small = get_model(gzip.address)
    assert small.model.labels == answer.model.labels
    # What JSON is made of: mostly what has been there before.
    assert gzip.received < plain.received - len(answer.model.bundle_json) // 4


def refused_with(address: str, request: pb.PredictRequest) -> grpc.StatusCode:
    """The status of a Predict that is sent compressed."""
    options = [("grpc.max_send_message_length", -1)]
    with (
        grpc.insecure_channel(address, options, grpc.Compression.Gzip) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        VideoRecognitionStub(channel).Predict(request, timeout=60)
    assert isinstance(caught.value, grpc.Call)
    code: grpc.StatusCode = caught.value.code()
    return code


def test_requests_may_be_compressed(server: ServerProcess) -> None:
    """A text that is no video, 500 KB of it: little on the wire, and unpacked by the server."""
    request = pb.PredictRequest(model=pb.ModelRef(name="tiny"), video=pb.Video(data=b"no video " * 60_000))
    with counting_proxy(server.address) as counts:
        assert refused_with(counts.address, request) is grpc.StatusCode.INVALID_ARGUMENT
        assert counts.sent < 20_000


def test_a_message_that_unpacks_beyond_the_limit_is_refused(server: ServerProcess) -> None:
    request = pb.PredictRequest(model=pb.ModelRef(name="tiny"), video=pb.Video(data=bytes(100 << 20)))
    with counting_proxy(server.address) as counts:
        assert refused_with(counts.address, request) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert counts.sent < 1 << 20


def test_old_connections_are_replaced_and_no_call_is_lost(one_model: Path) -> None:
    options = ["--max-connection-age-seconds", "0.3", "--metrics-port", "-1"]
    with (
        running_server(one_model, *options) as server,
        counting_proxy(server.address) as counts,
        Client(counts.address, retries=0) as client,
    ):
        end = time.monotonic() + 60
        while counts.connections < 3:
            assert client.list_models().models
            assert time.monotonic() < end, "the connection was never replaced"


def test_a_client_that_vanished_is_let_go(one_model: Path) -> None:
    """Its machine is gone, so to speak: the connection is open and nothing answers the server's pings."""
    options = ["--keepalive-seconds", "1", "--keepalive-timeout-seconds", "0.5", "--metrics-port", "-1"]
    with running_server(one_model, *options) as server:
        import socket

        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), 30) as silent:
            preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and empty SETTINGS
            silent.sendall(preface)
            received = b""
            while data := silent.recv(4096):  # ends when the server hangs up
                received += data
        assert received


def test_our_own_client_pings_less_often_than_servers_allow(tmp_path: Path) -> None:
    assert 2 * ServerConfig(directory=tmp_path).client_ping_seconds < DEFAULT_KEEPALIVE_SECONDS


# As our client has it, but as often as gRPC pings at all, and without its own limit where nothing comes back.
PINGING = [
    *client_options(retries=0, keepalive_seconds=1, extra=()),
    ("grpc.http2.max_pings_without_data", 0),
]


def watch(channel: grpc.Channel) -> Any:
    """A call that stays open, and on which nothing is sent after the first answer."""
    stub: Any = HealthStub(channel)
    return stub.Watch(HealthCheckRequest(), timeout=240)


def test_a_client_that_pings_too_often_is_disconnected(one_model: Path) -> None:
    with running_server(one_model, "--client-ping-seconds", "60", "--metrics-port", "-1") as server:
        with grpc.insecure_channel(server.address, PINGING) as channel:
            watching = watch(channel)
            assert next(watching).status == HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError, match=r"(?i)too many pings") as caught:
                next(watching)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert get_model(server.address).model.name == "tiny"


def test_a_client_that_pings_as_often_as_it_may_stays_connected(one_model: Path) -> None:
    options = ["--client-ping-seconds", "0.5", "--metrics-port", "-1"]
    with (
        running_server(one_model, *options) as server,
        counting_proxy(server.address) as counts,
        grpc.insecure_channel(counts.address, PINGING) as channel,
    ):
        watching = watch(channel)
        assert next(watching).status == HealthCheckResponse.SERVING
        before = counts.sent + FIRST_BYTES
        wait_until(lambda: counts.sent >= before + 4 * PING_BYTES)
        assert watching.is_active()
        assert counts.connections == 1
