"""The policy on URIs: schemes, hosts, and the addresses that hosts lead to.

Fetching makes the server a proxy, so all of it is off until it is allowed. Private, loopback, link-local and other
addresses that are not of the public Internet are refused, unless the server's operator allows their network.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from tenclip_api.errors import InvalidRequest, MissingDependency, UriNotAllowed
from tenclip_api.uris import without_secrets

if TYPE_CHECKING:
    from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# For a connection to be made, to a host that a URI or a stream names.
CONNECT_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}
_MODULES = {"http": ("aiohttp",), "https": ("aiohttp",), "s3": ("s3fs",)}
# 64:ff9b::/96 is IPv4 behind a translator, 64:ff9b:1::/48 is for local use.
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED_LOCALLY = ipaddress.IPv6Network("64:ff9b:1::/48")
# What ends so is an IPv4 address to browsers and to C libraries, which read 2130706433, 127.1 and 0x7f.1 as 127.0.0.1.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?", re.DOTALL)
# All that a request line can hold as it is: printable ASCII but the blank.
_AS_GIVEN = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, kw_only=True)
class UriPolicy:
    """The URIs that may be fetched, and how.

    schemes: http, https and s3, or some of them. hosts: `media.example`, `media.example:8443` (else the scheme's own
    port only), `*.media.example`, or `*` for all; for s3 the names of buckets. networks: allowed though they are not
    public. max_seconds: for all of a video; idle_seconds: without a byte. proxy: see `proxy_for_url`.
    """

    schemes: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    max_seconds: float = 300.0
    idle_seconds: float = 30.0
    proxy: str = ""

    def check_installed(self) -> None:
        """Raises MissingDependency where a scheme is allowed that nothing here can fetch."""
        for scheme in self.schemes:
            missing = [m for m in _MODULES.get(scheme, ()) if importlib.util.find_spec(m) is None]
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
    """Whether an address, and the IPv4 address in it where it holds one, is of the public Internet."""
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


def checked_url(uri: str, name: str, policy: UriPolicy) -> URL:
    """The URL to ask for, after its scheme, host and address have been judged. A name is judged when it is resolved.

    It is parsed by what will connect, so that no two parsers can disagree on the host. Its path and query are sent as
    they were given: a signature may be of just this spelling.
    Raises UriNotAllowed and InvalidRequest; `name` stands for the URI in messages.
    """
    from yarl import URL

    try:
        url, given = URL(uri), URL(uri, encoded=True)
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
    else:
        check_address(host, host, policy)
    return URL.build(
        scheme=url.scheme,
        authority=url.raw_authority,
        path=_as_given(given.raw_path) or "/",
        query_string=_as_given(given.raw_query_string),
        encoded=True,
    )


def _as_given(part: str) -> str:
    """Percent-encoded where a request line cannot hold it (blanks, control characters, no ASCII), else unchanged."""
    return quote(part, safe=_AS_GIVEN, errors="surrogateescape")


def looks_numeric(host: str) -> bool:
    """Whether some program may take a host for an IPv4 address, however it is written."""
    return _ENDS_IN_NUMBER.fullmatch(host) is not None
