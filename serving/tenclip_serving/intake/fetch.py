"""Videos that a request names by URI, from where its caller could perhaps not read them himself.

That makes the server a proxy, so all of it is off until it is allowed, and every hop of a redirect is judged anew: its
scheme, its host, and the address that the host resolves to. That very address is then connected to, so that a name
which resolves to another one a moment later gains nothing; and it is judged once more by the socket that connects, so
that no address gets there another way. Private, loopback, link-local and other addresses that are not of the public
Internet are refused, unless the server's operator allows their network.

http and https go through aiohttp itself: fsspec's file system would resolve names, and follow redirects, by its own
rules. s3 goes through s3fs, whose endpoint and credentials are the operator's (as of any AWS tool: AWS_ENDPOINT_URL,
AWS_PROFILE, a role); a URI names no more than a bucket and a key.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tenclip_api.errors import (
    DeadlineExceeded,
    FetchFailed,
    InvalidRequest,
    MissingDependency,
    UriNotAllowed,
    VideoNotFound,
    VideoNotReadable,
)
from tenclip_api.uris import without_secrets
from tenclip_serving.requests import Upload
from tenclip_serving.thread_pools import Pool

if TYPE_CHECKING:
    from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE, _FORBIDDEN = (404, 410), (401, 403, 407)
_PIECE_BYTES = 1 << 20
# Of s3, where each piece is a request.
_PART_BYTES = 8 << 20
_CONNECT_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}
_MODULES = {"http": ("aiohttp",), "https": ("aiohttp",), "s3": ("s3fs",)}
# 64:ff9b::/96 is IPv4 behind a translator, 64:ff9b:1::/48 is for local use.
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED_LOCALLY = ipaddress.IPv6Network("64:ff9b:1::/48")
# What ends so is an IPv4 address to browsers and to C libraries, which read 2130706433, 127.1 and 0x7f.1 as 127.0.0.1.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?", re.DOTALL)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, kw_only=True)
class UriPolicy:
    """What may be fetched.

    schemes: of http, https and s3. hosts: `media.example`, `media.example:8443` (else the scheme's own port only),
    `*.media.example`, or `*` for all; for s3 the names of buckets. networks: allowed though they are not public.
    max_seconds: for all of a video; idle_seconds: without a byte.
    """

    schemes: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    max_seconds: float = 300.0
    idle_seconds: float = 30.0

    def check_installed(self) -> None:
        """Raises MissingDependency where a scheme is allowed that nothing here can fetch."""
        for scheme in self.schemes:
            missing = [m for m in _MODULES[scheme] if importlib.util.find_spec(m) is None]
            if missing:
                raise MissingDependency(
                    f"fetching {scheme}: needs {missing[0]}, which is not installed: pip install 'tenclip[uri]'"
                )


def file_path(uri: str) -> str | None:
    """The path of a `file:` URI, which is then judged like any other path; None for another scheme.

    Raises InvalidRequest for one of another machine, and for one with a query or fragment: no file has those.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise InvalidRequest(f"{without_secrets(uri)}: write file:/PATH, of a file on the server's machine")
    if parts.query or parts.fragment:
        raise InvalidRequest(
            f"{without_secrets(uri)}: a file: URI has no query or fragment; in a file's name ? is %3F, and # is %23"
        )
    return unquote(parts.path)


@asynccontextmanager
async def fetch(uri: str, policy: UriPolicy, *, names: Pool | None = None) -> AsyncIterator[Upload]:
    """What is there, to be read within.

    names: threads that ask DNS; asyncio's own by default. (For s3 these in any case: its name is the operator's.)
    Raises UriNotAllowed, InvalidRequest, VideoNotFound, VideoNotReadable, FetchFailed and DeadlineExceeded, reading the
    pieces as well.
    """
    name = without_secrets(uri)
    try:
        scheme = urlsplit(uri).scheme
    except ValueError:
        raise InvalidRequest(f"{name}: is no URI that can be read") from None
    if scheme not in policy.schemes:
        allowed = ", ".join(f"{s}:" for s in ("file", *policy.schemes))
        raise UriNotAllowed(
            f"{name}: this server fetches {allowed} and nothing else (allow_schemes); or send the video itself"
        )
    try:
        async with asyncio.timeout(policy.max_seconds):
            async with _s3(uri, name, policy) if scheme == "s3" else _http(uri, name, policy, names) as upload:
                yield upload
    except TimeoutError as err:
        raise DeadlineExceeded(f"{name}: not fetched in {policy.max_seconds:g} seconds (max_fetch_seconds)") from err


# -- who may be asked -------------------------------------------------------------------------------------------------


def host_allowed(host: str, port: int, default_port: int, patterns: Sequence[str]) -> bool:
    """See `UriPolicy.hosts`."""
    host = host.lower().rstrip(".")
    for pattern in patterns:
        wanted, port_wanted = _split_port(pattern.lower(), default_port)
        if port != port_wanted:
            continue
        if wanted in ("*", host) or (wanted.startswith("*.") and host.endswith(wanted[1:])):
            return True
    return False


def _split_port(pattern: str, default: int) -> tuple[str, int]:
    if pattern.startswith("["):  # [::1] or [::1]:8080
        host, _, port = pattern[1:].partition("]")
        return host, int(port[1:] or default)
    host, colon, port = pattern.rpartition(":")
    return (host, int(port)) if colon and ":" not in host else (pattern, default)


def is_public(address: Address) -> bool:
    """Of the public Internet, and so is the IPv4 address in it, if it holds one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED_LOCALLY or address.is_site_local:
            return False
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is None and address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def check_address(host: str, address: str, policy: UriPolicy) -> None:
    """Raises UriNotAllowed for an address that may not be connected to."""
    parsed = ipaddress.ip_address(address)
    if is_public(parsed) or any(parsed in network for network in policy.networks):
        return
    raise UriNotAllowed(
        f"{host}: leads to an address that is not of the public Internet, which this server does not connect to; its "
        "operator can allow the network (allow_networks)"
    )


def _checked_url(uri: str, name: str, policy: UriPolicy) -> URL:
    """Parsed by what will be connected with, so that no two parsers can disagree on the host."""
    from yarl import URL

    try:
        url = URL(uri)
        host, port = url.host, url.port
    except ValueError:
        raise InvalidRequest(f"{name}: is no URI with a host and a port that can be read") from None
    if url.scheme not in policy.schemes or url.scheme not in _PORTS:
        raise UriNotAllowed(f"{name}: {url.scheme}: is none of the schemes that this server fetches (allow_schemes)")
    if not host or port is None:
        raise InvalidRequest(f"{name}: names no host")
    if url.user or url.password:
        raise InvalidRequest(f"{name}: user and password do not belong into a URI")
    if not host_allowed(host, port, _PORTS[url.scheme], policy.hosts):
        raise UriNotAllowed(
            f"{name}: this server does not fetch from {host}, port {port} (allow_hosts); send the video itself"
        )
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if looks_numeric(host) or looks_numeric(url.raw_host or ""):
            raise UriNotAllowed(f"{name}: {host} is no name, and no address as 192.0.2.1 is one") from None
        return url  # a name, which is judged where it is resolved
    check_address(host, host, policy)
    return url


def looks_numeric(host: str) -> bool:
    """Whether something may take a host for an IPv4 address, whatever way it is written."""
    return _ENDS_IN_NUMBER.fullmatch(host) is not None


# -- http, https ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _http(uri: str, name: str, policy: UriPolicy, names: Pool | None) -> AsyncIterator[Upload]:
    import aiohttp

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=_resolver(policy, names),
            socket_factory=partial(_socket, policy),
            use_dns_cache=False,
            force_close=True,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=min(_CONNECT_SECONDS, policy.idle_seconds), sock_read=policy.idle_seconds
        ),
        # The bytes as they are: unpacking is how a small answer becomes an endless one.
        headers={"Accept-Encoding": "identity", "User-Agent": "tenclip"},
        auto_decompress=False,
        trust_env=False,
    )
    async with session:
        response = await _follow(session, uri, name, policy)
        try:
            _check_status(response, name)
            yield Upload(chunks=_body(response, name, policy), num_bytes=response.content_length or 0)
        finally:
            response.close()


def _socket(policy: UriPolicy, target: Sequence[Any]) -> socket.socket:
    """For a connection to `target`, as of getaddrinfo. Raises UriNotAllowed, also for what is still to be resolved."""
    family, kind, protocol, _, (address, *_) = target
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise UriNotAllowed(f"{address}: is no address as 192.0.2.1 is one") from None
    check_address(address, address, policy)
    return socket.socket(family, kind, protocol)


async def _follow(session: Any, uri: str, name: str, policy: UriPolicy) -> Any:
    """The first answer that is no redirect."""
    url = _checked_url(uri, name, policy)
    for _ in range(MAX_REDIRECTS + 1):
        async with _failures(name, url.host):
            response = await session.get(url, allow_redirects=False)
        location = response.headers.get("Location")
        if response.status not in _REDIRECTS or location is None:
            return response
        response.close()
        try:
            following = str(url.join(type(url)(location)))
        except ValueError:
            raise FetchFailed(f"{name}: {url.host} sends us on to what is no URI", source=name) from None
        url = _checked_url(following, f"{name}, sent on to {without_secrets(following)}", policy)
    raise FetchFailed(f"{name}: is sent on more than {MAX_REDIRECTS} times", source=name)


def _check_status(response: Any, name: str) -> None:
    status, host = response.status, response.url.host
    if status in _GONE:
        raise VideoNotFound(f"{name}: {host} has no such file (status {status})", source=name)
    if status in _FORBIDDEN:
        raise VideoNotReadable(f"{name}: {host} does not let us read it (status {status})", source=name)
    if status != 200:
        raise FetchFailed(f"{name}: {host} answers with status {status}; wanted was 200", source=name)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed(f"{name}: {host} sends it compressed, though we asked it not to", source=name)


async def _body(response: Any, name: str, policy: UriPolicy) -> AsyncIterator[bytes]:
    pieces = response.content.iter_chunked(_PIECE_BYTES)
    async with _failures(name, response.url.host):
        while True:
            # aiohttp 3.14's own timeout ends with the connection, and some malformed chunks end that without a word.
            async with asyncio.timeout(policy.idle_seconds):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece


@asynccontextmanager
async def _failures(name: str, host: str | None) -> AsyncIterator[None]:
    # Neither in messages nor as the cause of an error, which a trace would show: aiohttp's own texts quote the whole
    # URI, and its query may be a signature.
    import aiohttp

    try:
        yield
    except TimeoutError:
        raise DeadlineExceeded(f"{name}: {host} does not answer in time, or sends nothing") from None
    except aiohttp.ClientPayloadError:
        raise FetchFailed(f"{name}: {host} ended before all of it had come", source=name) from None
    except (aiohttp.ClientError, OSError, ValueError) as err:
        raise FetchFailed(f"{name}: cannot be fetched from {host}: {_what_failed(err)}", source=name) from None


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


def _resolver(policy: UriPolicy, names: Pool | None) -> Any:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Resolver(AbstractResolver):
        """Gives addresses that were judged; the connection goes to one of these and to no other."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            ask = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
            found = await (asyncio.to_thread(ask) if names is None else names.run(ask))
            addresses = [str(address[0]) for *_, address in found]
            for address in addresses:
                check_address(host, address, policy)
            return [
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
                for address, (kind, _, proto, _, _) in zip(addresses, found, strict=True)
            ]

        async def close(self) -> None:
            pass

    return Resolver()


# -- s3 ---------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _s3(uri: str, name: str, policy: UriPolicy) -> AsyncIterator[Upload]:
    import s3fs

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket) or not key:
        raise InvalidRequest(f"{name}: write s3://BUCKET/KEY")
    if not host_allowed(bucket, 0, 0, policy.hosts):
        raise UriNotAllowed(f"{name}: this server does not fetch from the bucket {bucket} (allow_hosts)")
    files = s3fs.S3FileSystem(
        asynchronous=True,
        skip_instance_cache=True,
        config_kwargs={"connect_timeout": _CONNECT_SECONDS, "read_timeout": policy.idle_seconds},
    )
    async with _s3_failures(name, bucket):
        session = await files.set_session()
    try:
        async with _s3_failures(name, bucket):
            info = await files._info(f"{bucket}/{key}")
        if info["type"] != "file":
            raise VideoNotFound(f"{name}: is no object, only the beginning of the keys of some", source=name)
        size = int(info["size"])
        yield Upload(chunks=_parts(files, f"{bucket}/{key}", name, size), num_bytes=size)
    finally:
        await session.close()


