"""Statuses -> exceptions: every error of the tree and every status code, over a real connection."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tenclip_api import errors
from tenclip_api.errors import TenclipError, VideoError, error_classes
from tenclip_client import Client, ServerError, ServerUnavailable
from tenclip_client._errors import from_rpc_error

from .servicer import FakeRecognition, serving


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(FakeRecognition()) as target, Client(target, retries=0) as made:
        yield made


@pytest.mark.parametrize("reason", sorted(error_classes()))
def test_every_error_arrives_as_itself(client: Client, reason: str) -> None:
    with pytest.raises(TenclipError) as caught:
        client.predict(f"raise {reason}".encode(), name="clip.mp4")
    error = caught.value
    assert type(error) is error_classes()[reason]
    assert error.message == f"clip.mp4: {reason.lower()} ünïcode"
    if isinstance(error, VideoError):
        assert error.source == "clip.mp4"
    if isinstance(error, ServerError):
        assert error.request_id == "r-17"


# What a status means when no server of ours gave a reason.
BY_CODE = {
    "CANCELLED": errors.Cancelled,
    "UNKNOWN": errors.ServerError,
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "NOT_FOUND": errors.ServerError,
    "ALREADY_EXISTS": errors.ServerError,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "RESOURCE_EXHAUSTED": errors.Overloaded,
    "FAILED_PRECONDITION": errors.ModelError,
    "ABORTED": errors.ServerError,
    "OUT_OF_RANGE": errors.InvalidRequest,
    "UNIMPLEMENTED": errors.ServerError,
    "INTERNAL": errors.ServerError,
    "UNAVAILABLE": errors.ServerUnavailable,
    "DATA_LOSS": errors.ServerError,
}


def test_every_code_is_tried() -> None:
    assert set(BY_CODE) == {code.name for code in grpc.StatusCode} - {"OK"}


@pytest.mark.parametrize("code", BY_CODE)
def test_bare_statuses(client: Client, code: str) -> None:
    with pytest.raises(TenclipError) as caught:
        client.predict(f"status {code}".encode())
    assert type(caught.value) is BY_CODE[code]
    assert client.target in caught.value.message


_DIES = """
import os
from concurrent.futures import ThreadPoolExecutor
import grpc
class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        if "Stream" in details.method:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: os._exit(1))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: os._exit(1))
server = grpc.server(ThreadPoolExecutor(1), handlers=[Handler()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


@pytest.mark.parametrize("ask", [lambda c: c.predict(b"video"), lambda c: list(c.predict_stream(b"video"))])
def test_a_server_that_dies_while_it_works_is_not_one_that_nobody_started(ask: Callable[[Client], Any]) -> None:
    with subprocess.Popen([sys.executable, "-c", _DIES], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            target = f"127.0.0.1:{int(server.stdout.readline())}"
            broke = "the connection broke while the request ran.*safe to send"
            with Client(target, timeout=60, retries=0) as client, pytest.raises(ServerUnavailable, match=broke):
                ask(client)
        finally:
            server.kill()


class _Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, *metadata: tuple[str, str | bytes]) -> None:
        self._code, self._metadata = code, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "what happened"

    def trailing_metadata(self) -> Any:
        return self._metadata


def _ours(err: grpc.RpcError) -> TenclipError:
    return from_rpc_error(err, target="box:7411", source="a.mp4", timeout=3)


def test_reason_of_a_newer_server_falls_back_to_the_code() -> None:
    error = _ours(_Failed(grpc.StatusCode.INVALID_ARGUMENT, ("tenclip-reason", "VIDEO_TOO_BORING")))
    assert type(error) is errors.InvalidRequest
    assert error.message == "box:7411: what happened"


@pytest.mark.parametrize(("text", "seconds"), [("1.5", 1.5), ("0", 0), ("soon", None), ("-1", None), ("nan", None)])
def test_retry_hint(text: str, seconds: float | None) -> None:
    reason, hint = ("tenclip-reason", "OVERLOADED"), ("tenclip-retry-after-seconds", text)
    error = _ours(_Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, hint))
    assert isinstance(error, errors.Overloaded)
    assert error.retry_after_seconds == seconds


def test_binary_metadata_is_passed_over() -> None:
    error = _ours(_Failed(grpc.StatusCode.INTERNAL, ("trace-bin", b"\x00\xff"), ("tenclip-request-id", "r-2")))
    assert isinstance(error, ServerError)
    assert error.request_id == "r-2"


def test_error_without_any_status() -> None:
    assert type(_ours(grpc.RpcError("odd"))) is ServerError


def test_deadline_without_a_deadline() -> None:
    error = from_rpc_error(_Failed(grpc.StatusCode.DEADLINE_EXCEEDED), target="box:1", source="", timeout=None)
    assert error.message.startswith("box:1: no answer in time")
