"""TLS of the server's ports: PEM files, checked at start, and read again when they change.

A certificate is checked as a client will: by a handshake, in memory, with a client that trusts just this one. So
whatever OpenSSL has against it (expired, not yet valid, not for servers) is found before the first caller finds it.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc

from tenclip_api.errors import InvalidRequest
from tenclip_api.pems import as_path
from tenclip_serving.security.reloading import Watched
from tenclip_serving.telemetry.logs import log

WARN_SECONDS = 7 * 86400.0
_MAX_PEM_BYTES = 1 << 20
_FLIGHTS = 10  # of a handshake: TLS 1.3 takes three


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """Paths of PEM files. `certificate`: the server's own first, then those between it and its authority.

    client_ca: authorities of clients; where there is one, every client must show a certificate (mTLS), on any port.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(p for p in (self.certificate, self.key, self.client_ca) if p is not None)


@dataclass(frozen=True, kw_only=True)
class TlsMaterial:
    """Contents of the files when they were checked, whatever they hold by now.

    not_after: seconds since the epoch at which the certificate expires. context: made of it, for servers over HTTP.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    not_after: float
    context: ssl.SSLContext


def read_tls(files: TlsFiles, *, now: float | None = None) -> TlsMaterial:
    """Read and check. Raises InvalidRequest, with the file's name: missing, no PEM, mismatched, expired, encrypted."""
    certificate, key = _read(files.certificate, "certificate"), _read(files.key, "key")
    if b"ENCRYPTED" in key:
        raise InvalidRequest(
            f"{files.key}: the key is encrypted, and nobody is there to type its passphrase; decrypt it"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with as_path(certificate) as certificate_path, as_path(key) as key_path:
        try:
            context.load_cert_chain(certificate_path, key_path, password=_no_password)
        except ssl.SSLError as err:
            raise InvalidRequest(_explain_pair(files, err)) from None
        not_after = _check_certificate(files.certificate, certificate_path, context)
    client_ca = None
    if files.client_ca is not None:
        client_ca = _read(files.client_ca, "client CA")
        with as_path(client_ca) as path:
            _check_authorities(files.client_ca, path, time.time() if now is None else now)
            # Not earlier: the handshake that checked the certificate shows none of a client's.
            context.load_verify_locations(path)
        context.verify_mode = ssl.CERT_REQUIRED
    return TlsMaterial(certificate=certificate, key=key, client_ca=client_ca, not_after=not_after, context=context)


def _no_password() -> bytes:
    return b""  # OpenSSL would ask at the terminal


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            pem = file.read(_MAX_PEM_BYTES + 1)
    except OSError as err:
        raise InvalidRequest(f"cannot read the TLS {what} {path}: {err.strerror or err}") from None
    if b"-----BEGIN " not in pem or len(pem) > _MAX_PEM_BYTES:
        raise InvalidRequest(f"{path}: the TLS {what} must be PEM (-----BEGIN ...), and it is not")
    return pem


def _explain_pair(files: TlsFiles, err: ssl.SSLError) -> str:
    if err.reason == "KEY_VALUES_MISMATCH":
        return f"{files.key} is not the key of the certificate {files.certificate}"
    return f"{files.certificate} and {files.key} are no certificate (first of its chain) and key: {err.reason or err}"


def _check_certificate(name: Path, path: str, server: ssl.SSLContext) -> float:
    """The time when the certificate expires. Raises InvalidRequest where no client would accept it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # under what name clients call is theirs to know
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(path)
    try:
        shown = _handshake(server, client)
    except ssl.SSLCertVerificationError as err:
        raise InvalidRequest(f"{name}: clients would refuse this certificate: {err.verify_message}") from None
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object]:
    """The server's certificate as a client sees it who has verified it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(_FLIGHTS):
        waiting = 0
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            break
    return dict(ends[0].getpeercert() or {})


def _check_authorities(name: Path, path: str, now: float) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as err:
        raise InvalidRequest(f"{name}: holds no certificates of client authorities: {err.reason or err}") from None
    authorities = context.get_ca_certs()
    if not authorities:
        raise InvalidRequest(f"{name}: holds certificates, and none is an authority's, which could sign clients'")
    ends = [ssl.cert_time_to_seconds(str(a["notAfter"])) for a in authorities]
    if max(ends) <= now:
        raise InvalidRequest(f"{name}: every authority of clients in it has expired")


class ServerTls:
    """Credentials for the ports, from new files as soon as they are there. Raises what `read_tls` raises.

    on_load: called with the material at first, and with None or new material whenever the files have changed.
    """

    def __init__(self, files: TlsFiles, *, on_load: Callable[[TlsMaterial | None], None]) -> None:
        self.files = files
        self._watched = Watched(
            files.all, partial(read_tls, files), what="TLS files", on_load=lambda good: on_load(self._shown(good))
        )
        self._given = self._watched.get()
        on_load(self._given)

    def _shown(self, good: bool) -> TlsMaterial | None:
        return self._watched.get() if good else None

    def server_credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`: every new connection gets what is in the files by then."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._given),
            self._fetch,  # type: ignore[arg-type]  # None is allowed, and means no change
            require_client_authentication=self.files.client_ca is not None,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC for every connection; None: as before."""
        material = self._watched.get()
        if material is self._given:
            return None
        self._given = material
        return _configuration(material)

    def context(self) -> ssl.SSLContext:
        """The same for HTTP, for one connection."""
        return self._watched.get().context


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.client_ca
    )


def describe_expiry(material: TlsMaterial) -> None:
    """Says in the log until when the certificate holds; as a warning in its last week."""
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(material.not_after))
    soon = material.not_after - time.time() < WARN_SECONDS
    log(logging.WARNING if soon else logging.INFO, f"TLS certificate holds until {until}")
