"""RTSP through a connection of our own: FFmpeg, which speaks it, connects to this relay and to nothing else.

So the address that was judged is the one that is connected to, `rtsps:` is encrypted with certificates that are
checked, and a server that sends its client on to another host (RFC 2326, 11.3) is refused rather than followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenclip_api.errors import FetchFailed, TenclipError, UriNotAllowed

_PIECE_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 16
_STATUS = re.compile(rb"RTSP/\d\.\d (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


class RtspResponses:
    """Looks at what an RTSP server sends, piece by piece: messages, and packets of video between them.

    Raises UriNotAllowed for a redirect, FetchFailed for what is no RTSP.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._buffer = bytearray()
        self._pass = 0  # bytes of a packet or a body that are still to come

    def check(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            if self._pass:
                gone = min(self._pass, len(self._buffer))
                del self._buffer[:gone]
                self._pass -= gone
            elif self._buffer[0] == 0x24:  # $, a channel, two bytes of length (RFC 2326, 10.12)
                if len(self._buffer) < 4:
                    return
                self._pass = 4 + int.from_bytes(self._buffer[2:4], "big")
            else:
                end = self._buffer.find(b"\r\n\r\n")
                if end < 0:
                    if len(self._buffer) > _MAX_HEADER_BYTES:
                        raise FetchFailed(f"{self._name}: does not speak RTSP", source=self._name)
                    return
                header = bytes(self._buffer[: end + 2])
                self._check_header(header)
                length = _LENGTH.search(header)
                self._pass = end + 4 + (int(length[1]) if length else 0)

    def _check_header(self, header: bytes) -> None:
        status = _STATUS.match(header)
        if status is not None and status[1].startswith(b"3"):
            raise UriNotAllowed(f"{self._name}: sends us on to another address, and that is not followed; name it")


class RtspRelay:
    """port: on 127.0.0.1, for one connection. error: why it was cut, once it was."""

    def __init__(self, name: str) -> None:
        self.port = 0
        self.error: TenclipError | None = None
        self._name = name


@asynccontextmanager
async def rtsp_relay(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[RtspRelay]:
    """Relays between the first connection to its port and an RTSP server, until either hangs up.

    reader, writer: the connection to the server; closed at the end.
    """
    relay = RtspRelay(name)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if tasks:
            to_client.close()
            return
        tasks.add(asyncio.create_task(_to_server(client, writer)))
        tasks.add(asyncio.create_task(_to_client(relay, RtspResponses(name), reader, to_client)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            to_client.close()
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _to_server(client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await client.read(_PIECE_BYTES):
            server.write(data)
            await server.drain()


async def _to_client(
    relay: RtspRelay, responses: RtspResponses, server: asyncio.StreamReader, client: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(OSError):
        while data := await server.read(_PIECE_BYTES):
            try:
                responses.check(data)
            except TenclipError as err:
                relay.error = err
                return
            client.write(data)
            await client.drain()
