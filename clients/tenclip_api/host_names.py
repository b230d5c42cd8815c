"""By which names browsers may call a server over HTTP: for its API, its metrics and the page.

A page of another site can give its own name the address of this machine (DNS rebinding). Its scripts then have the same
origin as the server that answers there, and may read everything. What gives them away is the name that they call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tenclip_api.addresses import ip_address_of

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# Sent by browsers, whose scripts cannot take them away. Chromium sends Sec-Fetch-* to HTTPS and to localhost only.
_BROWSER_HEADERS = ("origin", "accept-language")
_BROWSER_PREFIX = "sec-fetch-"


@dataclass(frozen=True)
class HostNames:
    """host: where the server listens. names: of it, besides its own; none, and one of other machines takes any.

    >>> HostNames("127.0.0.1").accepts("[::1]:8080"), HostNames("127.0.0.1").accepts("evil.example:8080")
    (True, False)
    >>> HostNames("0.0.0.0").accepts("box"), HostNames("0.0.0.0", ("lab.example",)).accepts("box")
    (True, False)
    """

    host: str
    names: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Only this machine can reach it."""
        address = ip_address_of(self.host)
        return self.host.lower() == "localhost" if address is None else address.is_loopback

    def accepts(self, host: str) -> bool:
        """Whether a request may be for this host; `NAME` or `NAME:PORT`, as the header Host has it."""
        name, own = _name(host), {self.host.lower(), *(n.lower() for n in self.names)}
        if self.is_local:
            return name in LOOPBACK_NAMES or name in own
        return not self.names or name in own

    def accepts_browser(self, headers: Mapping[str, str]) -> bool:
        """As `accepts`, for requests of browsers; any other caller may call the server as it likes.

        headers: by lower-case name.
        """
        return not _is_of_browser(headers) or self.accepts(headers.get("host", ""))


def _is_of_browser(headers: Mapping[str, str]) -> bool:
    return any(name in _BROWSER_HEADERS or name.startswith(_BROWSER_PREFIX) for name in headers)


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower().removesuffix(".")
    except ValueError:
        return ""
