"""What can be set about the page, and what would be unsafe."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from tenclip_api.addresses import ip_address_of
from tenclip_api.errors import InvalidRequest
from tenclip_api.host_names import HostNames
from tenclip_api.listening import with_port
from tenclip_api.pems import as_path
from tenclip_client._security import read_pair


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """Raises InvalidRequest for what cannot work, and for what would give away a token.

    host, port: where the page listens; port 0 takes a free one. names: under which browsers may call it, besides its
    own; none, and a page of other machines takes any. names_option: what sets them.
    token: the page asks its visitors for it; None: for the server's token, where the server wants one and
    `lends_token` is False. lends_token: the page has a token of its own for the server, and uses it for its visitors.
    tls: what encrypts the page; insecure: something in front of it does.
    samples: a folder of videos to pick from. videos: folders of videos that neighbours may be played from.
    max_upload_bytes: the server's limit, where it is known; only shown, for it is the server that refuses.
    """

    host: str = "127.0.0.1"
    port: int = 8050
    names: tuple[str, ...] = ()
    names_option: str = "--page-name"
    token: str | None = field(default=None, repr=False)
    lends_token: bool = False
    tls: ssl.SSLContext | None = None
    insecure: bool = False
    samples: Path | None = None
    videos: tuple[Path, ...] = ()
    max_upload_bytes: int | None = None

    def __post_init__(self) -> None:
        for folder in (*([self.samples] if self.samples is not None else []), *self.videos):
            if not folder.is_dir():
                raise InvalidRequest(f"{folder}: is not a directory of videos")
        if self.is_local:
            return
        if self.lends_token and self.token is None:
            raise InvalidRequest(
                f"everyone who can reach the page at {self.host} would use the server with this page's token: give "
                "--page-token-file, which visitors are asked for, or leave the token out, and they are asked for theirs"
            )
        if self.token is not None and not self.takes_tokens:
            raise InvalidRequest(
                f"the page's token would cross the network in plain text at {self.host}: set --page-certificate and "
                "--page-key, or --insecure-page where something in front of the page encrypts"
            )

    @property
    def is_local(self) -> bool:
        """Only this machine can reach the page."""
        return self.host_names.is_local

    @property
    def host_names(self) -> HostNames:
        """By which the page may be called: others are how a foreign site reaches a page of this machine."""
        return HostNames(self.host, self.names)

    @property
    def takes_tokens(self) -> bool:
        """Whether visitors may send tokens: nobody else reads them on the way."""
        return self.is_local or self.tls is not None or self.insecure

    @property
    def warning(self) -> str:
        """What whoever starts the page should know; "" for nothing."""
        if self.is_local or self.token is not None:
            return ""
        plain = "" if self.takes_tokens else ", and takes no tokens, for it is not encrypted"
        return (
            f"the page at {self.host} asks for no token of its own{plain}: whoever can reach it can use a server that "
            "wants none (--page-token-file asks for one)"
        )

    def url(self, port: int) -> str:
        scheme = "http" if self.tls is None else "https"
        address = ip_address_of(self.host)
        host = "localhost" if address is not None and address.is_unspecified else self.host
        return f"{scheme}://{with_port(host, port)}/"


def page_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What encrypts the page; None without files. Raises InvalidRequest for files that cannot be used, naming them."""
    if (certificate is None) != (key is None):
        raise InvalidRequest("the page needs --page-certificate and --page-key, both or neither")
    if certificate is None or key is None:
        return None
    chain, private = read_pair(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with as_path(chain) as chain_path, as_path(private) as key_path:
        context.load_cert_chain(chain_path, key_path)
    return context
