"""From a source to what its reader reads: a descriptor, or the address of a relay on this machine.

    async with connect(source, rules) as connection:
        await process.open(replace(request, target=connection.target, ...), connection.descriptor)

Addresses are resolved, judged and connected to here, by the rules of `intake.uri_policy`: the process that decodes
connects to nothing but the RTSP relay.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tenclip_api.errors import DeadlineExceeded, FetchFailed, InvalidRequest, TenclipError, UriNotAllowed, VideoNotFound
from tenclip_serving.intake.fetch_http import fetch_http
from tenclip_serving.intake.uri_policy import CONNECT_SECONDS, UriPolicy, check_address, host_allowed, looks_numeric
from tenclip_serving.live.rtsp_relay import RtspRelay, rtsp_relay
from tenclip_serving.live.source import DEFAULT_PORTS, LiveSource
from tenclip_serving.thread_pools import Pool

# A burst of a keyframe must not be lost while the reader is busy.
_UDP_BUFFER_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class LiveRules:
    """What may be connected to, and how long it may take.

    policy: as for videos that are fetched, with the schemes of streams; None: anything, for it is the caller's own
    machine that connects. names: threads that ask DNS; asyncio's own by default.
    """

    policy: UriPolicy | None
    names: Pool | None = None
    idle_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Connection:
    """target, format: for `OpenStream`. descriptor: of the bytes, which stays this connection's to close.

    relay: of an RTSP session.
    """

    target: str | None = None
    format: str | None = None
    descriptor: int | None = None
    relay: RtspRelay | None = None

    @property
    def error(self) -> TenclipError | None:
        """Why we hung up, where we did."""
        return None if self.relay is None else self.relay.error


@asynccontextmanager
async def connect(source: LiveSource, rules: LiveRules) -> AsyncIterator[Connection]:
    """A connection to a source, to be used within.

    Raises UriNotAllowed and InvalidRequest, which no later attempt changes, and FetchFailed, DeadlineExceeded,
    VideoNotFound, VideoNotReadable, which one may.
    """
    if source.kind == "webcam":
        yield Connection(target=source.text, format="v4l2")
    elif source.kind in ("file", "stdin"):
        with _opened(source) as descriptor:
            yield Connection(descriptor=descriptor)
    elif source.kind == "http":
        async with _http(source, rules) as connection:
            yield connection
    else:
        host, port = judge_host(source, rules.policy)
        async with AsyncExitStack() as held:
            yield await _CONNECTORS[source.kind](source, rules, host, port, held)


def judge_host(source: LiveSource, policy: UriPolicy | None) -> tuple[str, int]:
    """(host, port) of an address. Raises UriNotAllowed for one that the policy does not allow, in its own words."""
    parts = urlsplit(source.text)
    host, scheme = parts.hostname or "", parts.scheme.lower()
    port = parts.port if parts.port is not None else DEFAULT_PORTS[scheme]
    if policy is None:
        return host, port
    check_scheme(source, policy)
    if scheme in ("tcp", "udp") and (parts.username or parts.password):
        raise InvalidRequest(f"{source.name}: user and password do not belong into a URI")
    if not host_allowed(host, port, DEFAULT_PORTS[scheme], policy.hosts):
        raise UriNotAllowed(f"{source.name}: this server does not fetch from {host}, port {port} (allow_hosts)")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if looks_numeric(host):
            raise UriNotAllowed(f"{source.name}: {host} is no name, and no address as 192.0.2.1 is one") from None
    else:
        check_address(host, host, policy)
    return host, port


def check_scheme(source: LiveSource, policy: UriPolicy) -> None:
    """Raises UriNotAllowed for a scheme that the policy does not name."""
    scheme = urlsplit(source.text).scheme.lower()
    if scheme not in policy.schemes:
        allowed = ", ".join(f"{s}:" for s in policy.schemes)
        reads = f"live streams by {allowed} and nothing else" if allowed else "no live streams"
        raise UriNotAllowed(f"{source.name}: this server reads {reads} (live_schemes)")


async def _resolve(source: LiveSource, host: str, port: int, rules: LiveRules, kind: socket.SocketKind) -> list[Any]:
    """The answer of getaddrinfo, once all addresses in it have been judged."""
    ask = partial(socket.getaddrinfo, host, port, socket.AF_UNSPEC, kind)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await (asyncio.to_thread(ask) if rules.names is None else rules.names.run(ask))
    except TimeoutError:
        raise DeadlineExceeded(f"{source.name}: no DNS server says in time where {host} is") from None
    except OSError:
        raise FetchFailed(f"{source.name}: the name {host} cannot be resolved", source=source.name) from None
    if rules.policy is not None:
        for *_, address in found:
            check_address(host, str(address[0]), rules.policy)
    return list(found)


async def _connect_tcp(source: LiveSource, host: str, port: int, rules: LiveRules) -> socket.socket:
    """A connected socket that does not block; the first address that answers."""
    loop = asyncio.get_running_loop()
    why = "it has no address"
    for family, kind, protocol, _, address in await _resolve(source, host, port, rules, socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(min(CONNECT_SECONDS, rules.idle_seconds)):
                await loop.sock_connect(sock, address)
            return sock
        except TimeoutError:
            why = "it does not answer in time"
        except OSError as err:
            why = os.strerror(err.errno) if err.errno else str(err)
        except BaseException:
            sock.close()
            raise
        sock.close()
    raise FetchFailed(f"{source.name}: cannot connect to {host}, port {port}: {why}", source=source.name)


async def _tcp(source: LiveSource, rules: LiveRules, host: str, port: int, held: AsyncExitStack) -> Connection:
    sock = held.enter_context(await _connect_tcp(source, host, port, rules))
    return Connection(descriptor=sock.fileno(), format="mpegts")


async def _udp(source: LiveSource, rules: LiveRules, host: str, port: int, held: AsyncExitStack) -> Connection:
    """Bound to an address of this machine, or to that of a multicast group, which is joined."""
    family, kind, protocol, _, address = (await _resolve(source, host, port, rules, socket.SOCK_DGRAM))[0]
    sock = held.enter_context(socket.socket(family, kind, protocol))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UDP_BUFFER_BYTES)
        group = ipaddress.ip_address(address[0])
        if group.is_multicast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        if isinstance(group, ipaddress.IPv4Address) and group.is_multicast:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + struct.pack("=I", 0))
        elif group.is_multicast:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.packed + struct.pack("=I", 0))
    except OSError as err:
        raise FetchFailed(
            f"{source.name}: cannot listen there: {err.strerror or err}; udp: needs an address of this machine, or of "
            "a multicast group",
            source=source.name,
        ) from None
    return Connection(descriptor=sock.fileno(), format="mpegts")


async def _rtsp(source: LiveSource, rules: LiveRules, host: str, port: int, held: AsyncExitStack) -> Connection:
    sock = await _connect_tcp(source, host, port, rules)
    parts = urlsplit(source.text)
    tls = ssl.create_default_context() if parts.scheme.lower() == "rtsps" else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            opened = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=host if tls else None)
    except ssl.SSLCertVerificationError:
        sock.close()
        raise FetchFailed(f"{source.name}: its TLS certificate is not one to trust", source=source.name) from None
    except (OSError, TimeoutError):
        sock.close()
        raise FetchFailed(f"{source.name}: it does not speak TLS as we do", source=source.name) from None
    relay = await held.enter_async_context(rtsp_relay(source.name, *opened))
    login, at, _ = parts.netloc.rpartition("@")
    target = parts._replace(scheme="rtsp", netloc=f"{login}{at}127.0.0.1:{relay.port}").geturl()
    return Connection(target=target, format="rtsp", relay=relay)


@asynccontextmanager
async def _http(source: LiveSource, rules: LiveRules) -> AsyncIterator[Connection]:
    """The body of a response, through a pair of sockets; every hop on the way to it is judged by `fetch_http`."""
    policy = rules.policy or _anywhere(source)
    check_scheme(source, policy)
    policy.check_installed()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        policy = replace(policy, idle_seconds=rules.idle_seconds)
        async with fetch_http(source.text, source.name, policy, rules.names) as body:

            async def pump() -> None:
                loop = asyncio.get_running_loop()
                try:
                    async for piece in body.chunks:
                        await loop.sock_sendall(ours, piece)
                except (TenclipError, OSError):
                    pass  # an interruption like any other: its reader sees the end
                finally:
                    ours.close()

            task = asyncio.create_task(pump())
            try:
                yield Connection(descriptor=theirs.fileno())
            finally:
                task.cancel()
                await asyncio.wait([task])


def _anywhere(source: LiveSource) -> UriPolicy:
    """A policy that allows what the caller could ask for himself."""
    port = urlsplit(source.text).port or 0
    networks = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    hosts = ("*", f"*:{port}") if port else ("*",)
    return UriPolicy(schemes=("http", "https"), hosts=hosts, networks=networks, proxy="environment")


@contextmanager
def _opened(source: LiveSource) -> Iterator[int]:
    if source.kind == "stdin":
        yield 0
        return
    try:
        descriptor = os.open(source.text, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as err:
        raise VideoNotFound(f"{source.name}: {err.strerror}", source=source.name) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


_CONNECTORS = {"tcp": _tcp, "udp": _udp, "rtsp": _rtsp}
