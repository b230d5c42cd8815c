"""Everything that a server process says on stderr, as lines of its log: for `tenclip serve` alone.

Other packages' loggers and warnings, exceptions that nobody caught, and in the JSON format also what libraries in C
and decode workers write to file descriptor 2 by themselves: whoever reads the log reads JSON and nothing else. Only
the last words of a crashing interpreter (`faulthandler`) go out as they are, for nobody is left to wrap them.
"""

from __future__ import annotations

import atexit
import faulthandler
import logging
import os
import re
import sys
import threading
from types import TracebackType
from typing import Any

from tenclip_serving.config import LogFormat
from tenclip_serving.telemetry.logs import LOGGER, LineHandler, formatter, log

_MAX_LINE_BYTES = 1 << 16
_READ_BYTES = 1 << 16
_LAST_SECONDS = 2.0
# How lines of gRPC begin (I1121 07:10:16.209276 ...), and what they mean.
_GLOG = re.compile(rb"([IWEF])\d{4} \d\d:\d\d:\d\d\.")
_LEVELS = {b"I": logging.INFO, b"W": logging.WARNING, b"E": logging.ERROR, b"F": logging.CRITICAL}


def log_everything(log_format: LogFormat) -> None:
    """From now on, and for the life of this process. Call after `configure_logs`."""
    _need_stderr()
    descriptor = 2
    if log_format == "json":
        lines = StderrLines()
        lines.start()
        atexit.register(lines.close)
        descriptor = lines.real
        faulthandler.enable(descriptor)
    handler = LineHandler(descriptor)
    handler.setFormatter(formatter(log_format))
    LOGGER.handlers[:] = [handler]
    logging.getLogger().handlers[:] = [handler]
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _need_stderr() -> None:
    """Opens a standard error that leads nowhere where there is none (`2>&-`).

    Otherwise the next file or connection that is opened would get descriptor 2, and the log would go into it.
    """
    if sys.stderr is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.fstat(2)
        except OSError:
            os.dup2(nowhere, 2)
        sys.stderr = os.fdopen(nowhere, "w", encoding="utf-8")


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    LOGGER.critical("uncaught exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(what: Any) -> None:
    name = what.thread.name if what.thread else "?"
    LOGGER.critical(
        f"uncaught exception in thread {name}", exc_info=(what.exc_type, what.exc_value, what.exc_traceback)
    )


class StderrLines:
    """A pipe in the place of file descriptor 2, and a thread that logs each line of it. `real`: the true stderr.

    Nothing that the thread does may write to stderr: it would wait for itself.
    """

    def __init__(self) -> None:
        self.real = os.dup(2)
        self._reader, writer = os.pipe()
        sys.stderr.flush()
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Everything written so far is logged, and stderr is what it was."""
        sys.stderr.flush()
        os.dup2(self.real, 2)  # closes our end of the pipe; children may hold theirs for a moment
        self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        rest = b""
        while chunk := os.read(self._reader, _READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                _log_line(line)
            if len(rest) > _MAX_LINE_BYTES:
                _log_line(rest)
                rest = b""
        _log_line(rest)


def _log_line(line: bytes) -> None:
    if not line.strip():
        return
    found = _GLOG.match(line)
    level = _LEVELS[found[1]] if found else logging.WARNING
    log(level, line[:_MAX_LINE_BYTES].decode("utf-8", "backslashreplace").rstrip(), source="stderr")
