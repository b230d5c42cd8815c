"""Tensors and parameters of the Open Inference Protocol, read with a clear word on everything that does not fit.

Letters: B clips, T frames, H height, W width, K classes, P positions, D features.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_api.inference import open_inference_pb2 as pb
from tenclip_serving.runtimes import Clips
from tenclip_video.bundle import BundleInfo

CLIPS, VIDEO = "clips", "VIDEO"
# Input -> its outputs: uint8 clips as the network takes them, or one encoded file.
OUTPUTS: Mapping[str, tuple[str, ...]] = {
    CLIPS: ("logits", "features"),  # FP32 [B,K,P], [B,D]
    VIDEO: ("probabilities", "labels", "features"),  # FP32 [K], BYTES [K], FP32 [D]
}
# Little-endian, before every element of a raw BYTES tensor.
_LENGTH = struct.Struct("<I")
# Of inputs, outputs and requests. KServe's client says them by gRPC too, where only JSON over HTTP needs them.
_SIZE, _BINARY, BINARY_OUTPUTS = "binary_data_size", "binary_data", "binary_data_output"

Output = NDArray[np.float32] | Sequence[str]
T = TypeVar("T")


def single_input(request: pb.ModelInferRequest) -> tuple[pb.ModelInferRequest.InferInputTensor, bytes | None]:
    """The one input with its raw bytes; None where it has typed contents. Raises InvalidRequest."""
    names = [tensor.name for tensor in request.inputs]
    if len(names) != 1 or names[0] not in OUTPUTS:
        got = ", ".join(map(repr, names)) or "none"
        raise InvalidRequest(f"inputs: got {got}; send exactly one: '{CLIPS}' (UINT8 clips) or '{VIDEO}' (BYTES [1])")
    (tensor,) = request.inputs
    _no_extensions(tensor.parameters.keys() - {_SIZE}, f"input {tensor.name!r}")
    if len(request.raw_input_contents) > 1:
        raise InvalidRequest(f"raw_input_contents has {len(request.raw_input_contents)} tensors for 1 input")
    if request.raw_input_contents and tensor.HasField("contents"):
        raise InvalidRequest(f"input {tensor.name!r} has contents, and raw_input_contents too; send one of them")
    raw = request.raw_input_contents[0] if request.raw_input_contents else None
    if _SIZE in tensor.parameters:
        _check_size(tensor, raw)
    return tensor, raw


def _check_size(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> None:
    said, came = tensor.parameters[_SIZE].int64_param, 0 if raw is None else len(raw)
    if said != came:
        raise InvalidRequest(f"input {tensor.name!r} has the {_SIZE} {said}; its raw_input_contents have {came} bytes")


def read_clips(
    tensor: pb.ModelInferRequest.InferInputTensor,
    raw: bytes | None,
    info: BundleInfo,
    *,
    max_clips: int,
    max_clip_bytes: int,
) -> Clips:
    """uint8 [B,T,H,W,3] of a size that the model was made for. Raises InvalidRequest."""
    _check_type(tensor, "UINT8", "pixels of 0-255, not normalised")
    shape = tuple(tensor.shape)
    if shape[1:] not in (allowed := clip_shapes(info)) or shape[0] < 1:
        sizes = " or ".join(_shape("B", *sizes) for sizes in allowed)
        raise InvalidRequest(f"input '{CLIPS}' has shape {_shape(*shape)}; this model takes {sizes}")
    num_bytes = math.prod(shape)
    limit = max(1, min(max_clips, max_clip_bytes // math.prod(shape[1:])))
    if shape[0] > limit:
        raise InvalidRequest(
            f"input '{CLIPS}' has {shape[0]} clips, more than the {limit} that this server takes for this model "
            f"(max_clips, max_clip_mb)"
        )
    if raw is None:
        return _from_numbers(tensor.contents.uint_contents, num_bytes).reshape(shape)
    if len(raw) != num_bytes:
        raise InvalidRequest(
            f"input '{CLIPS}' has {len(raw)} bytes; UINT8 of shape {_shape(*shape)} is {num_bytes} bytes"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


def clip_shapes(info: BundleInfo) -> list[tuple[int, ...]]:
    """(T,H,W,3) pooled and, where the model has one, fully-convolutional. No other: each costs a runtime a plan."""
    spec = info.clip_spec
    sides = [spec.crop] if spec.fully_convolutional_crop is None else [spec.crop, spec.fully_convolutional_crop]
    return [(spec.num_frames, side, side, 3) for side in dict.fromkeys(sides)]


def read_video(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> bytes:
    """The encoded file in a BYTES tensor of one element. Raises InvalidRequest."""
    _check_type(tensor, "BYTES", "the encoded file itself")
    if tuple(tensor.shape) not in ((1,), (1, 1)):
        raise InvalidRequest(f"input '{VIDEO}' has shape {_shape(*tensor.shape)}; send one file, shape [1]")
    if raw is None:
        elements = tensor.contents.bytes_contents
        if len(elements) != 1:
            raise InvalidRequest(f"input '{VIDEO}' has {len(elements)} elements in bytes_contents; send one file")
        return elements[0]
    said = _LENGTH.unpack_from(raw)[0] if len(raw) >= _LENGTH.size else None
    if said is None or said != len(raw) - _LENGTH.size:
        raise InvalidRequest(
            f"input '{VIDEO}' has {len(raw)} raw bytes that begin with the length "
            f"{'(none)' if said is None else said}; an element of BYTES is its length as a little-endian uint32, then "
            "its bytes"
        )
    return raw[_LENGTH.size :]


def known_outputs(input_name: str, info: BundleInfo) -> tuple[str, ...]:
    """The outputs that a model gives for an input: features alone where it has no classifier."""
    return ("features",) if info.features_only else OUTPUTS[input_name]


def wanted_outputs(request: pb.ModelInferRequest, input_name: str, info: BundleInfo) -> tuple[str, ...]:
    """Names of the outputs to answer with, in the order asked for. Raises InvalidRequest."""
    known = known_outputs(input_name, info)
    for output in request.outputs:
        if output.name not in known:
            raise InvalidRequest(f"no output {output.name!r}; input '{input_name}' gives {', '.join(known)}")
        Parameters(output.parameters).boolean(_BINARY)  # either way they go raw
        _no_extensions(output.parameters.keys() - {_BINARY}, f"output {output.name!r}")
    return tuple(dict.fromkeys(output.name for output in request.outputs)) or known


def add_output(response: pb.ModelInferResponse, name: str, value: Output) -> None:
    """FP32 of any shape, or BYTES [n] of UTF-8 strings; raw, as Triton's clients expect it."""
    if isinstance(value, np.ndarray):
        response.outputs.add(name=name, datatype="FP32", shape=value.shape)
        response.raw_output_contents.append(np.ascontiguousarray(value, "<f4").tobytes())
        return
    encoded = [text.encode() for text in value]
    response.outputs.add(name=name, datatype="BYTES", shape=[len(encoded)])
    response.raw_output_contents.append(b"".join(_LENGTH.pack(len(text)) + text for text in encoded))


