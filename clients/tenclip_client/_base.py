"""Settings, channels and errors: what both clients share besides their methods."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import grpc

from tenclip_api.errors import InvalidRequest, TenclipError
from tenclip_api.proxies import ProxyChoice
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_client._channel import (
    DEFAULT_KEEPALIVE_SECONDS,
    DEFAULT_RETRIES,
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT,
    ChannelOptions,
    channel_options,
    choose_route,
    open_channel,
    parse_target,
    proxy_of_options,
)
from tenclip_client._errors import from_rpc_error
from tenclip_client._requests import Call
from tenclip_client._security import Pem, Token, channel_credentials, check_token_is_safe, checked_token
from tenclip_client._types import Timeout, UseClientDefault


class BaseClient:
    """The settings of `Client` and `AsyncClient`.

    target: `HOST:PORT` (the port may be left out), or any gRPC address such as `unix:///run/tenclip.sock`.
    timeout: deadline of every call in seconds, None for none; each call may set its own.
    tls: True encrypts, and trusts the certificate authorities that gRPC knows; None: if one of the next three is given.
    ca: authorities to trust instead. certificate, key: the client's own, for servers that ask for one. Each is the
    path of a PEM file, or its bytes.
    server_name: the name in the server's certificate, where that is not the one in `target` (a forwarded port, say).
    credentials: `grpc.ssl_channel_credentials(...)`, instead of ca, certificate and key.
    token: sent with every call; a function is called before each, for tokens that are replaced from time to time.
    insecure_token: send it without TLS to other machines, or through a proxy on one; else that raises InvalidRequest.
    metadata: pairs sent with every call.
    proxy: the HTTP proxy to connect through, `http://[USER:PASSWORD@]HOST:PORT`; False or "" for none. None: the one
    that http_proxy and its like name, but not for addresses of this machine and those in no_proxy (see
    `tenclip_api.proxies`).
    wait_for_ready: wait for the server to come up, until the deadline, instead of raising ServerUnavailable.
    retries: more attempts after UNAVAILABLE, or CANCELLED by the server (0 to 4), with exponential backoff.
    keepalive_seconds: ping the server this often while a call waits, so that a dead one is noticed; None: never.
    options: further gRPC channel options, which win over the ones set here.

    Raises InvalidRequest for settings that cannot be used.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        tls: bool | None = None,
        ca: Pem | None = None,
        certificate: Pem | None = None,
        key: Pem | None = None,
        server_name: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        token: Token | None = None,
        insecure_token: bool = False,
        metadata: Sequence[tuple[str, str]] = (),
        proxy: ProxyChoice = None,
        wait_for_ready: bool = False,
        retries: int = DEFAULT_RETRIES,
        keepalive_seconds: float | None = DEFAULT_KEEPALIVE_SECONDS,
        options: ChannelOptions = (),
    ) -> None:
        self.target = parse_target(target)
        self._timeout = _checked(timeout)
        self._credentials = credentials or channel_credentials(tls=tls, ca=ca, certificate=certificate, key=key)
        self._route = choose_route(self.target, proxy=proxy, server_name=server_name, options=options)
        self._token = token
        if token is not None:
            check_token_is_safe(
                self.target,
                proxy=self._route.proxy or proxy_of_options(self.target, options),
                encrypted=self._credentials is not None,
                insecure_token=insecure_token,
            )
            checked_token(token if isinstance(token, str) else token())
        self._fixed_metadata = tuple((name.lower(), value) for name, value in metadata)
        self._wait_for_ready = wait_for_ready
        extra = [*self._route.options, *options]
        self._options = channel_options(retries=retries, keepalive_seconds=keepalive_seconds, extra=extra)
        # A channel that retries keeps all of a call in memory until it is answered, whatever its policy says of it.
        self._upload_options = channel_options(retries=0, keepalive_seconds=keepalive_seconds, extra=extra)
        self._channels: dict[bool, Any] = {}  # by whether it is the one for uploads
        self._stubs: dict[tuple[str, bool], Any] = {}
        self._lock = threading.Lock()
        self._closed = False

    def _open_channel(self) -> Any:
        """The channel for all calls but uploads, of the client's own kind; it connects with the first call."""
        raise NotImplementedError

    def _method(self, call: Call[Any]) -> Any:
        """The method of `call` on its channel.

        Videos in pieces have a blocking channel of their own, in both clients (see `_uploads`).
        """
        key = call.service, call.pieces is not None
        with self._lock:
            self._check_open()
            if key not in self._stubs:
                self._stubs[key] = getattr(tenclip_pb2_grpc, f"{call.service}Stub")(self._channel(uploads=key[1]))
            return getattr(self._stubs[key], call.method)

    def _channel(self, *, uploads: bool) -> Any:
        if uploads not in self._channels:
            self._channels[uploads] = (
                open_channel(self._route.address, self._credentials, self._upload_options)
                if uploads
                else self._open_channel()
            )
        return self._channels[uploads]

    def _settings(self, deadline: float | None) -> dict[str, Any]:
        """Arguments of every gRPC call. Raises InvalidRequest for a token that cannot be sent."""
        return {"timeout": deadline, "metadata": self._metadata, "wait_for_ready": self._wait_for_ready}

    def _take_channels(self) -> list[Any]:
        """The open channels, for closing."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
        return channels

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target!r})"

    def _deadline(self, timeout: Timeout) -> float | None:
        return self._timeout if isinstance(timeout, UseClientDefault) else _checked(timeout)

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of the next call. Raises InvalidRequest for a token that cannot be sent."""
        if self._token is None:
            return self._fixed_metadata
        token = self._token if isinstance(self._token, str) else self._token()
        return (*self._fixed_metadata, ("authorization", f"Bearer {checked_token(token)}"))

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"this {type(self).__name__} has been closed; make a new one")

    def _error(self, err: grpc.RpcError, source: str, deadline: float | None) -> TenclipError:
        return from_rpc_error(err, target=self.target, source=source, timeout=deadline, route=self._route)


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and not timeout > 0:
        raise InvalidRequest(f"timeout must be positive, in seconds, or None for no deadline; got {timeout}")
    return timeout
