"""Requests of the Open Inference Protocol v2, for `tenclip bench --method infer`: any server that speaks it.

What a model takes is read from its metadata. An input of type BYTES gets the encoded video; others get made-up numbers
of their shape, the same in every request. Source: KServe's "Open Inference Protocol", gRPC.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from tenclip_api.errors import InvalidRequest

if TYPE_CHECKING:
    from tenclip_client._aio import AsyncClient
    from tenclip_client._load import Answer, LoadVideo, Send

# Type -> bytes of an element. Contents are random bytes for 8-bit types, from 0 to 1 for FP32 and FP64, else zeros.
_SIZES = dict.fromkeys(("BOOL", "UINT8", "INT8"), 1)
_SIZES |= dict.fromkeys(("UINT16", "INT16", "FP16", "BF16"), 2)
_SIZES |= dict.fromkeys(("UINT32", "INT32", "FP32"), 4)
_SIZES |= dict.fromkeys(("UINT64", "INT64", "FP64"), 8)
_MAX_BYTES = 2**31


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


def choose_inputs(inputs: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    """Those named; else the only one of BYTES, for models that take a file or tensors; else all.

    Raises InvalidRequest.
    """
    known = {tensor.name: tensor for tensor in inputs}
    if unknown := [name for name in names if name not in known]:
        raise InvalidRequest(f"the model has no input {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    files = [tensor for tensor in inputs if tensor.datatype == "BYTES"]
    chosen = [known[name] for name in names] or (files if len(files) == 1 else list(inputs))
    if len([tensor for tensor in chosen if tensor.datatype == "BYTES"]) > 1:
        raise InvalidRequest(f"inputs {', '.join(t.name for t in chosen)}: at most one may be BYTES; name others")
    return chosen


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


async def infer_sender(
    clients: Sequence[AsyncClient],
    model: str,
    *,
    inputs: Sequence[str] = (),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    deadline: float | None = None,
    files: bool,
) -> Send:
    """A function that sends a video, or made-up tensors, over the clients in turn.

    model: NAME or NAME:VERSION. files: whether there are videos to send. Raises InvalidRequest, and what the server
    answers where it has no such model.
    """
    from tenclip_api.inference import open_inference_pb2 as pb
    from tenclip_api.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
    from tenclip_client._load import Answer
    from tenclip_client._waits import await_rpc

    if not model:
        raise InvalidRequest("--method infer: say which model, --model NAME or NAME:VERSION")
    name, _, version = model.partition(":")
    stubs: list[tuple[AsyncClient, Any]] = [(c, GRPCInferenceServiceStub(c._channel(uploads=False))) for c in clients]

    async def call(client: AsyncClient, method: Any, request: Any, source: str) -> Any:
        try:
            rpc = method(request, **client._settings(deadline))
            return await await_rpc(rpc, rpc)
        except grpc.RpcError as err:
            raise client._error(err, source, deadline) from err

    client, stub = stubs[0]
    asked = pb.ModelMetadataRequest(name=name, version=version)
    found = await call(client, stub.ModelMetadata, asked, "")
    known = [Tensor(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in found.inputs]
    chosen = choose_inputs(known, inputs)
    takes_file = any(tensor.datatype == "BYTES" for tensor in chosen)
    if takes_file is not files:
        have = ", ".join(f"{t.name} ({t.datatype})" for t in chosen)
        what = "takes a video: name some" if takes_file else "takes no video, so name none"
        raise InvalidRequest(f"model {model!r} with the inputs {have} {what}")
    template, rng, num_clips = pb.ModelInferRequest(model_name=name, model_version=version), random.Random(seed), 1
    for tensor in chosen:
        is_file = tensor.datatype == "BYTES"
        shape = (1,) * len(tensor.shape) if is_file else settle_shape(tensor, shapes or {})
        template.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        template.raw_input_contents.append(b"" if is_file else make_contents(tensor.datatype, shape, rng))
        num_clips = num_clips if is_file else shape[0]
    place = next((i for i, tensor in enumerate(chosen) if tensor.datatype == "BYTES"), None)
    turns = itertools.cycle(stubs)
    described = f"{found.name}:{version or ','.join(found.versions)} on {found.platform or 'v2'}"

    async def send(video: LoadVideo) -> Answer:
        request = template
        if place is not None:
            assert isinstance(video.data, bytes)
            request = pb.ModelInferRequest()
            request.CopyFrom(template)
            request.raw_input_contents[place] = struct.pack("<I", len(video.data)) + video.data
        client, stub = next(turns)
        await call(client, stub.ModelInfer, request, video.name)
        return Answer(num_clips=num_clips, stage_seconds={}, model=described)

    return send
