"""Connections: uvicorn's HTTP/1.1 over h11, with time limits for headers, and JSON for what is no HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tenclip_serving.http.call import MAX_HEADER_BYTES
from tenclip_serving.http.problems import PROBLEM_TYPE

# For the line and the headers of a request, from its first byte (or that of the connection); as for the metrics.
HEADER_SECONDS = 10.0
# A connection that was closed has so long to take what was written to it.
_FLUSH_SECONDS = 10.0


class Connection(H11Protocol):
    """One connection, until `closed`.

    Applications find `hang_up` in the state of their scope: end it now, whatever is unsent.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "hang_up": self.hang_up}, _loop)
        self.closed = asyncio.Event()
        self._header_timer: asyncio.TimerHandle | None = None
        self._flush_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_request():
            self._headers_are_here()
        elif self._header_timer is None and self.timeout_keep_alive_task is None:
            self._expect_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_the_end()
        if not self._in_request() and self.conn.trailing_data[0]:  # the next one has begun
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_here()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.closed.set()

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_the_end()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has too large headers: a problem like every other, and the end of the connection."""
        members = {
            "type": "/docs#INVALID_REQUEST",
            "title": "Bad Request",
            "status": 400,
            "detail": f"this is no HTTP/1.1 request, or its headers have more than {MAX_HEADER_BYTES} bytes",
            "reason": "INVALID_REQUEST",
            "code": "INVALID_ARGUMENT",
        }
        body = json.dumps(members).encode()
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        try:
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # in the midst of a body: its request is answered, or nobody waits
            self.hang_up()
            return
        self.transport.close()
        self._expect_the_end()

    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_headers(self) -> None:
        self._headers_are_here()
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _headers_are_here(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _expect_the_end(self) -> None:
        """Of a connection that was closed: what was written to it would wait for a caller who does not read."""
        if self._flush_timer is None:
            self._flush_timer = self.loop.call_later(_FLUSH_SECONDS, self.hang_up)

    def _too_slow(self) -> None:
        self._header_timer = None
        if not self._in_request():
            self.hang_up()
