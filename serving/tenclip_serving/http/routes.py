"""Every route: what it is called, which RPC it stands for, what it takes and answers. `app` and `openapi` read this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from google.protobuf.message import Message

from tenclip_api.inference import open_inference_pb2 as v2
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api.open_inference import INFERENCE
from tenclip_serving.api.servicer import SERVICE
from tenclip_serving.http.call import JSON, NDJSON, NPY
from tenclip_serving.http.options import AnyRequest

HEALTH, REFLECTION = "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"
_BYTES = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One route.

    handler: the name of its function in `app`. service, method: the RPC that it stands for, see `Endpoint`.
    answers: a media type -> a message, or words for what else it is. takes: a video with the options of `request`,
    tensors, a JSON object that may be left out, or nothing. gated, quiet: see `Endpoint`. unready: 503
    is an answer, too.
    """

    path: str
    handler: str
    service: str
    method: str
    summary: str
    answers: Mapping[str, type[Message] | str]
    verb: Literal["GET", "POST"] = "GET"
    takes: Literal["video", "tensors", "object", ""] = ""
    request: type[AnyRequest] | None = None
    gated: bool = False
    quiet: bool = False
    unready: bool = False

    @property
    def rpc(self) -> str:
        return f"/{self.service}/{self.method}"

    @property
    def is_v2(self) -> bool:
        return self.path.startswith("/v2")


_v1 = partial(Operation, service=SERVICE)
_v2 = partial(Operation, service=INFERENCE)
_MODEL, _VERSION = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
_Answer = type[Message] | str


def _of_both(method: str, handler: str, suffix: str, summary: str, answer: _Answer, **more: bool) -> list[Operation]:
    """A route of the default version, and one of a version by its name."""
    of_version = f"{summary}, of one version"
    paths = ((f"{_MODEL}{suffix}", summary), (f"{_VERSION}{suffix}", of_version))
    return [
        _v2(path=path, handler=handler, method=method, summary=said, answers={JSON: answer}, unready="unready" in more)
        for path, said in paths
    ]


def _infer(path: str, summary: str) -> Operation:
    answers: dict[str, _Answer] = {JSON: "response", _BYTES: "JSON, and binary tensors behind it"}
    return _v2(
        path=path,
        verb="POST",
        handler="infer",
        method="ModelInfer",
        summary=summary,
        answers=answers,
        takes="tensors",
        gated=True,
    )


def _repository(action: str, method: str, answer: _Answer) -> Operation:
    summary = f"{action.capitalize()} a model"
    path = f"/v2/repository/models/{{name}}/{action}"
    return _v2(
        path=path, verb="POST", handler=action, method=method, summary=summary, answers={JSON: answer}, takes="object"
    )


OPERATIONS: tuple[Operation, ...] = (
    _v1(
        path="/v1/predict",
        verb="POST",
        handler="predict",
        method="Predict",
        summary="Class scores for one video; with Accept: application/x-ndjson, each clip as soon as it has run",
        answers={JSON: pb.PredictResponse, NDJSON: "a PredictUpdate on each line"},
        takes="video",
        request=pb.PredictRequest,
        gated=True,
    ),
    _v1(
        path="/v1/features",
        verb="POST",
        handler="features",
        method="ExtractFeatures",
        summary="Features of every clip and of the video; with Accept: application/x-npy, of the clips as an array",
        answers={JSON: pb.ExtractFeaturesResponse, NPY: "float32 [clips, features] in the format of numpy"},
        takes="video",
        request=pb.ExtractFeaturesRequest,
        gated=True,
    ),
    _v1(
        path="/v1/models",
        handler="list_models",
        method="ListModels",
        summary="The models that are served, and those that could not be",
        answers={JSON: pb.ListModelsResponse},
    ),
    _v1(
        path="/v1/models/{name}",
        handler="get_model",
        method="GetModel",
        summary="The default version of a model, with its labels and its bundle",
        answers={JSON: pb.Model},
    ),
    _v1(
        path="/v1/models/{name}/versions/{version}",
        handler="get_model",
        method="GetModel",
        summary="One version of a model, with its labels and its bundle",
        answers={JSON: pb.Model},
    ),
    _v2(
        path="/v2",
        handler="server_metadata",
        method="ServerMetadata",
        summary="Name, version and extensions of the server",
        answers={JSON: v2.ServerMetadataResponse},
    ),
    _v2(
        path="/v2/health/live",
        handler="live",
        method="ServerLive",
        summary="The server is up",
        answers={JSON: v2.ServerLiveResponse},
        quiet=True,
    ),
    _v2(
        path="/v2/health/ready",
        handler="ready",
        method="ServerReady",
        summary="The server takes requests",
        answers={JSON: v2.ServerReadyResponse},
        quiet=True,
        unready=True,
    ),
    _v2(
        path="/v2/models/stats",
        handler="statistics",
        method="ModelStatistics",
        summary="Counts and times of every model",
        answers={JSON: v2.ModelStatisticsResponse},
    ),
    *_of_both("ModelMetadata", "model_metadata", "", "Inputs and outputs of a model", v2.ModelMetadataResponse),
    *_of_both("ModelReady", "model_ready", "/ready", "The model is served", "name and ready", unready=True),
    *_of_both("ModelConfig", "model_config", "/config", "The model's configuration in Triton's form", v2.ModelConfig),
    *_of_both("ModelStatistics", "statistics", "/stats", "Counts and times of a model", v2.ModelStatisticsResponse),
    _infer(f"{_MODEL}/infer", "Outputs of the network for clips, or of a whole video"),
    _infer(f"{_VERSION}/infer", "Outputs of the network for clips, or of a whole video, of one version"),
    _v2(
        path="/v2/repository/index",
        verb="POST",
        handler="index",
        method="RepositoryIndex",
        summary="Models by name, version and state",
        answers={JSON: "models"},
        takes="object",
    ),
    _repository("load", "RepositoryModelLoad", v2.RepositoryModelLoadResponse),
    _repository("unload", "RepositoryModelUnload", v2.RepositoryModelUnloadResponse),
    Operation(
        path="/healthz",
        handler="live",
        service=HEALTH,
        method="Check",
        summary="The server is up",
        answers={JSON: v2.ServerLiveResponse},
        quiet=True,
    ),
    Operation(
        path="/readyz",
        handler="ready",
        service=HEALTH,
        method="Check",
        summary="The server takes requests: some model is served, and it is not stopping",
        answers={JSON: v2.ServerReadyResponse},
        quiet=True,
        unready=True,
    ),
)
