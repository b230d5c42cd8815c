"""Errors as RFC 9457 problem details, from the one tree of errors: the same reasons and words as over gRPC."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tenclip_api import errors
from tenclip_api.errors import Overloaded, TenclipError
from tenclip_api.wire import REASON_KEY, RETRY_AFTER_KEY

PROBLEM_TYPE = "application/problem+json"
_BY_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
# Where HTTP says it more exactly than a gRPC status does; a class stands for those below it, too.
_BY_CLASS: Mapping[type[TenclipError], int] = {
    errors.VideoNotFound: 404,
    errors.VideoNotReadable: 403,
    errors.VideoTooLarge: 413,
    errors.MessageTooLarge: 413,
    errors.NotAVideo: 415,
    errors.NotAnImage: 415,
    errors.VideoChanged: 409,
    errors.FetchFailed: 424,
    # 503 is an invitation to try again, and this video would kill the next decoder as well.
    errors.DecodeWorkerDied: 500,
    errors.VideoError: 422,
}


_MAY_NAME_BUNDLES = (errors.ModelError, errors.MissingDependency, errors.InvalidRequest, errors.ServerError)


class Refused(Exception):
    """An error that HTTP has a status of its own for, where gRPC has none."""

    def __init__(self, status: int, error: TenclipError, **headers: str) -> None:
        super().__init__(error.message)
        self.status, self.error = status, error
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def status_of(error: TenclipError) -> int:
    """The HTTP status of an error.

    >>> status_of(errors.EmptyVideo("run.mp4: is empty")), status_of(errors.ModelNotFound("no model"))
    (422, 404)
    """
    for cls in type(error).__mro__:
        if cls in _BY_CLASS:
            return _BY_CLASS[cls]
    return _BY_STATUS[error.grpc_status]


def problem(error: TenclipError, request_id: str, *, models: Path, status: int = 0, v2: bool = False) -> dict[str, Any]:
    """The members of a problem.

    v2: with `error`, where clients of the Open Inference Protocol look for the message: KServe's only if the media type
    is that of plain JSON.
    models: the folder of the bundles, see `without_folder`.
    """
    status = status or status_of(error)
    # The others name paths of their callers, which may look alike.
    message = without_folder(error.message, models) if isinstance(error, _MAY_NAME_BUNDLES) else error.message
    found: dict[str, Any] = {
        "type": f"/docs#{error.reason}",
        "title": _title(status),
        "status": status,
        "detail": message,
        "reason": error.reason,
        "code": error.grpc_status,
        "request_id": request_id,
    }
    if isinstance(error, Overloaded) and error.retry_after_seconds is not None:
        found["retry_after_seconds"] = round(error.retry_after_seconds, 3)
    if v2:
        found["error"] = message
    return found


def headers_of(error: TenclipError, status: int) -> dict[str, str]:
    """Headers of an answer that is a problem."""
    found = {REASON_KEY: error.reason}
    if isinstance(error, Overloaded) and error.retry_after_seconds is not None:
        found["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
        found[RETRY_AFTER_KEY] = f"{error.retry_after_seconds:.3f}"
    if status == 401:
        found["www-authenticate"] = "Bearer"
    return found


def encode(members: Mapping[str, Any]) -> bytes:
    """JSON, in which no half of a surrogate pair from the name of a file can be."""
    return json.dumps(members).encode()


def without_folder(text: str, folder: Path) -> str:
    """A message without the folder of the models, which callers over HTTP need not know."""
    names = "|".join(re.escape(str(name)) for name in (folder.absolute(), folder))
    return re.sub(rf"(?<![\w./-])(?:{names})/", "", text)


def _title(status: int) -> str:
    return "Client Closed Request" if status == 499 else HTTPStatus(status).phrase
