"""`tenclip ui` as a process of its own, and requests as its scripts send them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.tenclip_serving.helpers import stop

# What the page's own scripts send.
OURS = {"X-Tenclip-Page": "1"}


@dataclass(frozen=True)
class PageProcess:
    """A page. `url` ends in a slash."""

    process: subprocess.Popen[str]
    url: str
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def client(self, **settings: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30, **settings)


@contextlib.contextmanager
def running_page(server: str, *arguments: str, **environment: str) -> Iterator[PageProcess]:
    """`tenclip ui --server server --port 0 ...`, stopped whatever happens, and quiet unless a test reads its log."""
    command = [sys.executable, "-m", "tenclip_client", "ui", "--server", server, "--port", "0", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        with log_path.open("w") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONWARNINGS": "error", **environment},
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            match = re.fullmatch(r"tenclip page on (https?://\S+/) for the server at (\S+)\n", line)
            assert match, f"the page said {line!r}\n{log_path.read_text()}"
            assert match[2] == server
            yield PageProcess(process, match[1], log_path)
        finally:
            code = stop(process)
        assert code == 0


def connected(page: PageProcess) -> socket.socket:
    """A connection to it, for bytes as they are."""
    where = urlsplit(page.url)
    assert where.hostname is not None
    assert where.port is not None
    return socket.create_connection((where.hostname, where.port), timeout=10)


def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
