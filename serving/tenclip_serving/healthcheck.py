"""Asks a server over grpc.health.v1 whether it is serving: `python -m tenclip_serving.healthcheck [HOST:PORT]`.

With TLS the options, or the variables that `tenclip predict` has as well, say what to trust: TENCLIP_TLS, TENCLIP_CA,
TENCLIP_CERTIFICATE, TENCLIP_KEY, TENCLIP_SERVER_NAME. Health needs no token; TENCLIP_TOKEN_FILE is for a proxy in
front that wants one.

For container engines, which run a command inside the container; Kubernetes probes speak the protocol themselves.
Prints one line and exits with 0 when the answer is SERVING, with 1 otherwise, with 2 when called wrongly.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tenclip_api.errors import InvalidRequest
from tenclip_api.proxies import ProxyChoice, route_to

DEFAULT_TARGET = "127.0.0.1:7411"


def check_health(
    target: str,
    *,
    service: str = "",
    timeout_seconds: float = 3.0,
    credentials: grpc.ChannelCredentials | None = None,
    server_name: str = "",
    token: str = "",
    proxy: ProxyChoice = None,
) -> tuple[bool, str]:
    """(is `service` serving at `target`?, one line that says so or why not). An empty `service`: the server as a whole.

    credentials: of TLS; server_name: whose name the certificate must hold, where that is not `target`'s own.
    proxy: as in `tenclip_api.proxies`: addresses of this machine are asked directly, whatever the environment names.
    Never raises for a server that is absent, silent, or does not speak the protocol: that is an answer too.
    """
    subject = f"{service or 'server'} at {target}"
    route = route_to(target, proxy=proxy, server_name=server_name)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with _channel(route.address, credentials, [*route.options]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # types-grpcio-health-checking declares no methods on it
        try:
            response = stub.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds, metadata=metadata
            )
        except grpc.RpcError as error:
            through = "" if route.proxy is None else f" through the proxy {route.proxy}"
            return False, f"{subject}{through}: {_explain(error, timeout_seconds)}"
    serving = health_pb2.HealthCheckResponse.SERVING
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return response.status == serving, f"{subject}: {status}"


def _channel(target: str, credentials: grpc.ChannelCredentials | None, options: list[tuple[str, Any]]) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


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


_FILES = {
    "ca": "trust servers that this authority (PEM) vouches for; implies --tls",
    "certificate": "our own certificate (PEM), where the server asks for one",
    "key": "its key (PEM)",
}


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def _credentials(arguments: argparse.Namespace) -> tuple[grpc.ChannelCredentials | None, str]:
    """(of TLS, token). Raises InvalidRequest."""
    files = {name: getattr(arguments, name) or None for name in _FILES}
    if not (arguments.tls or arguments.token_file or any(files.values())):
        return None, ""
    # Only here: a check every few seconds should cost no more than it must.
    from tenclip_client._security import channel_credentials, check_token_is_safe, token_from_file

    credentials = channel_credentials(tls=arguments.tls or None, **files)
    if not arguments.token_file:
        return credentials, ""
    check_token_is_safe(arguments.target, encrypted=credentials is not None, insecure_token=False)
    return credentials, token_from_file(Path(arguments.token_file))()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 (serving) or 1; argparse exits with 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tenclip_serving.healthcheck",
        description="Asks a server over grpc.health.v1 whether it is serving. Exit code 0: it is; 1: it is not.",
    )
    parser.add_argument("target", nargs="?", default=DEFAULT_TARGET, help="HOST:PORT (default: %(default)s)")
    parser.add_argument("--service", default="", help="a service's full name (default: the server as a whole)")
    parser.add_argument("--timeout", type=_seconds, default=3.0, help="seconds to wait (default: %(default)g)")
    parser.add_argument("--tls", action="store_true", default=_is_on("TENCLIP_TLS"), help="encrypt")
    for name, what in _FILES.items():
        parser.add_argument(f"--{name}", default=os.environ.get(f"TENCLIP_{name.upper()}"), metavar="FILE", help=what)
    parser.add_argument(
        "--server-name",
        default=os.environ.get("TENCLIP_SERVER_NAME", ""),
        help="the name in the server's certificate (default: HOST)",
    )
    parser.add_argument(
        "--no-proxy",
        action="store_true",
        default=_is_on("TENCLIP_NO_PROXY"),
        help="connect directly, not by http_proxy",
    )
    parser.add_argument("--token-file", type=Path, default=os.environ.get("TENCLIP_TOKEN_FILE"), metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        credentials, token = _credentials(arguments)
    except InvalidRequest as err:
        parser.error(err.message)
    serving, message = check_health(
        arguments.target,
        service=arguments.service,
        timeout_seconds=arguments.timeout,
        credentials=credentials,
        server_name=arguments.server_name,
        token=token,
        proxy=False if arguments.no_proxy else None,
    )
    with contextlib.suppress(OSError):  # the exit code is the answer, also where the line cannot be written
        print(message, file=sys.stdout if serving else sys.stderr)
    return 0 if serving else 1


def _run() -> NoReturn:
    """`main` as a process whose output may be closed, lead to a full disk or to a reader that has gone."""
    from tenclip_client.cli.output import finish_output, prepare_output

    prepare_output()
    try:
        sys.exit(main())
    finally:
        finish_output(0)


if __name__ == "__main__":
    _run()
