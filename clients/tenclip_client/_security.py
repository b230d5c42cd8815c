"""TLS and tokens of a client."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import grpc

from tenclip_api.errors import InvalidRequest

# A file's path, or what is in it.
Pem: TypeAlias = "str | os.PathLike[str] | bytes"
# A token, or what gives the one of now: called before every request, so that tokens may be replaced meanwhile.
Token: TypeAlias = "str | Callable[[], str]"


def channel_credentials(
    *, tls: bool | None, ca: Pem | None, certificate: Pem | None, key: Pem | None
) -> grpc.ChannelCredentials | None:
    """None is plain text. Raises InvalidRequest for a file that cannot be used, naming it."""
    given = [p for p in (ca, certificate, key) if p is not None]
    if not (tls or (tls is None and given)):
        if given:
            raise InvalidRequest("tls=False, and certificates to use with it: leave out one or the other")
        return None
    if (certificate is None) != (key is None):
        raise InvalidRequest("a client's certificate needs its key and the key its certificate: give both, or neither")
    return grpc.ssl_channel_credentials(
        root_certificates=None if ca is None else _read(ca, "ca"),
        private_key=None if key is None else _read(key, "key"),
        certificate_chain=None if certificate is None else _read(certificate, "certificate"),
    )


def _read(pem: Pem, what: str) -> bytes:
    if isinstance(pem, bytes):
        data, name = pem, "<bytes>"
    else:
        name = os.fspath(pem)
        try:
            data = Path(pem).read_bytes()
        except OSError as err:
            raise InvalidRequest(f"{what} {name}: {err.strerror or err}") from None
    if b"-----BEGIN " not in data:
        raise InvalidRequest(f"{what} {name}: is not PEM (-----BEGIN ...)")
    return data


def token_from_file(path: Path) -> Callable[[], str]:
    """Reads the token from a file before every request. Raises InvalidRequest, now or then, for one without a token."""

    def read() -> str:
        try:
            return checked_token(path.read_text(encoding="ascii").strip())
        except OSError as err:
            raise InvalidRequest(f"token file {path}: cannot be read: {err.strerror or err}") from None
        except (InvalidRequest, UnicodeDecodeError):
            raise InvalidRequest(f"token file {path}: must hold one token, and nothing else") from None

    read()
    return read


def checked_token(token: str) -> str:
    """Raises InvalidRequest, which does not quote it, for what no header can carry."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest("token: must be printable ASCII characters without spaces")
    return token


def check_token_is_safe(target: str, *, encrypted: bool, insecure_token: bool) -> None:
    """Raises InvalidRequest where a token would be readable by everyone on the way."""
    if encrypted or insecure_token or is_local(target):
        return
    raise InvalidRequest(
        f"the token would go to {target} in plain text: use tls (--tls), or insecure_token (--insecure-token) where "
        f"something else encrypts the way"
    )


def is_local(target: str) -> bool:
    """Whether what is sent to `target` stays on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    if target.startswith("xds:"):
        return False  # its control plane says where
    address = target.rpartition("/")[2].removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("dns:")
    host = address.rpartition(":")[0] if address.count(":") == 1 or "]" in address else address
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
