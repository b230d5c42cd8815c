"""The OpenAPI 3.1 document of the routes: options and answers are described from the messages of tenclip.v1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tenclip_serving.api.convert import SERVER_VERSION
from tenclip_serving.http.call import JSON, TIMEOUT_HEADER
from tenclip_serving.http.options import VIDEO, AnyRequest, Option, options_of
from tenclip_serving.http.problems import PROBLEM_TYPE
from tenclip_serving.http.routes import Operation
from tenclip_serving.http.tensor_json import HEADER_LENGTH

_BYTES = "application/octet-stream"
# Status -> what it means; any request may end with one of these, those with a video also with the second.
_PROBLEMS: Mapping[int, str] = {
    400: "An option, a header or the body is missing, contradictory or out of range",
    401: "No token, or none that the server knows",
    403: "This server, or the caller's token, is not for this",
    404: "No such model, version, file or path",
    409: "The model cannot do this",
    413: "Larger than this server takes",
    415: "A content type that is not taken, or a file that is no video",
    422: "The video cannot be used",
    424: "What the URI names could not be had from its host",
    429: "Too much to do for now; Retry-After says till when",
    431: "Too many headers",
    500: "A fault of the server; request_id finds it in its log",
    503: "The server is going away",
    504: "Not done before the deadline",
}
_LIGHT = (400, 401, 403, 404, 409, 431, 500)
_UINT32, _INT64 = 2**32 - 1, 2**63 - 1
_TENSOR_TYPES = ["UINT8", "BYTES"]


def openapi(operations: Iterable[Operation], *, with_tokens: bool) -> dict[str, Any]:
    """The document as JSON takes it. with_tokens: the server wants one from every caller."""
    schemas: dict[str, Any] = {"Problem": _problem_schema(), "InferRequest": _infer_request()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.verb.lower()] = _operation(operation, schemas)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "tenclip",
            "version": SERVER_VERSION,
            "description": "Video action recognition over HTTP. Options have the names of the messages of tenclip.v1.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
    if with_tokens:
        document["security"] = [{"token": []}]
    return document


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    parts = operation.path.strip("/").replace("{", "").replace("}", "").split("/")
    found: dict[str, Any] = {
        "operationId": f"{operation.verb.lower()}_{'_'.join(parts)}",
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation, schemas),
    }
    if (body := _body(operation)) is not None:
        found["requestBody"] = body
    return found


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in ("name", "version")
        if f"{{{name}}}" in operation.path
    ]
    if operation.request is not None:
        found += [
            {"name": o.name, "in": "query", "required": False, "schema": option_schema(o)}
            for o in options_of(operation.request).values()
        ]
    if operation.gated:
        about = "Seconds that the caller waits; the server gives up then."
        found.append(
            {
                "name": TIMEOUT_HEADER.title(),
                "in": "header",
                "required": False,
                "description": about,
                "schema": {"type": "number", "exclusiveMinimum": 0},
            }
        )
    if operation.takes == "tensors":
        about = "Bytes of JSON, where binary tensors follow it."
        schema = {"type": "integer", "minimum": 2}
        found.append(
            {
                "name": HEADER_LENGTH.title(),
                "in": "header",
                "required": False,
                "description": about,
                "schema": schema,
            }
        )
    return found


def option_schema(option: Option) -> dict[str, Any]:
    """JSON Schema of one option."""
    if option.choices:
        return {"type": "string", "enum": list(option.choices)}
    schema: dict[str, Any] = {"type": option.kind}
    if option.kind == "integer":
        schema |= {"minimum": 0, "maximum": _UINT32}
    return schema


def _body(operation: Operation) -> dict[str, Any] | None:
    if operation.request is not None:
        return _video_body(operation.request)
    if operation.takes == "tensors":
        content: dict[str, Any] = {JSON: {"schema": {"$ref": "#/components/schemas/InferRequest"}}, _BYTES: {}}
        return {"required": True, "content": content}
    if operation.takes == "object":
        return {"required": False, "content": {JSON: {"schema": {"type": "object"}}}}
    return None


def _video_body(request: type[AnyRequest]) -> dict[str, Any]:
    options = {o.name: option_schema(o) for o in options_of(request).values()}
    file = {"type": "string", "format": "binary", "description": "The encoded file."}
    form = {"type": "object", "properties": {VIDEO: file, **options}, "additionalProperties": False}
    named = {"type": "object", "properties": options, "additionalProperties": False}
    whole = {"schema": {"type": "string", "format": "binary"}}
    content = {"multipart/form-data": {"schema": form}, JSON: {"schema": named}, _BYTES: whole, "video/*": whole}
    return {"required": True, "content": content}


def _responses(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {kind: _content(operation, kind, answer, schemas) for kind, answer in operation.answers.items()}
    found: dict[str, Any] = {"200": {"description": operation.summary, "content": content}}
    if operation.unready:
        found["503"] = {"description": "Not ready", "content": content}
    statuses = _PROBLEMS if operation.takes in ("video", "tensors") else {s: _PROBLEMS[s] for s in _LIGHT}
    if operation.takes == "object":
        statuses = {**statuses, 413: _PROBLEMS[413]}
    for status, about in statuses.items():
        problem = {JSON if operation.is_v2 else PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        found.setdefault(str(status), {"description": about, "content": problem})
    return found


def _content(operation: Operation, kind: str, answer: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if kind != JSON:
        return {"schema": {"type": "string", "contentMediaType": kind, "description": answer}}
    if isinstance(answer, str):
        return {"schema": {"type": "array" if operation.handler == "index" else "object", "description": answer}}
    return {"schema": _message(answer.DESCRIPTOR, schemas, wide_as_text=not operation.is_v2)}


def _message(descriptor: Descriptor, schemas: dict[str, Any], *, wide_as_text: bool) -> dict[str, Any]:
    """A reference to the schema of a message, which is added to `schemas` with those below it."""
    name = descriptor.name
    if name not in schemas:
        schemas[name] = {}  # before those below it, which may lead back here
        fields = descriptor.fields
        schemas[name] = {
            "type": "object",
            "properties": {f.name: _field(f, schemas, wide_as_text=wide_as_text) for f in fields},
            "required": [f.name for f in fields if not f.has_presence],
        }
    return {"$ref": f"#/components/schemas/{name}"}


def _field(field: FieldDescriptor, schemas: dict[str, Any], *, wide_as_text: bool) -> dict[str, Any]:
    one = _one(field, schemas, wide_as_text=wide_as_text)
    return {"type": "array", "items": one} if field.is_repeated else one


def _one(field: FieldDescriptor, schemas: dict[str, Any], *, wide_as_text: bool) -> dict[str, Any]:
    if field.message_type is not None:
        return _message(field.message_type, schemas, wide_as_text=wide_as_text)
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
        return {"type": "string"} if wide_as_text else {"type": "integer"}
    if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32):
        return {"type": "integer"}
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    if field.type == field.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    return {"type": "boolean" if field.type == field.TYPE_BOOL else "string"}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "Problem details, RFC 9457. reason: the name of the error, code: that of gRPC's status.",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "reason": text,
            "code": text,
            "request_id": text,
            "retry_after_seconds": {"type": "number"},
            "error": text,
        },
        "required": ["type", "title", "status", "detail", "reason", "code", "request_id"],
    }


def _infer_request() -> dict[str, Any]:
    parameters = {"type": "object"}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": ["clips", "VIDEO"]},
            "datatype": {"type": "string", "enum": _TENSOR_TYPES},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": _INT64}},
            "parameters": parameters,
            "data": {"type": "array"},
        },
        "required": ["name", "datatype", "shape"],
    }
    output = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "parameters": parameters},
        "required": ["name"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": parameters,
            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
            "outputs": {"type": "array", "items": output},
        },
        "required": ["inputs"],
    }
