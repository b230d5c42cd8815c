"""inference.GRPCInferenceService: the Open Inference Protocol, version 2, over the same engine.

A model has two inputs, of which a request has one:

    clips   UINT8 [B,T,H,W,3]   clips as the network takes them      -> logits FP32 [B,K,P], features FP32 [B,D]
    VIDEO   BYTES [1]           an encoded file, decoded here        -> probabilities FP32 [K], labels BYTES [K],
                                                                        features FP32 [D]

Parameters of a request with VIDEO: protocol, or num_clips, mode, start_seconds, end_seconds; adaptive, error_bound,
sampler (as in tenclip.v1); top_k (only so many probabilities and labels, the best first; else all, in the order of the
classes); name (for messages and the log).
Parameters of any request: timeout (microseconds), priority (ignored, as by Triton for a model without priorities),
binary_data_output (of REST; by gRPC outputs are always raw).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import grpc

from tenclip_api.errors import InvalidRequest, TenclipError
from tenclip_api.inference import open_inference_pb2 as pb
from tenclip_api.inference import open_inference_pb2_grpc
from tenclip_serving.api.convert import SERVER_VERSION
from tenclip_serving.api.tensors import (
    BINARY_OUTPUTS,
    CLIPS,
    VIDEO,
    Output,
    Parameters,
    add_output,
    read_clips,
    read_video,
    single_input,
    wanted_outputs,
)
from tenclip_serving.engine import Engine
from tenclip_serving.models.manager import ModelManager
from tenclip_serving.models.repository import ServedModel, version_key
from tenclip_serving.models.statistics import Duration
from tenclip_serving.requests import ClipRequest, Recognition, RecognitionRequest
from tenclip_serving.telemetry.logs import REQUEST_ID, log
from tenclip_video.aggregate import top_classes
from tenclip_video.sampling import SelectionMode

INFERENCE = "inference.GRPCInferenceService"
EXTENSIONS = ("model_repository", "model_configuration", "statistics", "parameters")
# Requests of one stream that are worked on at once; the next is read when one of them is answered.
STREAM_DEPTH = 8
MODES: tuple[SelectionMode, ...] = ("uniform", "center", "windows", "salient")
_FINAL = "triton_final_response"

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Parameters of a request. `top_k` 0: all classes. `seconds`: its own limit."""

    clips: ClipRequest
    protocol: str
    name: str
    top_k: int
    seconds: float | None
    mark_final: bool


