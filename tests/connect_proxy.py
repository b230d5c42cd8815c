"""An HTTP CONNECT proxy on loopback, as companies have: it counts, checks a password, and resolves names by itself."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """`address`: where it listens. `connects`: what clients asked for (HOST:PORT), in order; refused ones, too.

    hosts: HOST:PORT -> HOST:PORT, where it really connects to. credentials: `user:password` that it wants.
    """

    address: str
    hosts: Mapping[str, str] = field(default_factory=dict)
    credentials: str = ""
    connects: list[str] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.credentials}{'@' if self.credentials else ''}{self.address}"

    def serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.sockets.append(client)
                thread = threading.Thread(target=self._tunnel, args=(client,), daemon=True)
                self.threads.append(thread)
                thread.start()

    def _tunnel(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(1 << 16)
                if not data:
                    return
                head += data
            request, *headers = head.decode().split("\r\n\r\n")[0].split("\r\n")
            _, target, _ = request.split(" ")
            self.connects.append(target)
            wanted = f"basic {base64.b64encode(self.credentials.encode()).decode()}".lower()
            if self.credentials and not any(h.lower().endswith(wanted) for h in headers):
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
            host, _, port = self.hosts.get(target, target).rpartition(":")
            try:
                server = socket.create_connection((host.strip("[]"), int(port)), timeout=20)
            except OSError:
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                return
            with server:
                self.sockets.append(server)
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_forward, args=(server, client), daemon=True)
                back.start()
                _forward(client, server)
                back.join()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def connect_proxy(hosts: Mapping[str, str] | None = None, credentials: str = "") -> Iterator[ConnectProxy]:
    """A running proxy; its connections end with it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = ConnectProxy(f"127.0.0.1:{listener.getsockname()[1]}", hosts or {}, credentials)
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for open_socket in proxy.sockets:
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
            for thread in proxy.threads:
                thread.join(20)
