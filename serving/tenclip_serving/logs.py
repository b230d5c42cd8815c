"""Logs on stderr, as text or one JSON object a line, each line with the id of the request that it belongs to."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from contextvars import ContextVar
from typing import Any

from tenclip_serving.config import LogFormat

LOGGER = logging.getLogger("tenclip_serving")
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
# Whose token came with the request; "" where no tokens are asked for.
CLIENT: ContextVar[str] = ContextVar("client", default="")
# Of the caller's trace (W3C), or of ours: 32 hex digits.
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_USABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def formatter(log_format: LogFormat) -> logging.Formatter:
    return _JsonFormatter() if log_format == "json" else _TextFormatter()


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
    return fields


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _timestamp(record), "level": record.levelname, "message": record.getMessage()}
        line |= {k: v for k, v in _fields(record).items() if k not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={_one_line(v)}" for k, v in _fields(record).items())
        line = f"{_timestamp(record)} {record.levelname:7} {_one_line(record.getMessage(), quote=False)}"
        line = f"{line}  {fields}" if fields else line
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _one_line(value: object, *, quote: bool = True) -> str:
    """Names of files and models come from callers: none of them may forge a line or a field."""
    text = str(value)
    if quote and (not text or not text.isprintable() or any(c in text for c in ' ="')):
        return json.dumps(text)
    return text if text.isprintable() else json.dumps(text)[1:-1]