async def _parts(files: Any, path: str, name: str, size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, _PART_BYTES):
        async with _s3_failures(name, path.partition("/")[0]):
            part = await files._cat_file(path, start=start, end=min(start + _PART_BYTES, size))
        yield part


@asynccontextmanager
async def _s3_failures(name: str, bucket: str) -> AsyncIterator[None]:
    # As of `_failures`: texts of botocore name endpoints, files and profiles of the operator's.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except FileNotFoundError:
        raise VideoNotFound(f"{name}: the bucket {bucket} has no such object", source=name) from None
    except PermissionError:
        raise VideoNotReadable(f"{name}: the bucket {bucket} does not let us read it", source=name) from None
    except (BotoCoreError, ClientError, OSError) as err:
        raise FetchFailed(
            f"{name}: cannot be fetched from the bucket {bucket}: {_s3_reason(err)}", source=name
        ) from None


def _s3_reason(err: BaseException) -> str:
    """S3's own code, or the kind of error, by which the operator finds what it means."""
    from botocore.exceptions import ClientError

    # s3fs raises an OSError of its own in place of what S3 answered.
    told = err.__cause__ if isinstance(err, OSError) else err
    if isinstance(told, ClientError):
        return str(told.response.get("Error", {}).get("Code", "an error"))[:100]
    return os.strerror(err.errno) if isinstance(err, OSError) and err.errno else type(err).__name__
