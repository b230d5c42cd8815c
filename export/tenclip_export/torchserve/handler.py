"""The handler of a TorchServe worker: the core of `tenclip serve`, on the bundle inside the `.mar`.

Decode, protocol, runtime and averaging are the server's own, so answers are the same to the bit on one machine.

Inputs of a prediction, as HTTP form fields or entries of the gRPC `input` map:

- `data`, `body` (what TorchServe calls a raw HTTP body) or `video`: the encoded file itself;
- `parameters`: a JSON object of fields of `tenclip.v1.PredictRequest`, e.g. `{"top_k": 3, "protocol": "ten-clip"}`;
- any such field by its own name: `top_k=3`, `include_features=true`, `clips={"mode": "CENTER"}`.

HTTP may send the JSON object in the header `tenclip-parameters` too; TorchServe drops query parameters. The answer is a
`tenclip.v1.PredictResponse` as JSON, with the names of the .proto. An error is `{"code", "reason", "message"}` under
its HTTP status.

This module imports no torch, though TorchServe itself does.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from google.protobuf import json_format

from tenclip_api.errors import BundleError, InvalidRequest, MessageTooLarge, TenclipError
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api.convert import predict_response, recognition_request
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.models.repository import Repository, load_repository
from tenclip_serving.telemetry.logs import REQUEST_ID

# Where the bundle lies inside the archive, as BUNDLES/NAME/VERSION/bundle.json.
BUNDLES = "bundles"
# The section of model-config.yaml that holds fields of ServerConfig.
SETTINGS = "tenclip"
VIDEO_INPUTS = ("data", "body", "video")
PARAMETERS = "parameters"
PARAMETERS_HEADER = "tenclip-parameters"
# Fields of PredictRequest that a caller may set; the archive holds one model, and the video is an input of its own.
FIELDS = tuple(f.name for f in pb.PredictRequest.DESCRIPTOR.fields if f.name not in ("model", "video"))

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto says which HTTP status each one maps to.
_HTTP_CODES = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "FAILED_PRECONDITION": 400,
    "RESOURCE_EXHAUSTED": 429,
    "UNAUTHENTICATED": 401,
    "UNAVAILABLE": 503,
}

Inputs = Mapping[str, Any]  # by name: bytes or bytearray, str for text, a parsed value for JSON
T = TypeVar("T")


class Context(Protocol):
    """The part of `ts.context.Context` that is used here."""

    system_properties: dict[str, Any]
    model_yaml_config: dict[str, Any] | None

    def get_request_id(self, idx: int) -> str | None: ...
    def get_all_request_header(self, idx: int) -> dict[str, Any]: ...
    def set_response_status(self, code: int, phrase: str, idx: int) -> None: ...
    def set_response_content_type(self, idx: int, value: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`code`: the HTTP status; 200 for a prediction."""

    code: int
    body: dict[str, Any]


class Handler:
    """TorchServe makes one in each worker, calls `initialize` once and `handle` for each batch of requests."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None

    def initialize(self, context: Context) -> None:
        """Load the bundle, prove it on its golden clips and start the decode workers.

        Raises the TenclipError with which that failed; TorchServe logs it and retries the worker.
        """
        root = Path(context.system_properties["model_dir"]) / BUNDLES
        config = server_config(root, (context.model_yaml_config or {}).get(SETTINGS) or {})
        repository = load_repository(root, runtime=config.runtime, variant=config.variant, threads=config.threads)
        _require_one(root, repository)
        # Requests come one batch after the other on this thread; the core wants an event loop that runs all the time.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tenclip", daemon=True)
        self._thread.start()
        self._engine = self._run(_start(config, repository)).result()

    def handle(self, data: Sequence[Inputs], context: Context) -> list[bytes]:
        """One JSON document for each request; the videos of a batch are decoded side by side."""
        pending = [self._run(self._answer(i, inputs, context)) for i, inputs in enumerate(data)]
        answers = [future.result() for future in pending]
        for index, answer in enumerate(answers):
            if answer.code != 200:
                if len(answers) == 1 and not _is_http(context, index):
                    _fail(answer)
                context.set_response_status(answer.code, answer.body["reason"], index)
            context.set_response_content_type(index, "application/json")
        return [json.dumps(answer.body, ensure_ascii=False, allow_nan=False).encode() for answer in answers]

    def close(self) -> None:
        """End the decode workers and the event loop. (TorchServe kills its workers, and theirs end with them.)"""
        if self._engine is not None:
            self._run(self._engine.close()).result()
            self._engine = None
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        assert self._loop is not None, "TorchServe calls initialize first"
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _answer(self, index: int, inputs: Inputs, context: Context) -> Answer:
        assert self._engine is not None
        request_id = context.get_request_id(index) or ""
        REQUEST_ID.set(request_id)
        try:
            request = predict_request(inputs, context.get_all_request_header(index))
            asked = recognition_request(request)
            result = await self._engine.recognize(asked)
            return Answer(code=200, body=to_json(predict_response(request, result)))
        except TenclipError as err:
            return error_answer(err)
        except Exception:
            logging.getLogger(__name__).exception("internal error, request id %s", request_id)
            return Answer(code=500, body=_error(500, "SERVER_ERROR", f"internal error, request id {request_id}"))


async def _start(config: ServerConfig, repository: Repository) -> Engine:
    # Made in the event loop that it will run in.
    engine = Engine(config, repository)
    await engine.start()
    return engine


def server_config(root: Path, settings: Mapping[str, Any]) -> ServerConfig:
    """The core's settings from the `tenclip:` section of model-config.yaml. Raises BundleError for what is wrong."""
    try:
        return ServerConfig(directory=root, **settings)
    except (TypeError, ValueError) as err:
        raise BundleError(f"model-config.yaml, section {SETTINGS}: {err}") from err


