"""HTTP proxies between a gRPC client and its server: when one is used, and how gRPC is told so.

gRPC's own rules send loopback connections to the proxy, read lower-case variables only, and cannot be overruled where
a proxy is named explicitly. So the decision is made here, once, for every client of tenclip:

- A proxy that the caller names is used; `False` or "" connects directly.
- Otherwise loopback addresses and Unix sockets are connected to directly, and so is what no_proxy names.
- Otherwise the first of grpc_proxy, https_proxy, http_proxy, all_proxy that is set names the proxy (each also in upper
  case). One that is set to nothing means none. gRPC can use http:// proxies only (their CONNECT method); another kind
  is passed over, and errors say so.

no_proxy (or no_grpc_proxy, which wins) lists hosts, separated by commas or blanks: names, which stand for their
sub-domains too, with or without a leading dot; IP addresses; networks (10.0.0.0/8); each perhaps with a port; `*` is
everything.

Standard library only; nothing here connects.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from tenclip_api.addresses import endpoints_of, ip_address_of, is_loopback, is_socket
from tenclip_api.errors import InvalidRequest

# None: as the environment says. False or "": none. Otherwise http://[USER:PASSWORD@]HOST:PORT.
ProxyChoice: TypeAlias = "str | Literal[False] | None"

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")
NO_PROXY_VARIABLES = ("no_grpc_proxy", "no_proxy")
_DEFAULT_PORT = 80  # of http
_URL = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?:(?P<user>.*)@)?"  # up to the last @: passwords hold what URLs should not
    r"(?P<host>\[[0-9a-f:.%]+\]|[^\s:/?#@\[\]]+)(?::(?P<port>\d{1,5}))?/?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """An HTTP proxy. `source`: the variable or argument that names it. Printing it never shows its credentials."""

    host: str
    port: int
    source: str
    credentials: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"http://{self.address} (from {self.source})"


@dataclass(frozen=True, kw_only=True)
class Route:
    """The way to a gRPC target: open the channel to `address`, with `options` among its own.

    proxy: what it goes through, None when it connects directly. note: proxies that were passed over, and why.
    """

    address: str
    options: tuple[tuple[str, Any], ...]
    proxy: Proxy | None = None
    note: str = ""


def route_to(
    target: str,
    *,
    proxy: ProxyChoice = None,
    server_name: str = "",
    environ: Mapping[str, str] = os.environ,
) -> Route:
    """Decide how to reach a gRPC target, by the rules of this module.

    server_name: the name in the server's TLS certificate, where it is not the target's own.

    Raises InvalidRequest for a proxy named by the caller that gRPC cannot use, without quoting it: it may hold a
    password.

    ::

        route = route_to("gpu-box:7411")
        channel = grpc.insecure_channel(route.address, [*options, *route.options])
    """
    if proxy is None:
        chosen, note = _from_environment(target, environ)
    else:
        chosen, note = _from_caller(target, proxy), ""
    # Whatever is decided, gRPC shall not decide again.
    options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0), *tls_name_options(server_name)]
    if chosen is None:
        return Route(address=target, options=tuple(options), note=note)
    ((host, port),) = endpoints_of(target)
    server = f"[{host}]:{port or 443}" if ":" in host else f"{host}:{port or 443}"
    options += [
        ("grpc.http_connect_server", server),
        # The server sees this name, and TLS checks the certificate against it; else it would be the proxy's.
        ("grpc.default_authority", server_name or server),
    ]
    if chosen.credentials:
        token = base64.b64encode(chosen.credentials.encode()).decode()
        options.append(("grpc.http_connect_headers", f"Proxy-Authorization:Basic {token}"))
    return Route(address=f"dns:///{chosen.address}", options=tuple(options), proxy=chosen, note=note)


def tls_name_options(server_name: str) -> list[tuple[str, Any]]:
    """Options of a channel whose server has a certificate for `server_name`; none for ""."""
    return [("grpc.ssl_target_name_override", server_name)] if server_name else []


def proxy_for(target: str, environ: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy through which the environment says to reach a gRPC target; None: directly."""
    return _from_environment(target, environ)[0]


def parse_proxy(text: str, *, source: str) -> Proxy:
    """`http://[USER:PASSWORD@]HOST[:PORT]`, or without http://. Raises InvalidRequest, which does not quote it."""
    match = _URL.fullmatch(text.strip())
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        raise InvalidRequest(f"{source}: is not the address of a proxy; write http://HOST:PORT")
    scheme = (match["scheme"] or "http").lower()
    if scheme != "http":
        raise InvalidRequest(f"{source}: names a proxy of {scheme}://, and gRPC can use those of http:// only")
    return Proxy(
        host=match["host"],
        port=int(match["port"] or _DEFAULT_PORT),
        source=source,
        credentials=unquote(match["user"] or ""),
    )


def is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """True when a list in the form of no_proxy names the host.

    >>> is_exempt("gpu.lab.example", 7411, "localhost, .lab.example"), is_exempt("10.1.2.3", 7411, "10.0.0.0/8")
    (True, True)
    """
    return any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", no_proxy) if entry)


def _from_caller(target: str, proxy: str | bool) -> Proxy | None:
    if proxy is True:
        raise InvalidRequest(
            "proxy: write its address (http://HOST:PORT), False for none, or None for the environment's"
        )
    if proxy is False or not proxy.strip():
        return None
    chosen = replace(parse_proxy(proxy, source="proxy"), source="the argument proxy")
    if len(endpoints_of(target)) != 1:
        raise InvalidRequest(f"proxy: {target} is not one HOST:PORT, so no proxy can lead there; leave the proxy out")
    return chosen


def _from_environment(target: str, environ: Mapping[str, str]) -> tuple[Proxy | None, str]:
    """(the proxy, a note on proxies that were passed over)."""
    endpoints = endpoints_of(target)
    if is_socket(target) or all(is_loopback(host) for host, _ in endpoints):
        return None, ""
    no_proxy = next((environ[n] for v in NO_PROXY_VARIABLES for n in (v, v.upper()) if n in environ), "")
    if all(is_exempt(host, port, no_proxy) for host, port in endpoints):
        return None, ""
    notes: list[str] = []
    for name in (n for v in PROXY_VARIABLES for n in (v, v.upper())):
        # A web server hands the header "Proxy:" of anybody's request to its scripts as HTTP_PROXY.
        if name not in environ or (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
            continue
        if not environ[name].strip():
            break
        try:
            proxy = parse_proxy(environ[name], source=name)
        except InvalidRequest as err:
            notes.append(f"{err.message}; it was passed over")
            continue
        if len(endpoints) == 1:
            return proxy, "; ".join(notes)
        notes.append(f"{name}: a list of addresses cannot be reached through a proxy; it was passed over")
        break
    return None, "; ".join(notes)


def _matches(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _in_network(entry, host)
    if ip_address_of(entry) is None:  # a whole IPv6 address has no port to split off
        name, colon, digits = entry.rpartition(":")
        if colon and digits.isdigit():
            if port != int(digits):
                return False
            entry = name
    listed, address = ip_address_of(entry), ip_address_of(host)
    if listed is not None or address is not None:
        return listed == address
    suffix = entry.lower().removeprefix("*").removeprefix(".").removesuffix(".")
    name = host.lower().removesuffix(".")
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def _in_network(entry: str, host: str) -> bool:
    address = ip_address_of(host)
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address is not None and address.version == network.version and address in network
