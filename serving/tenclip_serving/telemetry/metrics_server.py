"""Metrics over HTTP or HTTPS, on a port of their own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from tenclip_api.errors import TenclipError
from tenclip_api.host_names import HostNames
from tenclip_serving.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from tenclip_serving.security.auth import Tokens
    from tenclip_serving.security.tls import ServerTls

# How long a caller may say nothing, or take for its TLS handshake.
_IDLE_SECONDS = 10.0
_HOW = 'send the header "Authorization: Bearer TOKEN"'
_INDEX = b"tenclip: the metrics are at /metrics\n"


class MetricsServer:
    """Until `close`. `port` 0 takes a free one, `.port` says which. Raises OSError.

    names: by which browsers may call it, besides its own, see `HostNames`.
    tokens: then callers need one with the permission metrics. tls: then over HTTPS, with a certificate of the caller's
    where clients must show one.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        host: str,
        port: int,
        names: tuple[str, ...] = (),
        tokens: Tokens | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self._server = _HttpServer(family, (str(address[0]), port), tls)
        app = _at_paths(make_wsgi_app(metrics.registry))
        guarded = app if tokens is None else _guarded(app, tokens)
        self._server.set_app(_called_by_name(guarded, HostNames(host, names)))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        self.port: int = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _at_paths(metrics: WSGIApplication) -> WSGIApplication:
    """The metrics at /metrics; / says so, and there is nothing else."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start_response)
        start_response("200 OK" if path in ("", "/") else "404 Not Found", [("Content-Type", "text/plain")])
        return [_INDEX]

    return app


def _guarded(app: WSGIApplication, tokens: Tokens) -> WSGIApplication:
    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            tokens.check(environ.get("HTTP_AUTHORIZATION"), "metrics", "metrics", how=_HOW)
        except TenclipError as err:
            denied = err.grpc_status == "PERMISSION_DENIED"
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            if not denied:
                headers.append(("WWW-Authenticate", "Bearer"))
            start_response("403 Forbidden" if denied else "401 Unauthorized", headers)
            return [f"{err.message}\n".encode()]
        return app(environ, start_response)

    return guarded


def _called_by_name(app: WSGIApplication, host_names: HostNames) -> WSGIApplication:
    """Refuses the scripts of a site that has given its own name the address of this machine."""

    def named(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        sent = {k.removeprefix("HTTP_").replace("_", "-").lower(): v for k, v in environ.items() if k[:5] == "HTTP_"}
        if host_names.accepts_browser(sent):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"browsers are not to call this server by this name; --browser-name allows a name\n"]

    return named


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: there would be a line for every scrape."""

    def handle(self) -> None:
        # The handshake, too, is made here, in the connection's own thread, and ends with whoever began it.
        with contextlib.suppress(OSError):
            super().handle()


class _HttpServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection, so that one that says nothing keeps no one waiting."""

    daemon_threads = True

    def __init__(self, family: int, address: tuple[str, int], tls: ServerTls | None) -> None:
        self.address_family = family
        self._tls = tls
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer would ask DNS for our own name, which may take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = super().get_request()
        if self._tls is None:
            return connection, peer
        connection.settimeout(_IDLE_SECONDS)
        return self._tls.context().wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are no errors of ours."""
