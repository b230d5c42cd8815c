"""The inputs of `tenclip bench --method infer`: which ones are sent, of what shape, and what is in them.

An input of type BYTES gets the encoded video; others get made-up numbers of their shape, the same in every request.
Source: KServe's "Open Inference Protocol", gRPC.
"""

from __future__ import annotations

import math
import random
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenclip_api.errors import InvalidRequest

if TYPE_CHECKING:
    from tenclip_api.inference import open_inference_pb2 as pb

# Type -> bytes of an element. Contents are random bytes for 8-bit types, from 0 to 1 for FP32 and FP64, else zeros.
_SIZES = dict.fromkeys(("BOOL", "UINT8", "INT8"), 1)
_SIZES |= dict.fromkeys(("UINT16", "INT16", "FP16", "BF16"), 2)
_SIZES |= dict.fromkeys(("UINT32", "INT32", "FP32"), 4)
_SIZES |= dict.fromkeys(("UINT64", "INT64", "FP64"), 8)
_MAX_BYTES = 2**31
# Type -> field of typed contents, and how `array` names an element. FP16 and BF16 have none: they are always raw.
_CONTENTS = {
    "BOOL": ("bool_contents", "B"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
}
_DECLARE = f"--input NAME:TYPE, with the type BYTES (gets the video), {', '.join(_SIZES)}"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input of a model. shape: -1 where any length is taken."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`NAME:1,16,112,112,3` -> {NAME: (1, 16, 112, 112, 3)}. Raises InvalidRequest."""
    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition(":")
        parts = sizes.split(",")
        if not name or not all(p.isascii() and p.isdigit() and int(p) > 0 for p in parts):
            raise InvalidRequest(f"shape {text!r}: write NAME:SIZE,SIZE,..., e.g. clips:1,16,112,112,3")
        shapes[name] = tuple(map(int, parts))
    return shapes


def choose_inputs(
    inputs: Sequence[Tensor], asked: Sequence[str], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> list[Tensor]:
    """Those asked for; else the only one of BYTES, for models that take a file or tensors; else all.

    asked: NAME, or NAME:TYPE, which declares an input of a model that names none. Raises InvalidRequest.
    """
    shapes = shapes or {}
    files = [tensor for tensor in inputs if tensor.datatype == "BYTES"]
    if asked:
        chosen = [_find_input(text, inputs) if inputs else _declare_input(text, shapes) for text in asked]
    else:
        chosen = files if len(files) == 1 else list(inputs)
    names = [tensor.name for tensor in chosen]
    if not chosen:
        raise InvalidRequest(f"the model names no inputs; say what it takes: {_DECLARE}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidRequest(f"input {twice[0]!r} is asked for twice")
    if unused := [name for name in shapes if name not in names]:
        raise InvalidRequest(f"--shape {unused[0]}: is of no input that is sent; those are {', '.join(names)}")
    if len([tensor for tensor in chosen if tensor.datatype == "BYTES"]) > 1:
        raise InvalidRequest(f"inputs {', '.join(names)}: at most one may be BYTES; name others")
    return chosen


def _find_input(text: str, inputs: Sequence[Tensor]) -> Tensor:
    """The input of the model that NAME or NAME:TYPE means. Names may have colons in them. Raises InvalidRequest."""
    known = {tensor.name: tensor for tensor in inputs}
    name, _, datatype = text.rpartition(":")
    if text in known:
        return known[text]
    if name in known:
        if known[name].datatype == datatype:
            return known[name]
        raise InvalidRequest(f"--input {text}: the model's input {name!r} is of type {known[name].datatype}")
    raise InvalidRequest(f"the model has no input {text!r}; it has {', '.join(known)}")


def _declare_input(text: str, shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
    """The input that NAME:TYPE declares, of the shape asked for; [1] for BYTES. Raises InvalidRequest."""
    name, _, datatype = text.rpartition(":")
    if not name or (datatype != "BYTES" and datatype not in _SIZES):
        raise InvalidRequest(f"--input {text}: the model names no inputs, so say the type, too: {_DECLARE}")
    if name not in shapes and datatype != "BYTES":
        raise InvalidRequest(f"input {name!r} is only declared; say its sizes: --shape {name}:...")
    return Tensor(name=name, datatype=datatype, shape=shapes.get(name, (1,)))


def settle_shape(tensor: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape to send: as asked for, or the model's own with a batch of 1. Raises InvalidRequest."""
    own = tensor.shape
    asked = shapes.get(tensor.name)
    if asked is None:
        settled = (1, *own[1:]) if own and own[0] < 0 else own
        if any(size < 0 for size in settled):
            raise InvalidRequest(
                f"input {tensor.name!r} has shape {list(own)}; say the sizes: --shape {tensor.name}:..."
            )
        return settled
    if len(asked) != len(own) or any(o >= 0 and o != a for o, a in zip(own, asked, strict=False)):
        raise InvalidRequest(f"input {tensor.name!r} has shape {list(own)}, which {list(asked)} does not fit")
    return asked


def make_contents(datatype: str, shape: Sequence[int], rng: random.Random) -> bytes:
    """Little-endian elements. Raises InvalidRequest for a type that has no size, and for more than 2 GiB."""
    count = math.prod(shape)
    if datatype not in _SIZES:
        raise InvalidRequest(f"inputs of type {datatype!r} cannot be made up; known are {', '.join(_SIZES)} and BYTES")
    if count * _SIZES[datatype] > _MAX_BYTES:
        raise InvalidRequest(f"a tensor of shape {list(shape)} takes {count * _SIZES[datatype]} bytes; at most 2 GiB")
    if datatype in ("UINT8", "INT8"):
        return rng.randbytes(count)
    if datatype in ("FP32", "FP64"):
        numbers = array("f" if datatype == "FP32" else "d", (rng.random() for _ in range(count)))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tobytes()
    return bytes(count * _SIZES[datatype])


def put_contents(request: pb.ModelInferRequest, index: int, data: bytes, *, raw: bool) -> None:
    """Give input `index` its elements: of BYTES the only one, else all, little-endian.

    raw: into raw_input_contents, which has a place for every input; else typed. Raises InvalidRequest for a type that
    can only be raw.
    """
    tensor = request.inputs[index]
    is_file = tensor.datatype == "BYTES"
    if raw:
        request.raw_input_contents[index] = struct.pack("<I", len(data)) + data if is_file else data
    elif is_file:
        tensor.contents.bytes_contents.append(data)
    elif tensor.datatype in _CONTENTS:
        field, code = _CONTENTS[tensor.datatype]
        numbers = array(code, data)
        if sys.byteorder == "big":
            numbers.byteswap()
        getattr(tensor.contents, field).extend(numbers)
    else:
        raise InvalidRequest(
            f"input {tensor.name!r}: {tensor.datatype} can only be sent as raw contents, which TorchServe does not "
            f"read; it takes BYTES, {', '.join(_CONTENTS)}"
        )