class OpenInference(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Errors are raised as they are; the interceptor turns them into status codes.

    manager: raises PermissionDenied where models may not be changed. is_ready: the server is not stopping. working:
    entered for each request of a stream, which is open also while nothing is asked.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        manager: Callable[[], ModelManager],
        is_ready: Callable[[], bool],
        working: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._engine = engine
        self._manager = manager
        self._is_ready = is_ready
        self._working = working

    # -- health and metadata ------------------------------------------------------------------------------------------

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:  # noqa: N802
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:  # noqa: N802
        return pb.ServerReadyResponse(ready=self._is_ready() and len(self._engine.repository) > 0)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:  # noqa: N802
        try:
            self._engine.repository.get(request.name, request.version)
        except TenclipError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._is_ready())

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="tenclip", version=SERVER_VERSION, extensions=EXTENSIONS)

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        repository = self._engine.repository
        model = repository.get(request.name, request.version)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        types = {pb.TYPE_UINT8: "UINT8", pb.TYPE_FP32: "FP32", pb.TYPE_STRING: "BYTES"}
        config = model_config(model)
        return pb.ModelMetadataResponse(
            name=model.name,
            versions=sorted(repository.models[model.name], key=version_key),
            platform=config.platform,
            inputs=[tensor(name=t.name, datatype=types[t.data_type], shape=t.dims) for t in config.input],
            outputs=[tensor(name=t.name, datatype=types[t.data_type], shape=t.dims) for t in config.output],
        )

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:  # noqa: N802
        return pb.ModelConfigResponse(config=model_config(self._engine.repository.get(request.name, request.version)))

    # -- inference ----------------------------------------------------------------------------------------------------

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:  # noqa: N802
        answer = self._infer(request, context.time_remaining())
        del request  # and its tensors with it
        return await answer

    async def ModelStreamInfer(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        # Tasks in the order of their requests, then how the stream ends. With the one whose answer is awaited and the
        # one that waits for room there are STREAM_DEPTH at most.
        answers: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | Exception | None]
        answers = asyncio.Queue(STREAM_DEPTH - 2)
        tasks: set[asyncio.Task[Any]] = set()

        async def read() -> None:
            end = None
            try:
                async for request in request_iterator:
                    task = asyncio.create_task(self._answer(request, context))
                    del request
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    await answers.put(task)
            except Exception as err:  # a message that is none
                end = err
            await answers.put(end)

        reader = asyncio.create_task(read())
        try:
            while (answer := await answers.get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                yield await answer
        finally:
            for task in (reader, *tasks):
                task.cancel()
            await asyncio.gather(reader, *tasks, return_exceptions=True)

    async def _answer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelStreamInferResponse:
        """One answer of a stream; a failure is one, too."""
        failed = pb.ModelInferResponse(
            model_name=request.model_name, model_version=request.model_version, id=request.id
        )
        answer = self._infer(request, context.time_remaining())
        del request  # and its tensors with it
        try:
            with self._working():
                return pb.ModelStreamInferResponse(infer_response=await answer)
        except TenclipError as err:
            message = err.message
        except Exception:
            log(logging.ERROR, "internal error", exc_info=True, method="ModelStreamInfer")
            message = f"internal error, request id {REQUEST_ID.get()}"
        return pb.ModelStreamInferResponse(error_message=message, infer_response=failed)

    async def _infer(self, request: pb.ModelInferRequest, seconds_left: float | None) -> pb.ModelInferResponse:
        model = self._engine.repository.get(request.model_name, request.model_version)
        tensor, raw = single_input(request)
        asked = _asked(request, video=tensor.name == VIDEO)
        wanted = wanted_outputs(request, tensor.name, model.bundle.info)
        limits = [s for s in (seconds_left, asked.seconds) if s is not None]
        seconds = min(limits, default=None)
        response = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
        response.parameters["request_id"].string_param = REQUEST_ID.get()
        response.parameters["runtime"].string_param = model.runtime.name
        outputs: dict[str, Output]
        # Each keeps its own copy of the video or the clips alone: what they came in is let go.
        del request
        if tensor.name == CLIPS:
            config = self._engine.config
            clips = read_clips(
                tensor, raw, model.bundle.info, max_clips=config.max_clips, max_clip_bytes=config.max_clip_mb << 20
            )
            del tensor, raw
            answer = await self._engine.infer_clips(model, clips, seconds_left=seconds)
            outputs = {"logits": answer.logits, "features": answer.features}
        else:
            recognizing = self._engine.recognize(
                RecognitionRequest(
                    data=read_video(tensor, raw),
                    name=asked.name,
                    model=model.name,
                    version=model.version,
                    clips=asked.clips,
                    protocol=asked.protocol,
                ),
                seconds_left=seconds,
            )
            del tensor, raw
            result = await recognizing
            _describe_clips(response, result)
            outputs = video_outputs(result, asked.top_k)
        for name in wanted:
            add_output(response, name, outputs[name])
        if asked.mark_final:
            response.parameters[_FINAL].bool_param = True
        return response

    # -- statistics and the repository --------------------------------------------------------------------------------

    async def ModelStatistics(  # noqa: N802
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        repository = self._engine.repository
        models = list(repository)
        if request.name:
            repository.get(request.name, request.version)  # raises for what is not there
            models = [m for m in models if m.name == request.name and request.version in ("", m.version)]
        return pb.ModelStatisticsResponse(model_stats=[self._statistics(model) for model in models])

    def _statistics(self, model: ServedModel) -> pb.ModelStatistics:
        counted = self._engine.statistics.of(model.name, model.version)

        def stage(*names: str) -> pb.StatisticDuration:
            parts = [counted.stages.get(name, Duration()) for name in names]
            return _duration(Duration(parts[0].count, sum(part.seconds for part in parts)))

        return pb.ModelStatistics(
            name=model.name,
            version=model.version,
            last_inference=round(1000 * counted.last_unix_seconds),
            inference_count=counted.num_clips,
            execution_count=counted.success.count,
            inference_stats=pb.InferStatistics(
                success=_duration(counted.success),
                fail=_duration(counted.failure),
                queue=stage("queue"),
                compute_input=stage("decode", "preprocess", "score"),
                compute_infer=stage("infer"),
                compute_output=stage("aggregate"),
            ),
        )

    async def RepositoryIndex(  # noqa: N802
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        repository = self._engine.repository
        index = pb.RepositoryIndexResponse()
        for model in repository:
            failure = repository.failure(model.name, model.version)
            reason = "" if failure is None else f"an older copy; what is on disk now failed to load: {failure.error}"
            index.models.add(name=model.name, version=model.version, state="READY", reason=reason)
        if request.ready:
            return index
        served = {(m.name, m.version) for m in repository}
        for f in repository.failed:
            if (f.name, f.version) not in served:
                index.models.add(name=f.name, version=f.version, state="UNAVAILABLE", reason=f.error)
        for name, version in sorted(repository.unloaded):
            index.models.add(name=name, version=version, state="UNAVAILABLE", reason="unloaded")
        return index

    async def RepositoryModelLoad(  # noqa: N802
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        manager = self._manager()
        if request.parameters:
            raise InvalidRequest(
                f"parameters {', '.join(sorted(request.parameters))}: models are loaded as they are on this server's "
                "disk; their configuration and files cannot be sent"
            )
        await manager.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(  # noqa: N802
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        manager = self._manager()
        # Its one parameter is unload_dependents, and no model here depends on another.
        await manager.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()


def model_config(model: ServedModel) -> pb.ModelConfig:
    """The model's configuration in Triton's form. Dims begin with the batch."""
    info = model.bundle.info
    # With VIDEO features come without the batch.
    features = pb.ModelOutput(name="features", data_type=pb.TYPE_FP32, dims=[-1, info.feature_dim])
    predictions = [
        pb.ModelOutput(name="logits", data_type=pb.TYPE_FP32, dims=[-1, info.num_classes, -1]),
        features,
        pb.ModelOutput(name="probabilities", data_type=pb.TYPE_FP32, dims=[-1]),
        pb.ModelOutput(name="labels", data_type=pb.TYPE_STRING, dims=[-1]),
    ]
    return pb.ModelConfig(
        name=model.name,
        platform=f"tenclip_{model.runtime.name}",
        backend="tenclip",
        max_batch_size=0,
        input=[
            pb.ModelInput(
                name=CLIPS,
                data_type=pb.TYPE_UINT8,
                dims=[-1, info.clip_spec.num_frames, -1, -1, 3],
                optional=True,
            ),
            pb.ModelInput(name=VIDEO, data_type=pb.TYPE_STRING, dims=[1], optional=True),
        ],
        output=[features] if info.features_only else predictions,
    )


def video_outputs(result: Recognition, top_k: int) -> dict[str, Output]:
    """All classes in their order, or the best `top_k`, the best first; labels[i] is of probabilities[i]."""
    probabilities, labels = result.probabilities, list(result.labels)
    if top_k:
        best = [s.index for s in top_classes(probabilities, labels, min(top_k, len(labels)))]
        probabilities, labels = probabilities[best], [labels[i] for i in best]
    return {"probabilities": probabilities, "labels": labels, "features": result.features}


def _describe_clips(response: pb.ModelInferResponse, result: Recognition) -> None:
    """What chose the clips and, where that was adaptive, how many of them ran: parameters of the response."""
    response.parameters["protocol"].string_param = result.protocol
    if result.timeline is not None:
        response.parameters["scorer"].string_param = result.timeline.scorer
    if (report := result.adaptive) is not None:
        response.parameters["clips_planned"].int64_param = report.clips_planned
        response.parameters["clips_used"].int64_param = report.clips_used
        response.parameters["settled"].bool_param = report.settled
        response.parameters["error_bound"].double_param = report.error_bound


def _asked(request: pb.ModelInferRequest, *, video: bool) -> _Asked:
    """Raises InvalidRequest for parameters of the wrong type, unknown ones, and those of VIDEO with clips."""
    parameters = Parameters(request.parameters)
    timeout_microseconds, mark_final = (
        parameters.count("timeout"),
        parameters.boolean("triton_enable_empty_final_response"),
    )
    parameters.count("priority")
    parameters.boolean(BINARY_OUTPUTS)  # either way they go raw
    asked = _Asked(
        clips=ClipRequest(),
        protocol="",
        name="",
        top_k=0,
        seconds=timeout_microseconds / 1e6 if timeout_microseconds else None,
        mark_final=mark_final,
    )
    if video:
        asked = replace(
            asked,
            clips=ClipRequest(
                mode=_mode(parameters.text("mode")),
                num_clips=parameters.count("num_clips"),
                start_seconds=parameters.number("start_seconds"),
                end_seconds=parameters.number("end_seconds"),
                adaptive=parameters.boolean("adaptive"),
                error_bound=parameters.number("error_bound"),
                sampler=parameters.text("sampler"),
            ),
            protocol=parameters.text("protocol"),
            name=parameters.text("name"),
            top_k=parameters.count("top_k"),
        )
    parameters.close()
    return asked


def _mode(name: str) -> SelectionMode | None:
    for mode in MODES:
        if name == mode:
            return mode
    if name:
        raise InvalidRequest(f"parameter 'mode' is {name!r}; it must be one of {', '.join(MODES)}")
    return None


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=round(1e9 * duration.seconds))
