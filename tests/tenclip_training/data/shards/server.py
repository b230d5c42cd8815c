"""A web server of a folder that counts requests, and fails when it is told to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Files:
    """folder: what is served. requests: of each name. fail: answers with this status before the file is sent, of each
    name. cut: sends half of the file so many times. seconds: that an answer takes.
    """

    folder: Path
    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    fail: dict[str, list[int]] = field(default_factory=dict)
    cut: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Files]:
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            with files.lock:
                files.requests[name] += 1
                statuses = files.fail.get(name, [])
                status = statuses.pop(0) if statuses else 200
                cut = status == 200 and files.cut[name] > 0
                files.cut[name] -= cut
            time.sleep(files.seconds)
            path = files.folder / name
            if status != 200 or not path.is_file():
                self.send_response(status if status != 200 else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
            self.close_connection = cut

        def log_message(self, format: str, *args: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
