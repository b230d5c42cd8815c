"""Addresses to listen on: how they are written, and why one cannot be had.

gRPC only says that it could not bind. So the operating system is asked again, with a socket that is closed at once.
For the server and the page.
"""

from __future__ import annotations

import errno
import os
import socket

from tenclip_api.addresses import is_ipv6
from tenclip_api.errors import ServerUnavailable


def plain_host(host: str) -> str:
    """Without the brackets that an IPv6 address has beside a port. Raises ValueError for what is no host.

    >>> plain_host("[::1]"), plain_host("0.0.0.0")
    ('::1', '0.0.0.0')
    """
    if not host:
        raise ValueError("host must not be empty; 0.0.0.0 listens on every interface")
    plain = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if host.startswith("unix") and ":" in host:
        raise ValueError(f"host {host!r}: this server listens on TCP only, not on Unix sockets; write 127.0.0.1")
    if ":" in plain and not is_ipv6(plain):
        raise ValueError(f"host {host!r}: write an address or a name alone; the port is a setting of its own")
    if not plain or any(c in "/[]" or c.isspace() for c in plain):
        raise ValueError(f"host {host!r} is neither an address nor a name")
    return plain


def with_port(host: str, port: int) -> str:
    """HOST:PORT in the form that clients and gRPC take.

    >>> with_port("::1", 7411)
    '[::1]:7411'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_can_listen(host: str, port: int, *, option: str) -> None:
    """Raises ServerUnavailable with the reason why nobody can listen there now; `option`: the port's flag."""
    why = why_not_listen(host, port, option=option)
    if why:
        raise ServerUnavailable(f"cannot listen on {with_port(host, port)}: {why}")


def why_not_listen(host: str, port: int, *, option: str) -> str:
    """The reason why a port cannot be listened on; "" where one of the host's addresses can be."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as err:
        return explain(err, option=option)
    reasons = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            return ""
        except OSError as err:
            reasons.append(explain(err, option=option))
    return "; ".join(dict.fromkeys(reasons))


def explain(err: Exception, *, option: str) -> str:
    """Explain an error of resolving or binding, and what would work."""
    if isinstance(err, socket.gaierror | UnicodeError):
        reason = err.strerror if isinstance(err, socket.gaierror) else err
        return f"the host's name cannot be resolved ({reason})"
    number = err.errno if isinstance(err, OSError) else None
    if number == errno.EADDRINUSE:
        return f"the port is taken; {option} 0 takes a free one"
    if number in (errno.EACCES, errno.EPERM):
        return (
            "permission denied: low ports are the system's; take one from 1024 on, or give the process "
            "CAP_NET_BIND_SERVICE"
        )
    if number == errno.EADDRNOTAVAIL:
        return "the host is not this machine's; 0.0.0.0 listens on every interface"
    if number == errno.EAFNOSUPPORT:
        return "this machine has no addresses of this kind (IPv6 is off?)"
    return os.strerror(number) if number else str(err)
