"""The channel of a client: address, route, retries, keepalive, message limits."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc

from tenclip_api.addresses import is_ipv6, is_socket
from tenclip_api.errors import InvalidRequest
from tenclip_api.proxies import Proxy, ProxyChoice, Route, parse_proxy, route_to, tls_name_options

ChannelOptions: TypeAlias = "Sequence[tuple[str, Any]]"

DEFAULT_PORT = 7411
DEFAULT_TARGET = f"127.0.0.1:{DEFAULT_PORT}"
DEFAULT_TIMEOUT = 60.0
DEFAULT_RETRIES = 3
DEFAULT_KEEPALIVE_SECONDS = 30.0
# What gRPC resolves by itself; anything else before "://" is no gRPC address.
_SCHEMES = ("dns:", "unix:", "unix-abstract:", "vsock:", "ipv4:", "ipv6:", "xds:")
# Those that name a proxy to gRPC itself, in its order.
_GRPC_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


def parse_target(target: str) -> str:
    """`HOST`, `HOST:PORT`, `[IPV6]:PORT` or a gRPC address with its scheme -> what gRPC dials.

    Raises InvalidRequest. gRPC itself would take port 99999 for 34463 and say nothing.
    """
    if target.startswith(_SCHEMES):
        return target
    if not target or "/" in target or any(c.isspace() for c in target):
        raise InvalidRequest(f"server address {target!r}: write HOST:PORT, e.g. {DEFAULT_TARGET}")
    _refuse_ambiguous(target)
    host, port = _split(target)
    if (
        not host
        or ("[" in host) != host.endswith("]")
        or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535)
    ):
        raise InvalidRequest(f"server address {target!r}: write HOST:PORT with a port from 1 to 65535")
    return f"{host}:{port}"


def _refuse_ambiguous(target: str) -> None:
    """An IPv6 address that ends in what looks like a port may be either."""
    host, _, port = target.rpartition(":")
    if ":" in host and "[" not in target and is_ipv6(host) and port.isascii() and port.isdigit() and len(port) > 3:
        address = f"; if it is all address, [{target}]" if is_ipv6(target) else ""
        raise InvalidRequest(
            f"server address {target!r}: an IPv6 address stands in brackets before HOST:PORT's port, [{host}]:{port}"
            f"{address}"
        )


def _split(target: str) -> tuple[str, str]:
    """(host, port); whatever is no port is left for the caller to refuse."""
    if target.count(":") > 1 and not target.startswith("["):  # an IPv6 address without brackets, so without a port
        return f"[{target}]", str(DEFAULT_PORT)
    if target.endswith("]"):
        return target, str(DEFAULT_PORT)
    host, colon, port = target.rpartition(":")
    return (host, port) if colon else (target, str(DEFAULT_PORT))


def choose_route(target: str, *, proxy: ProxyChoice, server_name: str, options: ChannelOptions) -> Route:
    """Choose how to reach `target`. Where `options` name a proxy themselves, gRPC follows those."""
    if any(name in ("grpc.enable_http_proxy", "grpc.http_proxy") for name, _ in options):
        return Route(address=target, options=tuple(tls_name_options(server_name)))
    return route_to(target, proxy=proxy, server_name=server_name)


def proxy_of_options(target: str, options: ChannelOptions) -> Proxy | None:
    """The proxy that gRPC may take where `options` leave the choice to it: for addresses of this machine, too.

    What no_proxy exempts from it is not looked at. Raises InvalidRequest for what is no address of a proxy.
    """
    given = dict(options)
    if is_socket(target) or not given.get("grpc.enable_http_proxy", "grpc.http_proxy" in given):
        return None
    source, text = "grpc.http_proxy", given.get("grpc.http_proxy")
    if text is None:
        found = ((name, os.environ.get(name)) for name in _GRPC_VARIABLES)
        source, text = next(((name, value) for name, value in found if value is not None), ("", None))
    return parse_proxy(str(text), source=source) if text else None


def open_channel(target: str, credentials: grpc.ChannelCredentials | None, options: ChannelOptions) -> grpc.Channel:
    """A blocking channel."""
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def channel_options(*, retries: int, keepalive_seconds: float | None, extra: ChannelOptions) -> list[tuple[str, Any]]:
    """Options of the channel; `extra` comes last and wins."""
    if not 0 <= retries <= 4:
        raise InvalidRequest(f"retries must be from 0 to 4 (gRPC makes at most 5 attempts), got {retries}")
    if keepalive_seconds is not None and keepalive_seconds < 1:
        raise InvalidRequest(f"keepalive_seconds must be at least 1, got {keepalive_seconds}")
    options: list[tuple[str, Any]] = [
        # The server's limit is the one that counts; a second one here could only disagree with it.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", int(retries > 0)),
        # The server may be restarting: ask again soon, and at least every five seconds.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5000),
        ("grpc.primary_user_agent", "tenclip-client"),
    ]
    options.append(("grpc.service_config", _service_config(retries)))
    if retries:
        options += [
            # A request beyond this many bytes is never retried, and the default is 256 KiB: no video at all.
            ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
        ]
    if keepalive_seconds is not None:
        # Only while a call waits: a long decode sends nothing, and a dead peer would look the same.
        options += [
            ("grpc.keepalive_time_ms", int(keepalive_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", 10_000),
            # As long as it takes: gRPC would stop after two pings in which nothing else was sent.
            ("grpc.http2.max_pings_without_data", 0),
        ]
    return [*options, *extra]


def _service_config(retries: int) -> str:
    # UNAVAILABLE: nobody answered, or the server refused before it began. CANCELLED, when the caller has not cancelled:
    # gRPC's own answer to calls that it has taken and not yet handed to a server which is told to stop. All calls are
    # reads, so one that was cut off in the middle may be repeated too. Where a repeat would do harm (the video killed
    # its decoder) the server answers UNAVAILABLE with `grpc-retry-pushback-ms: -1`, and gRPC does not retry.
    policy = {
        "maxAttempts": retries + 1,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
    }
    method: dict[str, Any] = {"name": [{"service": "tenclip.v1.VideoRecognition"}]}
    if retries:
        method["retryPolicy"] = policy
    # A name with several addresses (a headless Kubernetes Service) is a set of equal servers: use them all.
    return json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [method]})