def predict_request(inputs: Inputs, headers: Mapping[str, Any]) -> pb.PredictRequest:
    """The request that inputs and headers amount to. Raises InvalidRequest; see the module for what they may be."""
    fields: dict[str, Any] = {}
    for name, value in headers.items():
        if name.lower() == PARAMETERS_HEADER:
            fields |= _json_object(value, f"header {PARAMETERS_HEADER}")
    if PARAMETERS in inputs:
        fields |= _json_object(inputs[PARAMETERS], f"input {PARAMETERS}")
    single = {name: value for name, value in inputs.items() if name not in (*VIDEO_INPUTS, PARAMETERS)}
    fields |= {name: _json_value(value) for name, value in single.items()}
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise InvalidRequest(
            f"no parameter {', '.join(unknown)}; there are {', '.join(FIELDS)}, and the video itself is data"
        )
    try:
        request = json_format.ParseDict(fields, pb.PredictRequest())
    except json_format.ParseError as err:
        raise InvalidRequest(f"parameters: {err}") from err
    request.video.data = _video(inputs)
    return request


def to_json(response: pb.PredictResponse) -> dict[str, Any]:
    """Plain values under the names of the .proto, zeros included. Floats keep every bit of their float32."""
    values: dict[str, Any] = json_format.MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return values


def error_answer(err: TenclipError) -> Answer:
    code = 413 if isinstance(err, MessageTooLarge) else _HTTP_CODES.get(err.grpc_status, 500)
    return Answer(code=code, body=_error(code, err.reason, err.message))


def _error(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"code": code, "reason": reason, "message": message}


def _video(inputs: Inputs) -> bytes:
    given = [name for name in VIDEO_INPUTS if name in inputs]
    if len(given) != 1:
        got = f"got {' and '.join(given)}" if given else f"got {', '.join(sorted(inputs)) or 'nothing'}"
        raise InvalidRequest(f"send one video, as the body, the form field or the gRPC input `data`; {got}")
    value = inputs[given[0]]
    if isinstance(value, str):
        # TorchServe decodes what a caller labels as text; it reads valid UTF-8 only, so this gives back what was sent.
        return value.encode()
    if not isinstance(value, bytes | bytearray):
        raise InvalidRequest(f"{given[0]} is JSON; send the bytes of a video file, as video/* or without a type")
    return bytes(value)


def _json_object(value: Any, what: str) -> dict[str, Any]:
    if isinstance(value, bytes | bytearray | str):
        try:
            value = json.loads(value)
        except ValueError as err:  # UnicodeDecodeError too
            raise InvalidRequest(f"{what} is no JSON: {err}") from err
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be a JSON object, got {type(value).__name__}")
    return value


def _json_value(value: Any) -> Any:
    """`3`, `true` and `{"mode": "CENTER"}` as JSON, anything else as the text it is."""
    if not isinstance(value, bytes | bytearray | str):
        return value
    text = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_http(context: Context, index: int) -> bool:
    """TorchServe hands on the headers of HTTP requests, of which Host is never missing, and none of gRPC's."""
    headers = context.get_all_request_header(index)
    # Content types of inputs are among the headers, by the name of the input and not as text.
    return any(name.lower() == "host" and isinstance(value, str) for name, value in headers.items())


def _fail(answer: Answer) -> NoReturn:
    """Over gRPC TorchServe drops the status of an answer. This exception becomes a gRPC status, for a whole batch."""
    exception: type[Exception] = importlib.import_module("ts.utils.util").PredictionException
    raise exception(f"{answer.body['reason']}: {answer.body['message']}", answer.code)


def _require_one(root: Path, repository: Repository) -> None:
    for failure in repository.failed:
        raise BundleError(f"{failure.name}/{failure.version}: {failure.error}")
    if len(repository) != 1:
        raise BundleError(f"{root}: holds {len(repository)} models; an archive of `tenclip export` holds one")
