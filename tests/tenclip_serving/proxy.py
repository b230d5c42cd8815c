"""A TCP proxy on loopback that counts: what went over the wire, in how many connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Counts:
    """`sent`: bytes from clients; `received`: bytes to them."""

    address: str = ""
    connections: int = 0
    sent: int = 0
    received: int = 0
    sockets: list[socket.socket] = field(default_factory=list)


@contextlib.contextmanager
def counting_proxy(target: str) -> Iterator[Counts]:
    """Forwards to `target` (HOST:PORT) until the end of the context."""
    host, _, port = target.rpartition(":")
    counts = Counts()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        counts.address = f"127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=_accept, args=(listener, (host, int(port)), counts), daemon=True).start()
        try:
            yield counts
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for open_socket in counts.sockets:
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, target: tuple[str, int], counts: Counts) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(target)
            counts.connections += 1
            counts.sockets += [client, server]
            for source, sink, name in ((client, server, "sent"), (server, client, "received")):
                threading.Thread(target=_forward, args=(source, sink, counts, name), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket, counts: Counts, name: str) -> None:
    with source, contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            setattr(counts, name, getattr(counts, name) + len(data))
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
