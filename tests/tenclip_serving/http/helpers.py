"""Requests over real sockets: curl, httpx, and bytes as they are."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tenclip_api.v1 import tenclip_pb2 as pb
from tests.tenclip_serving.helpers import ServerProcess

# A connection of ours, whatever proxies the environment names.
CLIENT_OPTIONS: dict[str, Any] = {"trust_env": False, "timeout": 30}


def url(server: ServerProcess, path: str, scheme: str = "http") -> str:
    assert server.http_address
    return f"{scheme}://{server.http_address}{path}"


def curl(*arguments: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) as curl has them."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl, which Debian's package of that name brings")
    command = ["curl", "--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "30", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return parsed(done.stdout)


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """The last of the answers in what came, without a 100 before it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split()[1] == b"100":
        return parsed(body)
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), {k.lower(): v for k, v in headers.items()}, body


def post(server: ServerProcess, path: str, **how: Any) -> httpx.Response:
    return httpx.post(url(server, path), **CLIENT_OPTIONS, **how)


def get(server: ServerProcess, path: str, **how: Any) -> httpx.Response:
    return httpx.get(url(server, path), **CLIENT_OPTIONS, **how)


def as_grpc(response: httpx.Response) -> tuple[int, str, str]:
    """(status, reason, message) of a problem, whose form is checked."""
    kind = "application/json" if response.url.path.startswith("/v2") else "application/problem+json"
    assert response.headers["content-type"] == kind
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["tenclip-request-id"]
    assert problem["reason"] == response.headers["tenclip-reason"]
    assert problem["type"] == f"/docs#{problem['reason']}"
    return response.status_code, problem["reason"], problem["detail"]


def over_grpc(server: ServerProcess, request: pb.PredictRequest | pb.ExtractFeaturesRequest) -> Any:
    with server.stub() as stub:
        method = stub.Predict if isinstance(request, pb.PredictRequest) else stub.ExtractFeatures
        return cast(Any, method)(request, timeout=30)


def refused_over_grpc(server: ServerProcess, request: pb.PredictRequest) -> tuple[str, str]:
    """(reason, message)."""
    with pytest.raises(grpc.RpcError) as caught:
        over_grpc(server, request)
    error = cast(Any, caught.value)
    return dict(error.trailing_metadata())["tenclip-reason"], error.details()


def metric(server: ServerProcess, name: str, /, **labels: str) -> float:
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@contextlib.contextmanager
def connected(server: ServerProcess) -> Iterator[socket.socket]:
    assert server.http_address
    host, _, port = server.http_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as made:
        yield made


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer with a Content-Length; the connection may stay open."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(1 << 16)
        assert more, f"the connection ended after {data!r}"
        data += more
    status, headers, body = parsed(data)
    while len(body) < int(headers["content-length"]):
        body += connection.recv(1 << 16)
    return status, headers, body


def post_head(path: str, num_bytes: int | None, content_type: str = "video/mp4", **headers: str) -> bytes:
    """The line and the headers of a POST. num_bytes: None for a chunked body."""
    length = "Transfer-Encoding: chunked" if num_bytes is None else f"Content-Length: {num_bytes}"
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n{length}\r\n{more}\r\n".encode()


def form(boundary: str, *parts: tuple[str, str | None, bytes]) -> bytes:
    """A multipart body of (name, name of the file, content)."""
    written = b""
    for name, file_name, content in parts:
        file = "" if file_name is None else f'; filename="{file_name}"'
        written += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        written += content + b"\r\n"
    return written + f"--{boundary}--\r\n".encode()


def problem_of(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)
    return found


def video(path: Path) -> dict[str, Any]:
    """The `files` of httpx for a form with this video."""
    return {"video": (path.name, path.read_bytes())}


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
