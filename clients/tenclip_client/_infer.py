"""Requests of the Open Inference Protocol v2, for `tenclip bench --method infer`: any server that speaks it.

What a model takes is read from its metadata, or declared where that names no inputs. TorchServe has the protocol's
service and messages in a package of its own, names no inputs, and reads only typed contents, never raw ones. Sources:
KServe's "Open Inference Protocol", gRPC; TorchServe's open_inference_grpc.proto and OpenInferenceProtocolImpl.java.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from tenclip_api.errors import InvalidRequest, ServerError
from tenclip_client._infer_tensors import Tensor, choose_inputs, make_contents, put_contents, settle_shape

if TYPE_CHECKING:
    from tenclip_api.inference import open_inference_pb2 as pb
    from tenclip_client._aio import AsyncClient
    from tenclip_client._load import Answer, LoadVideo, Send


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a server speaks the protocol. service: the full name of its gRPC service. raw: it reads raw contents."""

    service: str
    platform: str
    raw: bool


# Tried in this order.
DIALECTS = (
    Dialect(service="inference.GRPCInferenceService", platform="v2", raw=True),
    Dialect(service="org.pytorch.serve.grpc.openinference.GRPCInferenceService", platform="TorchServe", raw=False),
)


class InferClient:
    """Calls of the protocol over a client's channel. Errors are the client's own, of `tenclip_api.errors`."""

    def __init__(self, client: AsyncClient, deadline: float | None, dialect: Dialect) -> None:
        from tenclip_api.inference import open_inference_pb2 as pb

        self._client = client
        self._deadline = deadline
        channel, service = client._channel(uploads=False), dialect.service
        self._metadata = channel.unary_unary(
            f"/{service}/ModelMetadata",
            request_serializer=pb.ModelMetadataRequest.SerializeToString,
            response_deserializer=pb.ModelMetadataResponse.FromString,
        )
        self._infer = channel.unary_unary(
            f"/{service}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        found: pb.ModelMetadataResponse = await self._call(self._metadata, request, "")
        return found

    async def model_infer(self, request: pb.ModelInferRequest, source: str) -> pb.ModelInferResponse:
        """source: the video as the caller named it."""
        found: pb.ModelInferResponse = await self._call(self._infer, request, source)
        return found

    async def _call(self, method: Any, request: Any, source: str) -> Any:
        from tenclip_client._waits import await_rpc

        try:
            rpc = method(request, **self._client._settings(self._deadline))
            return await await_rpc(rpc, rpc)
        except grpc.RpcError as err:
            raise self._client._error(err, source, self._deadline) from err


async def find_dialect(
    client: AsyncClient, deadline: float | None, request: pb.ModelMetadataRequest
) -> tuple[Dialect, pb.ModelMetadataResponse]:
    """How the server speaks the protocol, and what it says of the model. Raises ServerError where it does not."""
    from tenclip_client._errors import is_unimplemented

    for dialect in DIALECTS:
        try:
            return dialect, await InferClient(client, deadline, dialect).model_metadata(request)
        except ServerError as err:
            if not is_unimplemented(err.__cause__):
                raise
    raise ServerError(
        f"{client.target}: does not speak the Open Inference Protocol by gRPC: it has ModelMetadata in none of the "
        f"services {', '.join(d.service for d in DIALECTS)}. TorchServe has it at its grpc_inference_port, with "
        "ts_open_inference_protocol=true in its config.properties"
    )


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

    model: NAME or NAME:VERSION. inputs: NAME, or NAME:TYPE for a model whose metadata names none. files: whether there
    are videos to send. Raises InvalidRequest, and what the server answers where it has no such model.
    """
    from tenclip_api.inference import open_inference_pb2 as pb
    from tenclip_client._load import Answer

    if not model:
        raise InvalidRequest("--method infer: say which model, --model NAME or NAME:VERSION")
    name, _, version = model.partition(":")
    asked = pb.ModelMetadataRequest(name=name, version=version)
    dialect, found = await find_dialect(clients[0], deadline, asked)
    known = [Tensor(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in found.inputs]
    chosen = choose_inputs(known, inputs, shapes)
    takes_file = any(tensor.datatype == "BYTES" for tensor in chosen)
    if takes_file is not files:
        have = ", ".join(f"{t.name} ({t.datatype})" for t in chosen)
        what = "takes a video: name some" if takes_file else "takes no video, so name none"
        raise InvalidRequest(f"model {model!r} with the inputs {have} {what}")
    # What is not the video is the same in every request, so it is made once.
    template, rng, num_clips = pb.ModelInferRequest(model_name=name, model_version=version), random.Random(seed), 1
    for tensor in chosen:
        is_file = tensor.datatype == "BYTES"
        shape = (1,) * len(tensor.shape) if is_file else settle_shape(tensor, shapes or {})
        template.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        num_clips = num_clips if is_file or not shape else shape[0]
    if dialect.raw:
        template.raw_input_contents.extend([b""] * len(chosen))
    for index, tensor in enumerate(chosen):
        if tensor.datatype != "BYTES":
            contents = make_contents(tensor.datatype, template.inputs[index].shape, rng)
            put_contents(template, index, contents, raw=dialect.raw)
    place = next((i for i, tensor in enumerate(chosen) if tensor.datatype == "BYTES"), None)
    turns = itertools.cycle([InferClient(client, deadline, dialect) for client in clients])
    described = f"{found.name}:{version or ','.join(found.versions)} on {found.platform or dialect.platform}"

    async def send(video: LoadVideo) -> Answer:
        request = template
        if place is not None:
            assert isinstance(video.data, bytes)
            request = pb.ModelInferRequest()
            request.CopyFrom(template)
            put_contents(request, place, video.data, raw=dialect.raw)
        await next(turns).model_infer(request, video.name)
        return Answer(num_clips=num_clips, stage_seconds={}, model=described)

    return send
