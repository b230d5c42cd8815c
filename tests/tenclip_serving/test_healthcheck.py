"""The container's health check against real gRPC servers: healthy, unhealthy, silent, absent, and of another kind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tenclip_serving.healthcheck import check_health, main

from ..connect_proxy import connect_proxy

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "tenclip.v1.VideoRecognition"


@contextmanager
def running(servicer: health_pb2_grpc.HealthServicer | None) -> Iterator[str]:
    """HOST:PORT of a gRPC server with this health service, or with none at all."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    if servicer:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.fixture
def silent_target() -> Iterator[str]:
    """Accepts connections (the kernel does) and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed_target() -> Iterator[str]:
    """A port that is taken and on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def test_each_service_is_asked_for_by_its_name() -> None:
    servicer = health.HealthServicer()
    servicer.set(SERVICE, NOT_SERVING)
    with running(servicer) as target:
        assert check_health(target) == (True, f"server at {target}: SERVING")
        assert check_health(target, service=SERVICE) == (False, f"{SERVICE} at {target}: NOT_SERVING")
        servicer.set(SERVICE, SERVING)
        assert check_health(target, service=SERVICE) == (True, f"{SERVICE} at {target}: SERVING")


def test_a_server_that_is_going_away_is_not_serving() -> None:
    servicer = health.HealthServicer()
    with running(servicer) as target:
        servicer.enter_graceful_shutdown()
        assert check_health(target) == (False, f"server at {target}: NOT_SERVING")


def test_an_unknown_service_is_not_serving() -> None:
    with running(health.HealthServicer()) as target:
        serving, message = check_health(target, service="no.Such")
    assert not serving
    assert message.startswith(f"no.Such at {target}: NOT_FOUND, the server does not know this service")


def test_a_server_without_the_health_service_is_not_serving() -> None:
    with running(None) as target:
        serving, message = check_health(target)
    assert not serving
    assert "UNIMPLEMENTED, the server does not offer grpc.health.v1" in message


def test_an_error_of_another_kind_is_reported_with_its_code_on_one_line() -> None:
    class Refusing(health_pb2_grpc.HealthServicer):
        def Check(
            self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
        ) -> health_pb2.HealthCheckResponse:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not\nyou")
            raise AssertionError

    with running(Refusing()) as target:
        assert check_health(target) == (False, f"server at {target}: PERMISSION_DENIED (not you)")


def test_nobody_listening_is_not_serving(closed_target: str) -> None:
    serving, message = check_health(closed_target)
    assert not serving
    assert f"server at {closed_target}: UNAVAILABLE, nothing answers there" in message
    assert "\n" not in message


def test_a_silent_server_is_not_serving(silent_target: str) -> None:
    serving, message = check_health(silent_target, timeout_seconds=0.2)
    assert not serving
    assert "DEADLINE_EXCEEDED, no answer within 0.2 s" in message


def test_a_proxy_in_the_environment_is_not_asked(closed_target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{closed_target}")
    monkeypatch.setenv("no_proxy", "")
    with running(health.HealthServicer()) as target:
        assert check_health(target)[0]


def test_another_machine_is_asked_through_the_proxy(closed_target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(health.HealthServicer()) as target, connect_proxy({"box.example:7411": target}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert check_health("box.example:7411")[0]
        assert proxy.connects == ["box.example:7411"]
        assert "UNAVAILABLE" in check_health("box.invalid:7411", proxy=False)[1]
        assert main(["box.invalid:7411", "--no-proxy"]) == 1
        assert proxy.connects == ["box.example:7411"]
    monkeypatch.setenv("http_proxy", f"http://me:secret@{closed_target}")
    serving, message = check_health("box.example:7411")
    assert not serving
    assert f"through the proxy http://{closed_target} (from http_proxy)" in message
    assert "secret" not in message


def test_success_goes_to_stdout_and_failure_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    servicer = health.HealthServicer()
    servicer.set(SERVICE, NOT_SERVING)
    with running(servicer) as target:
        assert main([target]) == 0
        assert capsys.readouterr() == (f"server at {target}: SERVING\n", "")
        assert main([target, "--service", SERVICE]) == 1
        assert capsys.readouterr() == ("", f"{SERVICE} at {target}: NOT_SERVING\n")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_that_cannot_be_waited_for_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--timeout", seconds])
    assert f"'{seconds}' is not a number of seconds above 0" in capsys.readouterr().err


def test_the_command_of_the_image_on_a_machine_with_a_proxy(closed_target: str) -> None:
    names = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")
    proxies = dict.fromkeys([*names, *map(str.upper, names)], f"http://{closed_target}")
    with running(health.HealthServicer()) as target:
        command = [sys.executable, "-m", "tenclip_serving.healthcheck", target]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **proxies})
    assert (done.returncode, done.stdout, done.stderr) == (0, f"server at {target}: SERVING\n", "")


def test_the_command_of_the_image_exits_with_0_and_1(closed_target: str) -> None:
    command = [sys.executable, "-m", "tenclip_serving.healthcheck"]
    with running(health.HealthServicer()) as target:
        healthy = subprocess.run([*command, target], capture_output=True, text=True, timeout=60, check=False)
    unhealthy = subprocess.run([*command, closed_target], capture_output=True, text=True, timeout=60, check=False)
    assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, f"server at {target}: SERVING\n", "")
    assert unhealthy.returncode == 1
    assert "UNAVAILABLE" in unhealthy.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("redirect", ["> /dev/full", "2> /dev/full", "> /dev/full 2>&1", ">&- 2>&-", "| true"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_exit_code_is_the_answer_where_nothing_can_be_written(
    redirect: str, unbuffered: str, closed_target: str
) -> None:
    servicer = health.HealthServicer()
    servicer.set("", SERVING)
    line = f'set -o pipefail; "$0" -m tenclip_serving.healthcheck "$1" {redirect}'
    with running(servicer) as target:
        for asked, exit_code in ((target, 0), (closed_target, 1)):
            done = subprocess.run(
                ["bash", "-c", line, sys.executable, asked],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONIOENCODING": "ascii"},
            )
            assert done.returncode == exit_code, done.stderr
            assert "Traceback" not in done.stderr
            assert "Exception ignored" not in done.stderr
