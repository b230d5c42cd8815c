"""Logs on stderr, as text or one JSON object a line, each line with the id of the request that it belongs to.

A log is never the reason that a request fails: a line that cannot be written (a full disk, a pipe that nobody reads
any more) is dropped and counted. And nobody can fill it with one request: every text in a line has a longest length.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import uuid
from contextvars import ContextVar
from typing import Any

from tenclip_serving.config import LogFormat

LOGGER = logging.getLogger("tenclip_serving")
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
# Whose token came with the request; "" where no tokens are asked for.
CLIENT: ContextVar[str] = ContextVar("client", default="")
# Id of the caller's trace (W3C), or of ours: 32 hex digits.
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_USABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# Characters of one text as JSON writes them, where \u0001 is six. An honest message has some hundreds, the
# configuration at start two or three thousand.
_MAX_TEXT_CHARACTERS = 8000
# The most characters of a traceback; its end says what went wrong.
_MAX_TRACEBACK_CHARACTERS = 32_000


def new_request_id(proposed: str | None = None) -> str:
    """The caller's own id where it can stand in logs and headers as it is, else 32 random hex digits."""
    return proposed if proposed is not None and _USABLE_ID.fullmatch(proposed) else uuid.uuid4().hex


def trace_id_of(traceparent: str | None) -> str:
    """The trace in a W3C `traceparent`, "" where there is none that is valid."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    return found[1] if found else ""


def log(level: int, message: str, /, *, exc_info: bool = False, **fields: Any) -> None:
    """One line: a message for people, `fields` for machines."""
    LOGGER.log(level, message, exc_info=exc_info, extra={"fields": fields})


def configure_logs(log_format: LogFormat) -> None:
    """Send this package's log to stderr in the format asked for."""
    handler = LineHandler(2)
    handler.setFormatter(formatter(log_format))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def formatter(log_format: LogFormat) -> logging.Formatter:
    return _JsonFormatter() if log_format == "json" else _TextFormatter()


class LineHandler(logging.Handler):
    """Writes each line to a file descriptor at once, or drops it.

    Without a file object between, which would keep what could not be written and fail again at the end of the process.
    And `logging`'s own way to report a failure, a traceback on stderr, would be more lines for the same log.
    """

    # Shared by all handlers of this process, as they share one stderr.
    num_dropped = 0

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as err:  # arguments that do not fit the message, of some library
            line = self.format(_unformattable(record, err))
        self._write(line.encode("utf-8", "backslashreplace"))

    def _write(self, line: bytes) -> None:
        # After half a line the next one begins on a line of its own.
        rest = memoryview(b"\n" + line + b"\n" if self._torn else line + b"\n")
        size = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._torn = False
        except OSError:
            self._torn = self._torn or len(rest) < size
            LineHandler.num_dropped += 1


def _unformattable(record: logging.LogRecord, err: Exception) -> logging.LogRecord:
    message = f"a line of the log that cannot be formatted ({err!r}): {record.msg!r:.1000}"
    return logging.makeLogRecord({"name": record.name, "levelno": logging.ERROR, "levelname": "ERROR", "msg": message})


def shorten(text: str, most: int = _MAX_TEXT_CHARACTERS) -> str:
    """Cut to what takes at most `most` characters in the log, and says so."""
    return text if _fits(text, most) else f"{text[: _fitting(text, most)]}... (cut, {len(text)} characters in all)"


def _fits(text: str, most: int) -> bool:
    return len(text) <= most and _fitting(text, most) == len(text)


def _fitting(text: str, most: int) -> int:
    """The number of first characters that take at most `most` characters when written as JSON."""
    head = text[:most]
    if head.isascii() and head.isprintable() and '"' not in head and "\\" not in head:
        return len(head)
    size = 0
    for i, char in enumerate(head):
        size += len(json.dumps(char)) - 2
        if size > most:
            return i
    return len(head)


def _shorten_traceback(text: str) -> str:
    if _fits(text, _MAX_TRACEBACK_CHARACTERS):
        return text
    half = _MAX_TRACEBACK_CHARACTERS // 2
    head = text[: _fitting(text, half)]
    tail = text[-_fitting(text[-half:][::-1], half) :]
    return f"{head}\n... (cut, {len(text)} characters in all)\n{tail}"


def _shorten_value(value: object) -> object:
    """Numbers as they are; what is no text is cut as the text that it would be."""
    if isinstance(value, str):
        return shorten(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return value if _fits(text, _MAX_TEXT_CHARACTERS) else shorten(text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = dict(getattr(record, "fields", {}))
    if record.name != LOGGER.name:
        fields.setdefault("logger", record.name)
    if request_id := REQUEST_ID.get():
        fields.setdefault("request_id", request_id)
    if trace_id := TRACE_ID.get():
        fields.setdefault("trace_id", trace_id)
    if client := CLIENT.get():
        fields.setdefault("client", client)
    return {key: _shorten_value(value) for key, value in fields.items()}


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _timestamp(record), "level": record.levelname, "message": shorten(record.getMessage())}
        line |= {k: v for k, v in _fields(record).items() if k not in line}
        if record.exc_info:
            line["traceback"] = _shorten_traceback(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={_one_line(v)}" for k, v in _fields(record).items())
        line = f"{_timestamp(record)} {record.levelname:7} {_one_line(shorten(record.getMessage()), quote=False)}"
        line = f"{line}  {fields}" if fields else line
        return f"{line}\n{_shorten_traceback(self.formatException(record.exc_info))}" if record.exc_info else line


def _one_line(value: object, *, quote: bool = True) -> str:
    """Names of files and models come from callers: none of them may forge a line or a field."""
    text = str(value)
    if quote and (not text or not text.isprintable() or any(c in text for c in ' ="')):
        return json.dumps(text)
    return text if text.isprintable() else json.dumps(text)[1:-1]
