"""Videos of http: and https: URIs, by aiohttp.

Without a proxy the address that was judged is the one that is connected to, so a name that resolves to another one a
moment later gains nothing. The socket that connects judges it once more, so that no address gets there another way.

Through a proxy (`fetch_proxy`) the same URIs are refused: the server resolves every name itself and judges all of its
addresses before it asks the proxy, and refuses what it cannot resolve. The proxy then resolves the name again; names
that change their addresses in between are the proxy's to refuse.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from tenclip_api.addresses import is_loopback
from tenclip_api.errors import (
    DeadlineExceeded,
    FetchFailed,
    InvalidRequest,
    UriNotAllowed,
    VideoNotFound,
    VideoNotReadable,
)
from tenclip_api.proxies import Proxy, is_exempt, parse_proxy
from tenclip_api.uris import without_secrets
from tenclip_serving.intake.parts import FileStamp, Part
from tenclip_serving.intake.uri_policy import CONNECT_SECONDS, UriPolicy, check_address, checked_url
from tenclip_serving.requests import Upload
from tenclip_serving.thread_pools import Pool

if TYPE_CHECKING:
    from yarl import URL

MAX_REDIRECTS = 5
# A value of `UriPolicy.proxy`.
ENVIRONMENT = "environment"
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE, _FORBIDDEN = (404, 410), (401, 403)
_PIECE_BYTES = 1 << 20
# Content-Range: of bytes that are there, and of those that are not.
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


@asynccontextmanager
async def fetch_http(uri: str, name: str, policy: UriPolicy, names: Pool | None) -> AsyncIterator[Upload]:
    """The body of the first answer that is no redirect. See `fetch` for what it raises.

    name: stands for the URI in messages. names: threads that ask DNS.
    """
    async with Connections(policy, names) as connections:
        response = await _Hops(connections, name).follow(uri)
        try:
            _check_status(response, name)
            yield Upload(chunks=_body(response, name, policy), num_bytes=response.content_length or 0)
        finally:
            response.close()


@asynccontextmanager
async def fetch_http_part(
    uri: str, name: str, connections: Connections, first: int, num_bytes: int | None
) -> AsyncIterator[Part]:
    """Some bytes of a file, or all of it from a server that gives no parts. num_bytes None: all of it, asked for so.

    Raises what `fetch_http` does.
    """
    asked = {} if num_bytes is None else {"Range": f"bytes={first}-{first + num_bytes - 1}"}
    response = await _Hops(connections, name, asked).follow(uri)
    try:
        if response.status not in (206, 416) or not asked:
            _check_status(response, name)
        _check_encoding(response, name)
        total = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        is_part = response.status != 200 and total is not None
        if response.status == 206 and (total is None or int(total[1] or 0) != first):
            raise FetchFailed(f"{name}: {response.url.host} sends another part than it was asked for", source=name)
        empty = response.status == 416
        yield Part(
            chunks=_nothing() if empty else _body(response, name, connections.policy),
            is_part=is_part,
            stamp=FileStamp(
                size=int(total[2]) if total is not None else 0 if empty else response.content_length or 0,
                tag=response.headers.get("ETag", ""),
                modified_ns=_modified_ns(response.headers.get("Last-Modified", "")),
            ),
        )
    finally:
        if not response.content.at_eof():  # what is left would have to be read before the connection is used again
            response.close()
        response.release()


def proxy_for_url(url: URL, setting: str, environ: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy through which to ask for a URL; None for none.

    setting: "" for no proxy, "environment" for that of https_proxy or http_proxy (by the URL's scheme), else of
    all_proxy, each also in upper case; or http://[USER:PASSWORD@]HOST:PORT. Hosts of this machine and those that
    no_proxy names are always asked directly.
    Raises InvalidRequest, which does not quote it, for an address that is no http:// proxy.
    """
    host, port = url.host or "", url.port
    no_proxy = next((environ[name] for name in ("no_proxy", "NO_PROXY") if name in environ), "")
    if not setting or is_loopback(host) or is_exempt(host, port, no_proxy):
        return None
    if setting != ENVIRONMENT:
        return named_proxy(setting, source="fetch_proxy")
    for variable in (f"{url.scheme}_proxy", "all_proxy"):
        for name in (variable, variable.upper()):
            # A web server hands the header "Proxy:" of anybody's request to its scripts as HTTP_PROXY.
            if name in environ and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
                return named_proxy(environ[name], source=name) if environ[name].strip() else None
    return None


def named_proxy(text: str, *, source: str) -> Proxy:
    """The proxy that a setting or a variable names. Raises InvalidRequest, which does not quote it."""
    try:
        return parse_proxy(text, source=source)
    except InvalidRequest:
        raise InvalidRequest(f"{source}: names no proxy; write http://[USER:PASSWORD@]HOST:PORT") from None


