"""The demo's server: a process of its own, started as a user would start it and stopped whatever happens."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tenclip_api.errors import ServerUnavailable

# `tenclip serve` prints this when it answers requests.
READY = re.compile(r"tenclip serving \d+ models on (?P<address>\S+),")
START_SECONDS = 120.0
STOP_SECONDS = 20.0
LAST_LINES = 20


class ServerProcess:
    """`tenclip serve MODELS` on a free port, as a context: `address` is HOST:PORT once it has been entered.

    log: file for the server's log. allow_roots: folders from which it may read videos itself.
    Raises ServerUnavailable, with the end of the log, when it does not get ready.
    """

    def __init__(
        self, models: Path, log: Path, *, allow_roots: Sequence[Path] = (), start_seconds: float = START_SECONDS
    ) -> None:
        self.command = [
            *(sys.executable, "-m", "tenclip_serving", str(models)),
            *("--host", "127.0.0.1", "--port", "0", "--metrics-port", "-1"),
            *(part for root in allow_roots for part in ("--allow-root", str(root))),
        ]
        self.address = ""
        self._log, self._start_seconds = log, start_seconds
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=LAST_LINES)

    def __enter__(self) -> Self:
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            self.address = self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to finish, and end it when it does not."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        ready = threading.Event()
        found: list[str] = []
        # A thread of its own, because reading a pipe has no time limit; it also keeps the pipe from filling up.
        reader = threading.Thread(target=self._read, args=(process.stdout, found, ready), daemon=True)
        reader.start()
        if not ready.wait(self._start_seconds):
            raise ServerUnavailable(f"the server was not ready after {self._start_seconds:g} s; {self._tail()}")
        if not found:
            raise ServerUnavailable(f"the server ended with exit code {process.wait(STOP_SECONDS)}; {self._tail()}")
        return found[0]

    def _read(self, stdout: IO[str], found: list[str], ready: threading.Event) -> None:
        try:
            for line in stdout:
                self._lines.append(line.rstrip())
                if not found and (match := READY.search(line)):
                    found.append(match["address"])
                    ready.set()
        except ValueError:  # closed by `stop` while reading
            pass
        ready.set()

    def _tail(self) -> str:
        lines = [*self._lines, *self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]]
        return f"{self._log} ends with:\n" + "\n".join(lines) if lines else "it said nothing"
