"""The HTTP port of a server: sockets, TLS, and an end in which nothing accepted is lost."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from tenclip_serving.http.call import MAX_HEADER_BYTES
from tenclip_serving.http.protocol import Connection
from tenclip_serving.security.tls import ServerTls

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
_HANDSHAKE_SECONDS = 10.0
_BACKLOG = 1024
_FLUSH_SECONDS = 1.0
# Longer than load balancers keep theirs, who would otherwise send a request just when we close.
_KEEP_ALIVE_SECONDS = 75


class HttpServer:
    """Listens from `start` to `stop`. port: 0 takes a free one, `.port` then says which."""

    def __init__(self, app: App, *, host: str, port: int, tls: ServerTls | None, keep_alive_seconds: float = 0) -> None:
        self.port = port
        self._host, self._tls = host, tls
        # Nobody in front is believed about who calls, and nothing is said of what serves.
        self._config = Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=round(keep_alive_seconds) or _KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            # Requests of one connection may come one behind the other: none shall log as the caller of the last.
            reset_contextvars=True,
        )
        self._config.load()
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        for name in ("uvicorn.error", "python_multipart"):
            # They warn of every caller that sends nonsense; we count and log those by ourselves.
            logging.getLogger(name).setLevel(logging.ERROR)

    async def start(self) -> None:
        """Returns when connections are accepted. Raises OSError."""
        loop = asyncio.get_running_loop()
        context = None if self._tls is None else _context(self._tls)
        for listening in _sockets(self._host, self.port):
            server = await loop.create_server(
                self._connection,
                sock=listening,
                ssl=context,
                backlog=_BACKLOG,
                ssl_handshake_timeout=None if context is None else _HANDSHAKE_SECONDS,
            )
            self._servers.append(server)
        self.port = self._servers[0].sockets[0].getsockname()[1]

    async def stop(self, grace: float) -> None:
        """No new connections or requests; those that run have `grace` seconds, then they are cancelled."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=grace)
        for task in list(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)
        # What was written to them may still be on its way.
        left = [cast(Connection, connection) for connection in self._state.connections]
        for connection in left:
            connection.transport.close()
        closed = [asyncio.create_task(connection.closed.wait()) for connection in left]
        if closed:
            await asyncio.wait(closed, timeout=_FLUSH_SECONDS)
        for connection in left:
            connection.hang_up()
        for waiting in closed:
            waiting.cancel()

    def _connection(self) -> Connection:
        return Connection(config=self._config, server_state=self._state, app_state={})


def _sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets at the addresses of the host that this machine has, all at one port. Raises OSError."""
    found = dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
    made: list[socket.socket] = []
    absent: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            made.append(_bound(family, kind, protocol, (address[0], port, *address[2:])))
            port = made[0].getsockname()[1]
        except OSError as err:
            if err.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for listening in made:
                    listening.close()
                raise
            absent = err
    if not made and absent is not None:
        raise absent
    return made


def _bound(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _context(tls: ServerTls) -> ssl.SSLContext:
    """A context that takes the newest files for every connection, as the gRPC port does."""

    def newest(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, before: ssl.SSLContext) -> None:
        connection.context = tls.context()

    context = tls.context()
    context.sni_callback = newest  # called for callers who name no host, too
    context.set_alpn_protocols(["http/1.1"])
    return context