class Connections:
    """A session for hops that connect directly, one for those through a proxy. An asynchronous context manager.

    keep: connections, whose addresses were judged when they were made, for the next request to the same host.
    names: threads that ask DNS.
    """

    def __init__(self, policy: UriPolicy, names: Pool | None = None, *, keep: bool = False) -> None:
        self.policy, self.names, self._keep = policy, names, keep
        self._held = AsyncExitStack()
        self._sessions: dict[bool, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._held.aclose()

    async def session(self, *, proxied: bool) -> Any:
        """Of aiohttp."""
        if proxied not in self._sessions:
            session = _new_session(self.policy, self.names, proxied=proxied, keep=self._keep)
            # Before anything is awaited, so that there is no second one.
            self._sessions[proxied] = session
            await self._held.enter_async_context(session)
        return self._sessions[proxied]


class _Hops:
    """One fetch with its redirects. headers: of each request."""

    def __init__(self, connections: Connections, name: str, headers: Mapping[str, str] | None = None) -> None:
        self._connections, self._name, self._headers = connections, name, dict(headers or {})
        self._policy, self._names = connections.policy, connections.names

    async def follow(self, uri: str) -> Any:
        """The first answer that is no redirect."""
        from yarl import URL

        url = checked_url(uri, self._name, self._policy)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._get(url)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            try:
                following = str(url.join(URL(location, encoded=True)))
            except ValueError:
                raise FetchFailed(
                    f"{self._name}: {url.host} sends us on to what is no URI", source=self._name
                ) from None
            url = checked_url(following, f"{self._name}, sent on to {without_secrets(following)}", self._policy)
        raise FetchFailed(f"{self._name}: is sent on more than {MAX_REDIRECTS} times", source=self._name)

    async def _get(self, url: URL) -> Any:
        proxy = await self._proxy(url)
        async with _failures(self._name, url.host, proxy):
            if proxy is None:
                session = await self._connections.session(proxied=False)
                return await session.get(url, allow_redirects=False, headers=self._headers)
            # Those for the proxy go with the request itself, or with CONNECT, and never through the tunnel.
            session = await self._connections.session(proxied=True)
            given: dict[str, Any] = {"headers": {**self._headers, **_authorization(proxy)}}
            if url.scheme == "https":
                given = {"headers": self._headers, "proxy_headers": _authorization(proxy)}
            response = await session.get(url, allow_redirects=False, proxy=f"http://{proxy.address}", **given)
        if response.status == 407:
            response.close()
            raise FetchFailed(f"{self._name}: {_refusal(proxy, 407)}", source=self._name)
        return response

    async def _proxy(self, url: URL) -> Proxy | None:
        """The proxy for this hop, once all addresses of its host have been judged; None for a direct connection."""
        try:
            proxy = proxy_for_url(url, self._policy.proxy)
        except InvalidRequest as err:  # the operator's mistake, not the caller's
            raise FetchFailed(f"{self._name}: cannot be fetched: {err.message}", source=self._name) from None
        if proxy is None:
            return None
        assert url.host is not None
        async with _failures(self._name, url.host, None):
            found = await _judged(url.host, url.port or 0, socket.AF_UNSPEC, self._policy, self._names)
        # A name of this machine means another machine to the proxy.
        return None if all(is_loopback(str(address)) for *_, (address, *_) in found) else proxy


def _new_session(policy: UriPolicy, names: Pool | None, *, proxied: bool, keep: bool) -> Any:
    """proxied: it connects to the proxy alone, whose address the operator has named and nobody judges."""
    import aiohttp

    connector = (
        aiohttp.TCPConnector(use_dns_cache=False, force_close=not keep)
        if proxied
        else aiohttp.TCPConnector(
            resolver=_resolver(policy, names),
            socket_factory=partial(_socket, policy),
            use_dns_cache=False,
            force_close=not keep,
        )
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=min(CONNECT_SECONDS, policy.idle_seconds), sock_read=policy.idle_seconds
        ),
        # The bytes as they are: unpacking is how a small answer becomes an endless one.
        headers={"Accept-Encoding": "identity", "User-Agent": "tenclip"},
        auto_decompress=False,
        trust_env=False,
    )


async def _judged(
    host: str, port: int, family: socket.AddressFamily, policy: UriPolicy, names: Pool | None
) -> list[tuple[Any, ...]]:
    """The answer of getaddrinfo, once all addresses in it have been judged. Raises UriNotAllowed, OSError."""
    ask = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
    found = await (asyncio.to_thread(ask) if names is None else names.run(ask))
    for *_, address in found:
        check_address(host, str(address[0]), policy)
    return list(found)


