"""Addresses of hosts and of gRPC targets, for client and server."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote


def is_ipv6(host: str) -> bool:
    """True for an IPv6 address, without brackets or port.

    >>> is_ipv6("::1"), is_ipv6("127.0.0.1"), is_ipv6("localhost")
    (True, False, False)
    """
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def ip_address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `host` is, with or without brackets; None for a name.

    >>> ip_address_of("[::ffff:10.0.0.1]"), ip_address_of("box")
    (IPv4Address('10.0.0.1'), None)
    """
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_loopback(host: str) -> bool:
    """True when a connection to `host` stays on this machine: localhost, 127.0.0.0/8, ::1, and 0.0.0.0 and ::."""
    address = ip_address_of(host)
    if address is None:
        return host.lower().removesuffix(".") == "localhost"
    return address.is_loopback or address.is_unspecified


def is_socket(target: str) -> bool:
    """True for a gRPC target that is a socket of this machine, or of its virtual machine's host."""
    return target.startswith(("unix:", "unix-abstract:", "vsock:"))


def endpoints_of(target: str) -> list[tuple[str, int | None]]:
    """The (host, port) of a gRPC target; several for a list of addresses, none for sockets and `xds:`.

    >>> endpoints_of("dns:///box:7411"), endpoints_of("ipv6:%5B::1%5D:80,[::2]:81")
    ([('box', 7411)], [('::1', 80), ('::2', 81)])
    """
    if is_socket(target) or target.startswith("xds:"):
        return []
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("dns", "ipv4", "ipv6"):
        # dns://RESOLVER/HOST:PORT, dns:HOST:PORT, ipv4:ADDRESS:PORT,ADDRESS:PORT
        target = rest.removeprefix("//").partition("/")[2] if rest.startswith("//") else rest
        target = unquote(target)
    return [_endpoint(address) for address in target.split(",")]


def _endpoint(address: str) -> tuple[str, int | None]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = address, ""
    return host.removeprefix("[").removesuffix("]"), int(port) if port else None
