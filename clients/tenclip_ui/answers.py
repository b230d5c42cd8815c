"""Answers of the page as JSON: errors with the server's words, and predictions with what people read about them."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.responses import JSONResponse, Response

from tenclip_api.errors import MessageTooLarge, Overloaded, ServerError, TenclipError, VideoTooLarge
from tenclip_client._types import ClipUpdate, ModelInfo, Prediction
from tenclip_client.report import facts
from tenclip_client.report.html import join
from tenclip_client.report.page import video_page
from tenclip_client.report.scores import agreement
from tenclip_client.report.section import section

_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 502,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def status_of(error: TenclipError) -> int:
    """The HTTP status of an error."""
    return 413 if isinstance(error, VideoTooLarge | MessageTooLarge) else _STATUS.get(error.grpc_status, 500)


def error_body(error: TenclipError) -> dict[str, Any]:
    """An error as JSON: its class, its reason on the wire, its message."""
    body: dict[str, Any] = {"type": type(error).__name__, "reason": error.reason, "message": error.message}
    if isinstance(error, ServerError) and error.request_id:
        body["request_id"] = error.request_id
    if isinstance(error, Overloaded) and error.retry_after_seconds is not None:
        body["retry_after_seconds"] = error.retry_after_seconds
    return {"error": body}


def error_response(error: TenclipError) -> Response:
    """An error as the whole answer."""
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds or 1))
    if status_of(error) == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status_of(error), headers)


def line(value: dict[str, Any]) -> bytes:
    """One line of a stream."""
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    """Plain values with null in place of numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value


def update_body(update: ClipUpdate) -> dict[str, Any]:
    """A clip that is done."""
    body = update.to_dict()
    del body["clip"]["clip"]["frame_indices"]
    return {"update": body}


def prediction_body(name: str, answer: Prediction, model: ModelInfo | None) -> dict[str, Any]:
    """The whole answer, what people should know of it in words, and the report to save."""
    body = answer.to_dict()
    for clip in body["clips"]:
        del clip["clip"]["frame_indices"]
    clips = [c.clip for c in answer.clips]
    words = {
        "video": facts.video_facts(answer.video),
        "notices": list(facts.notices(answer, clips)),
        "adaptive": "" if answer.adaptive is None else facts.adaptive_words(answer.adaptive),
        "agreement": agreement(answer.top, answer.clips),
    }
    report = join(*video_page(section(name, answer, model)))
    return {"prediction": body, "words": words, "report": str(report)}


def model_body(model: ModelInfo) -> dict[str, Any]:
    """What the page shows of a model, to choose it."""
    stopping = None if model.sampler is None else model.sampler.stopping
    return {
        "ref": model.ref,
        "name": model.name,
        "is_default": model.is_default_version,
        "architecture": model.architecture,
        "num_classes": model.num_classes,
        "protocol": model.default_protocol,
        "adaptive": stopping is not None,
        "sampler": "" if model.sampler is None else model.sampler.name,
    }
