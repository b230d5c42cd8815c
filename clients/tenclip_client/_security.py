"""TLS and tokens of a client."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import grpc

from tenclip_api.addresses import endpoints_of, is_loopback
from tenclip_api.errors import InvalidRequest
from tenclip_api.pems import as_path
from tenclip_api.proxies import Proxy

# The path of a PEM file, or its bytes.
Pem: TypeAlias = "str | os.PathLike[str] | bytes"
# A token, or a function that returns the current one. It is called before every request, so tokens may be rotated.
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
    roots = None if ca is None else _read(ca, "ca")
    if ca is not None and roots is not None:
        _check_authorities(ca, roots)
    chain, private = (None, None) if certificate is None or key is None else read_pair(certificate, key)
    return grpc.ssl_channel_credentials(root_certificates=roots, private_key=private, certificate_chain=chain)


def _check_authorities(ca: Pem, roots: bytes) -> None:
    """gRPC would take it, and then say of every server that the handshake failed."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=roots.decode("ascii", "replace"))
    except ssl.SSLError:
        raise InvalidRequest(f"ca {_name(ca)}: holds no certificate") from None


def read_pair(certificate: Pem, key: Pem) -> tuple[bytes, bytes]:
    """Both, when the key is the certificate's own."""
    chain, private = _read(certificate, "certificate"), _read(key, "key")
    names = f"certificate {_name(certificate)}", f"key {_name(key)}"
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        raise InvalidRequest(f"{names[0]}: holds no certificate")
    if b"ENCRYPTED" in private:
        raise InvalidRequest(f"{names[1]}: is encrypted, and gRPC cannot be told its passphrase; decrypt it")
    if b"PRIVATE KEY-----" not in private:
        raise InvalidRequest(f"{names[1]}: holds no private key")
    with as_path(chain) as chain_path, as_path(private) as private_path:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(chain_path, private_path)
        except ssl.SSLError as err:
            if err.reason == "KEY_VALUES_MISMATCH":
                raise InvalidRequest(f"{names[1]}: is not the key of {names[0]}") from None
            raise InvalidRequest(f"{names[0]}, {names[1]}: are no certificate and key ({err.reason or err})") from None
    return chain, private


def _name(pem: Pem) -> str:
    return "<bytes>" if isinstance(pem, bytes) else os.fspath(pem)


def _read(pem: Pem, what: str) -> bytes:
    name = _name(pem)
    if isinstance(pem, bytes):
        data = pem
    else:
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


def check_token_is_safe(target: str, *, encrypted: bool, insecure_token: bool, proxy: Proxy | None = None) -> None:
    """Raises InvalidRequest where a token would be readable by everyone on the way, which may be through a proxy."""
    stays_here = is_local(target) and (proxy is None or is_loopback(proxy.host))
    if encrypted or insecure_token or stays_here:
        return
    through, directly = ("", "") if proxy is None else (f" through the proxy {proxy}", ", connect without the proxy")
    raise InvalidRequest(
        f"the token would go to {target}{through} in plain text: use tls (--tls){directly}, or insecure_token "
        f"(--insecure-token) where something else encrypts the way"
    )


def is_local(target: str) -> bool:
    """True for a target on this machine, so that nothing sent to it crosses a network."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    endpoints = endpoints_of(target)
    return bool(endpoints) and all(is_loopback(host) for host, _ in endpoints)