class Parameters:
    """The parameters of a request. Each is taken once; `close` raises InvalidRequest for those that nobody took."""

    def __init__(self, parameters: Mapping[str, pb.InferParameter]) -> None:
        self._values: dict[str, bool | int | float | str | None] = {
            name: _value(parameter) for name, parameter in parameters.items()
        }
        self._known: list[str] = []

    def text(self, name: str) -> str:
        """Empty where it is not there."""
        return self._take(name, str, "", lambda value: isinstance(value, str), "a string")

    def boolean(self, name: str) -> bool:
        return self._take(name, bool, False, lambda value: isinstance(value, bool), "true or false")

    def count(self, name: str) -> int:
        """0 where it is not there."""
        return self._take(
            name,
            int,
            0,
            lambda value: isinstance(value, int) and _is_number(value) and 1 <= value < 2**31,
            "a whole number of at least 1",
        )

    def number(self, name: str) -> float:
        """0 where it is not there. What the number must be is the core's to judge."""
        return self._take(name, float, 0.0, _is_number, "a number")

    def close(self) -> None:
        if self._values:
            names = ", ".join(sorted(self._values))
            raise InvalidRequest(f"unknown parameters: {names}; there are {', '.join(self._known)}")

    def _take(self, name: str, kind: Callable[..., T], default: T, fits: Callable[[object], bool], noun: str) -> T:
        self._known.append(name)
        if name not in self._values:
            return default
        value = self._values.pop(name)
        if not fits(value):
            raise InvalidRequest(f"parameter {name!r} must be {noun}, got {value!r}")
        return kind(value)


def _value(parameter: pb.InferParameter) -> bool | int | float | str | None:
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        return None
    value: bool | int | float | str = getattr(parameter, choice)
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_type(tensor: pb.ModelInferRequest.InferInputTensor, datatype: str, what: str) -> None:
    if tensor.datatype != datatype:
        raise InvalidRequest(f"input {tensor.name!r} is of type {tensor.datatype!r}; it must be {datatype}: {what}")


def _from_numbers(values: Sequence[int], num_values: int) -> NDArray[np.uint8]:
    if len(values) != num_values:
        raise InvalidRequest(
            f"input '{CLIPS}' has {len(values)} numbers in uint_contents; its shape calls for {num_values}"
        )
    array = np.asarray(values, np.uint32)
    if array.max() > 255:
        raise InvalidRequest(f"input '{CLIPS}' has the value {array.max()}; UINT8 ends at 255")
    return array.astype(np.uint8)


def _no_extensions(parameters: Iterable[str], where: str) -> None:
    """Refuse parameters that would change the answer and are not supported: shared memory, classification."""
    if names := sorted(parameters):
        raise InvalidRequest(f"{where} has parameters that this server has not: {', '.join(names)}")


def _shape(*sizes: object) -> str:
    return f"[{', '.join(map(str, sizes))}]"
