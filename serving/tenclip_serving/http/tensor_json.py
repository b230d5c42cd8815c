"""Requests and responses of the Open Inference Protocol in JSON, and as JSON with binary tensors behind it.

The binary tensor data extension: the header Inference-Header-Content-Length says how much of the body is JSON; the
tensors whose parameters have a binary_data_size follow it, in their order. Both forms become the messages of gRPC.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from tenclip_api.errors import InvalidRequest
from tenclip_api.inference import open_inference_pb2 as pb
from tenclip_serving.http.messages import json_floats

HEADER_LENGTH = "inference-header-content-length"
# Numbers as text take many times their size, while everyone waits for the parser: what is larger comes as binary data.
MAX_JSON_BYTES = 8 << 20
_BINARY = "send it as binary data (Inference-Header-Content-Length), as clients of the protocol do"
_NUMBERS = re.compile(rb"(?:[0-9]{1,9},)*+[0-9]{1,9}")
_WITHOUT_ROWS = b"[] \t\r\n"
_Value = bool | int | float | str | None


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, _Value] | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, _Value] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, _Value] | None = None
    outputs: list[_Output] | None = None


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """message: as gRPC would bring it. binary: outputs that are wanted as binary data, or not; else `all_binary`."""

    message: pb.ModelInferRequest
    binary: Mapping[str, bool]
    all_binary: bool


def read_request(body: bytes, header_length: str | None, *, name: str, version: str) -> InferRequest:
    """Raises InvalidRequest."""
    view = memoryview(body)
    length = _length(header_length, len(body))
    if length > MAX_JSON_BYTES:
        raise InvalidRequest(f"the JSON of the request has {length} bytes; at most {MAX_JSON_BYTES} may be: {_BINARY}")
    try:
        said = msgspec.json.decode(view[:length], type=_Request)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as err:
        raise InvalidRequest(f"the request is not one of the Open Inference Protocol: {err}") from err
    request = pb.ModelInferRequest(model_name=name, model_version=version, id=said.id or "")
    parameters = dict(said.parameters or {})
    all_binary = _flag(parameters, "binary_data_output")
    _fill(request.parameters, parameters)
    binary: dict[str, bool] = {}
    for output in said.outputs or ():
        more = dict(output.parameters or {})
        if "binary_data" in more:
            binary[output.name] = _flag(more, "binary_data")
        _fill(request.outputs.add(name=output.name).parameters, more)
    rest = view[length:]
    for given in said.inputs:
        rest = _add_input(request, given, rest)
    if len(rest):
        raise InvalidRequest(f"{len(rest)} bytes follow the tensors that the request describes")
    return InferRequest(message=request, binary=binary, all_binary=all_binary)


def write_response(response: pb.ModelInferResponse, asked: InferRequest) -> tuple[bytes, int | None]:
    """(body, length of the JSON in it; None where it is JSON alone)."""
    outputs, blobs = [], []
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        members: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if asked.binary.get(tensor.name, asked.all_binary):
            members["parameters"] = {"binary_data_size": len(raw)}
            blobs.append(raw)
        elif tensor.datatype == "BYTES":
            members["data"] = _texts(raw)
        else:
            members["data"] = json_floats(np.frombuffer(raw, "<f4").tolist())
        outputs.append(members)
    said = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        **({"id": response.id} if response.id else {}),
        "parameters": {name: _value(parameter) for name, parameter in response.parameters.items()},
        "outputs": outputs,
    }
    header = msgspec.json.encode(said)
    return b"".join((header, *blobs)), len(header) if blobs else None


def _length(text: str | None, size: int) -> int:
    if text is None:
        return size
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > size:
        raise InvalidRequest(
            f"the header Inference-Header-Content-Length must be a number of bytes up to the {size} of the body; got "
            f"{text[:40]!r}"
        )
    return int(text)


def _add_input(request: pb.ModelInferRequest, given: _Input, rest: memoryview) -> memoryview:
    """What is left of the binary data."""
    parameters = dict(given.parameters or {})
    size, data = parameters.pop("binary_data_size", None), bytes(given.data)
    parameters.pop("content_type", None)  # of BYTES: base64 is the only one that can be
    try:
        tensor = request.inputs.add(name=given.name, datatype=given.datatype, shape=given.shape)
    except (ValueError, TypeError) as err:
        raise InvalidRequest(f"input {given.name!r} has the shape {given.shape[:8]}: {err}") from err
    _fill(tensor.parameters, parameters)
    if size is None:
        if not data:
            raise InvalidRequest(f"input {given.name!r} has no data: neither `data` nor the parameter binary_data_size")
        request.raw_input_contents.append(_from_json(given, data))
        return rest
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        raise InvalidRequest(
            f"input {given.name!r} has the binary_data_size {size!r}; {len(rest)} bytes of binary data are left for it"
        )
    if data:
        raise InvalidRequest(f"input {given.name!r} has data, and a binary_data_size too; send one of them")
    request.raw_input_contents.append(bytes(rest[:size]))
    return rest[size:]


def _from_json(given: _Input, data: bytes) -> bytes:
    """The elements as bytes. Of other types than this server takes: none, so that the type is what is complained of."""
    if given.datatype == "UINT8":
        return _pixels(given.name, data)
    return _strings(given.name, data) if given.datatype == "BYTES" else b""


def _pixels(name: str, data: bytes) -> bytes:
    flat = data.translate(None, _WITHOUT_ROWS)
    if not _NUMBERS.fullmatch(flat):
        raise InvalidRequest(f"input {name!r} of type UINT8 must have whole numbers of 0-255 as data, nested or flat")
    numbers = np.fromstring(flat, np.int64, sep=",")
    if numbers.max() > 255:
        raise InvalidRequest(f"input {name!r} has the value {numbers.max()}; UINT8 ends at 255")
    return numbers.astype(np.uint8).tobytes()


def _strings(name: str, data: bytes) -> bytes:
    found: list[bytes] = []
    try:
        for text in _flat(msgspec.json.decode(data, type=list[str | list[str]])):
            decoded = base64.b64decode(text, validate=True)
            found.append(len(decoded).to_bytes(4, "little") + decoded)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise InvalidRequest(f"input {name!r} in JSON must be base64 of the file, as text; or {_BINARY}") from None
    return b"".join(found)


def _flat(elements: list[str | list[str]]) -> Iterator[str]:
    for element in elements:
        yield from [element] if isinstance(element, str) else element


def _texts(raw: bytes) -> list[str]:
    found, start = [], 0
    while start < len(raw):
        end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        found.append(raw[start + 4 : end].decode())
        start = end
    return found


def _flag(parameters: dict[str, _Value], name: str) -> bool:
    value = parameters.pop(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {name!r} must be true or false, got {value!r:.40}")
    return value


def _value(parameter: pb.InferParameter) -> _Value:
    choice = parameter.WhichOneof("parameter_choice")
    value: _Value = None if choice is None else getattr(parameter, choice)
    return value


def _fill(into: Any, parameters: Mapping[str, _Value]) -> None:
    for name, value in parameters.items():
        try:
            if isinstance(value, bool):
                into[name].bool_param = value
            elif isinstance(value, int):
                into[name].int64_param = value
            elif isinstance(value, float):
                into[name].double_param = value
            elif isinstance(value, str):
                into[name].string_param = value
            else:
                into[name].SetInParent()
        except ValueError as err:
            raise InvalidRequest(f"parameter {name!r:.80}: {err}") from err
