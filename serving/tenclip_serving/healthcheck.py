"""Asks a server over grpc.health.v1 whether it is serving: `python -m tenclip_serving.healthcheck [HOST:PORT]`.

For container engines, which run a command inside the container; Kubernetes probes speak the protocol themselves.
Prints one line and exits with 0 when the answer is SERVING, with 1 otherwise, with 2 when called wrongly.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

DEFAULT_TARGET = "127.0.0.1:7411"


def check_health(target: str, *, service: str = "", timeout_seconds: float = 3.0) -> tuple[bool, str]:
    """(is `service` serving at `target`?, one line that says so or why not). An empty `service`: the server as a whole.

    Never raises for a server that is absent, silent, or does not speak the protocol: that is an answer too.
    """
    subject = f"{service or 'server'} at {target}"
    # A health check must see the server itself, whatever proxy the environment names.
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # types-grpcio-health-checking declares no methods on it
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds)
        except grpc.RpcError as error:
            return False, f"{subject}: {_explain(error, timeout_seconds)}"
    serving = health_pb2.HealthCheckResponse.SERVING
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return response.status == serving, f"{subject}: {status}"


def _explain(error: grpc.RpcError, timeout_seconds: float) -> str:
    # What a blocking stub raises is a Call as well, which the type of the exception does not say.
    assert isinstance(error, grpc.Call)
    code = error.code()
    meaning = {
        grpc.StatusCode.UNAVAILABLE: "nothing answers there",
        grpc.StatusCode.DEADLINE_EXCEEDED: f"no answer within {timeout_seconds:g} s",
        grpc.StatusCode.NOT_FOUND: "the server does not know this service",
        grpc.StatusCode.UNIMPLEMENTED: "the server does not offer grpc.health.v1",
    }.get(code)
    details = " ".join(str(error.details()).split())  # one line, whatever the server sent
    return f"{code.name}, {meaning} ({details})" if meaning else f"{code.name} ({details})"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 (serving) or 1; argparse exits with 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tenclip_serving.healthcheck",
        description="Asks a server over grpc.health.v1 whether it is serving. Exit code 0: it is; 1: it is not.",
    )
    parser.add_argument("target", nargs="?", default=DEFAULT_TARGET, help="HOST:PORT (default: %(default)s)")
    parser.add_argument("--service", default="", help="a service's full name (default: the server as a whole)")
    parser.add_argument("--timeout", type=_seconds, default=3.0, help="seconds to wait (default: %(default)g)")
    arguments = parser.parse_args(argv)
    serving, message = check_health(arguments.target, service=arguments.service, timeout_seconds=arguments.timeout)
    print(message, file=sys.stdout if serving else sys.stderr)
    return 0 if serving else 1


if __name__ == "__main__":
    sys.exit(main())
