"""A store of files on loopback: HTTP with parts or without, and as much of S3 as its real client needs."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tenclip_batch.options import RuntimeOptions

from .helpers import SMALL

_TIME = "Sat, 21 Nov 2026 07:00:00 GMT"


class Store:
    """files: by path, to be changed at will. parts: whether ranges are answered. tags: whether ETags are sent.

    cut_after: connections are cut after so many bytes, of the next `cuts` answers. seen: (path, bytes of the answer).
    down: connections are closed without an answer.
    """

    def __init__(self, *, parts: bool = True, tags: bool = True, announced: bool = True) -> None:
        self.files: dict[str, bytes] = {}
        self.parts, self.tags, self.announced = parts, tags, announced
        self.cuts, self.cut_after = 0, 5000
        self.down = False
        self.seen: list[tuple[str, int]] = []
        self.url = ""

    def requests(self) -> int:
        """How many there were since the last call."""
        count = len(self.seen)
        self.seen.clear()
        return count

    def near(self, **changes: object) -> RuntimeOptions:
        """Options with which it may be fetched from."""
        host = self.url.removeprefix("http://")
        allowed = {"allow_hosts": (host,), "allow_networks": ("127.0.0.0/8",)}
        return RuntimeOptions(**{**vars(SMALL), **allowed, **changes})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # of who has read enough
            super().handle()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        store, path = self.store, self.path.partition("?")[0]
        self.close_connection = not store.parts  # with parts, connections are kept
        if store.down:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        data = store.files.get(path)
        if data is None:
            body = b"<Error><Code>NoSuchKey</Code></Error>"
            listing = "list-type=2" in self.path
            self._answer(200 if listing else 404, b"<ListBucketResult></ListBucketResult>" if listing else body, {})
            return
        headers = {"Last-Modified": _TIME}
        if store.tags:
            headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or not store.parts:
            self._answer(200, data, headers)
        elif int(asked[1]) >= len(data):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        else:
            part = data[int(asked[1]) : int(asked[2]) + 1]
            headers["Content-Range"] = f"bytes {asked[1]}-{int(asked[1]) + len(part) - 1}/{len(data)}"
            self._answer(206, part, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        store = self.store
        store.seen.append((self.path.partition("?")[0], len(body)))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if store.announced:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = store.cuts > 0 and len(body) > store.cut_after
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: store.cut_after] if cut else body)
        if cut:
            store.cuts -= 1
            self.close_connection = True


@contextlib.contextmanager
def serving(store: Store) -> Iterator[Store]:
    """Until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    server.daemon_threads = True
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