def _resolver(policy: UriPolicy, names: Pool | None) -> Any:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Resolver(AbstractResolver):
        """Gives addresses that were judged; the connection goes to one of these and to no other."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
                for kind, _, proto, _, address in await _judged(host, port, family, policy, names)
            ]

        async def close(self) -> None:
            pass

    return Resolver()


def _socket(policy: UriPolicy, target: Sequence[Any]) -> socket.socket:
    """For a connection to `target`, as of getaddrinfo. Raises UriNotAllowed, also for what is still to be resolved."""
    family, kind, protocol, _, (address, *_) = target
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise UriNotAllowed(f"{address}: is no address as 192.0.2.1 is one") from None
    check_address(address, address, policy)
    return socket.socket(family, kind, protocol)


def _check_status(response: Any, name: str) -> None:
    status, host = response.status, response.url.host
    if status in _GONE:
        raise VideoNotFound(f"{name}: {host} has no such file (status {status})", source=name)
    if status in _FORBIDDEN:
        raise VideoNotReadable(f"{name}: {host} does not let us read it (status {status})", source=name)
    if status != 200:
        raise FetchFailed(f"{name}: {host} answers with status {status}; wanted was 200", source=name)
    _check_encoding(response, name)


def _check_encoding(response: Any, name: str) -> None:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed(f"{name}: {response.url.host} sends it compressed, though we asked it not to", source=name)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _modified_ns(text: str) -> int:
    """Nanoseconds since 1970 of a header like Last-Modified; 0 where it says nothing."""
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (TypeError, ValueError, OverflowError):
        return 0


async def _body(response: Any, name: str, policy: UriPolicy) -> AsyncIterator[bytes]:
    pieces = response.content.iter_chunked(_PIECE_BYTES)
    async with _failures(name, response.url.host, None):
        while True:
            # aiohttp 3.14's own timeout ends with the connection, and some malformed chunks end that without a word.
            async with asyncio.timeout(policy.idle_seconds):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece


@asynccontextmanager
async def _failures(name: str, host: str | None, proxy: Proxy | None) -> AsyncIterator[None]:
    # Neither in messages nor as the cause of an error, which a trace would show: aiohttp's own texts quote the whole
    # URI, and its query may be a signature.
    import aiohttp

    try:
        yield
    except TimeoutError:
        through = "" if proxy is None else f", through the proxy {proxy},"
        raise DeadlineExceeded(f"{name}: {host}{through} does not answer in time, or sends nothing") from None
    except aiohttp.ClientPayloadError:
        raise FetchFailed(f"{name}: {host} ended before all of it had come", source=name) from None
    except (aiohttp.ClientError, OSError, ValueError) as err:
        why = _what_failed(err) if proxy is None else _what_failed_at(proxy, err)
        raise FetchFailed(f"{name}: cannot be fetched from {host}: {why}", source=name) from None


def _what_failed_at(proxy: Proxy, err: Exception) -> str:
    import aiohttp

    if isinstance(err, aiohttp.ClientHttpProxyError):
        return _refusal(proxy, err.status)
    if isinstance(err, aiohttp.ClientProxyConnectionError):
        return f"cannot connect to the proxy {proxy}"
    return f"{_what_failed(err)}, through the proxy {proxy}"


def _authorization(proxy: Proxy) -> dict[str, str]:
    if not proxy.credentials:
        return {}
    return {"Proxy-Authorization": f"Basic {base64.b64encode(proxy.credentials.encode()).decode()}"}


def _refusal(proxy: Proxy, status: int) -> str:
    wanted = ": it wants another user and password" if status == 407 else ""
    return f"the proxy {proxy} refuses with status {status}{wanted}"


def _what_failed(err: Exception) -> str:
    """In words of our own."""
    import aiohttp

    # (a kind of error, what it means): the first that fits counts.
    meanings: tuple[tuple[type[Exception], str], ...] = (
        (aiohttp.ClientConnectorDNSError, "its name cannot be resolved"),
        (aiohttp.ClientConnectorCertificateError, "its TLS certificate is not one to trust"),
        (aiohttp.ClientSSLError, "it does not speak TLS as we do"),
        (aiohttp.ServerDisconnectedError, "it hung up"),
        (aiohttp.ClientResponseError, "its answer is not HTTP"),
    )
    meaning = next((text for kind, text in meanings if isinstance(err, kind)), None)
    if meaning is None and isinstance(err, OSError) and err.errno:
        meaning = os.strerror(err.errno)
    return meaning or type(err).__name__
