"""tenclip.v1.VideoRecognition: protobuf -> dataclass -> core -> dataclass -> protobuf, and nothing else."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, NoClassifier
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_serving.engine import Engine
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.requests import (
    ClipRequest,
    ClipResult,
    Recognition,
    RecognitionRequest,
    RecognizedClip,
    SpatialMode,
    Upload,
)
from tenclip_serving.resolve_protocol import supported_protocols
from tenclip_serving.telemetry.logs import REQUEST_ID
from tenclip_video.aggregate import ClassScore, top_classes
from tenclip_video.salience import SalienceTimeline
from tenclip_video.sampling import SelectionMode

SERVICE = "tenclip.v1.VideoRecognition"
SERVER_VERSION = importlib.metadata.version("tenclip")
DEFAULT_TOP_K = 5
# So many clips become protobuf in less time than it takes to hand them to a thread.
_FEW_CLIPS = 20

_MODES: dict[int, SelectionMode | None] = {
    pb.CLIP_MODE_UNSPECIFIED: None,
    pb.UNIFORM: "uniform",
    pb.CENTER: "center",
    pb.WINDOWS: "windows",
    pb.SALIENT: "salient",
}
_SPATIAL_MODES: dict[int, SpatialMode | None] = {
    pb.SPATIAL_MODE_UNSPECIFIED: None,
    pb.POOLED: "pooled",
    pb.FULLY_CONVOLUTIONAL: "fully_convolutional",
}

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
T = TypeVar("T")


class VideoRecognition(tenclip_pb2_grpc.VideoRecognitionServicer):
    """Errors are raised as they are; the interceptor turns them into status codes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:  # noqa: N802
        self._require_classifier(request.model)
        answer = self._engine.recognize(
            recognition_request(request, timeline=request.include_timeline), seconds_left=context.time_remaining()
        )
        request = _without_video(request)
        return await self._predicted(request, await answer)

    async def ExtractFeatures(  # noqa: N802
        self, request: pb.ExtractFeaturesRequest, context: Context
    ) -> pb.ExtractFeaturesResponse:
        answer = self._engine.recognize(recognition_request(request), seconds_left=context.time_remaining())
        del request
        result = await answer
        return await self._build(result, lambda: features_response(result))

    async def PredictStream(  # noqa: N802
        self, request: pb.PredictRequest, context: Context
    ) -> AsyncGenerator[pb.PredictUpdate, None]:
        self._require_classifier(request.model)
        results = self._engine.recognize_stream(
            recognition_request(request, timeline=request.include_timeline), seconds_left=context.time_remaining()
        )
        request = _without_video(request)
        async with aclosing(self._updates(request, results)) as updates:
            async for update in updates:
                yield update

    async def PredictUploadStream(  # noqa: N802
        self, requests: AsyncIterator[pb.PredictUploadRequest], context: Context
    ) -> AsyncGenerator[pb.PredictUpdate, None]:
        request: pb.PredictRequest
        request, upload = await _upload(requests)
        self._require_classifier(request.model)
        asked = recognition_request(request, timeline=request.include_timeline, upload=upload)
        results = self._engine.recognize_stream(asked, seconds_left=context.time_remaining())
        async with aclosing(self._updates(request, results)) as updates:
            async for update in updates:
                yield update

    async def _updates(
        self, request: pb.PredictRequest, results: AsyncGenerator[ClipResult | Recognition, None]
    ) -> AsyncGenerator[pb.PredictUpdate, None]:
        """When it is closed, by a caller who has seen enough, the clips that are left are not run."""
        async with aclosing(results):
            async for result in results:
                if isinstance(result, ClipResult):
                    yield pb.PredictUpdate(clip=clip_update(request, result))
                else:
                    yield pb.PredictUpdate(result=await self._predicted(request, result))

    async def PredictUpload(  # noqa: N802
        self, requests: AsyncIterator[pb.PredictUploadRequest], context: Context
    ) -> pb.PredictResponse:
        request: pb.PredictRequest
        request, upload = await _upload(requests)
        self._require_classifier(request.model)
        asked = recognition_request(request, timeline=request.include_timeline, upload=upload)
        result = await self._engine.recognize(asked, seconds_left=context.time_remaining())
        return await self._predicted(request, result)

    async def ExtractFeaturesUpload(  # noqa: N802
        self, requests: AsyncIterator[pb.ExtractFeaturesUploadRequest], context: Context
    ) -> pb.ExtractFeaturesResponse:
        request: pb.ExtractFeaturesRequest
        request, upload = await _upload(requests)
        asked = recognition_request(request, upload=upload)
        result = await self._engine.recognize(asked, seconds_left=context.time_remaining())
        return await self._build(result, lambda: features_response(result))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        repository = self._engine.repository
        failed = [pb.FailedModel(name=f.name, version=f.version, error=f.error) for f in repository.failed]
        return pb.ListModelsResponse(models=[_model(m, repository) for m in repository], failed=failed)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: N802
        repository = self._engine.repository
        served = repository.get(request.model.name, request.model.version)
        model = _model(served, repository)
        model.labels.extend(served.bundle.labels)
        model.bundle_json = json.dumps(served.bundle.info.to_dict())
        return pb.GetModelResponse(model=model)

    def _require_classifier(self, model: pb.ModelRef) -> None:
        """Raises NoClassifier for a model with features only, ModelNotFound or VersionNotFound for none."""
        served = self._engine.repository.get(model.name, model.version)
        if served.bundle.info.features_only:
            raise NoClassifier(
                f"model {served.name}/{served.version} has no classifier, so it predicts nothing; ask it for features "
                "(ExtractFeatures, `tenclip features`)"
            )

    async def _predicted(self, request: pb.PredictRequest, result: Recognition) -> pb.PredictResponse:
        return await self._build(result, lambda: predict_response(request, result))

    async def _build(self, result: Recognition, build: Callable[[], T]) -> T:
        """The response; off the event loop where it is large, for building it would hold up everyone."""
        if len(result.clips) <= _FEW_CLIPS:
            return build()
        return await self._engine.threads.answers.run(build)


async def _upload(requests: AsyncIterator[Any]) -> tuple[Any, Upload]:
    """(request, the pieces that follow it) of either kind of upload. Raises InvalidRequest for another order."""
    first = await anext(requests, None)
    if first is None or first.WhichOneof("part") != "request":
        raise InvalidRequest("the first message of an upload must be its request; the pieces of the file follow it")
    if source := first.request.video.WhichOneof("source"):
        raise InvalidRequest(f"the video of an upload comes in pieces, so video.{source} must not be set")
    return first.request, Upload(chunks=_chunks(requests), num_bytes=first.num_bytes)


async def _chunks(requests: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for message in requests:
        if message.WhichOneof("part") != "chunk":
            raise InvalidRequest("after its request an upload has pieces of the file only (chunk)")
        yield message.chunk


def _without_video(request: pb.PredictRequest) -> pb.PredictRequest:
    """What the answer needs of the request, so that nothing keeps the video in memory till then."""
    fields = {field.name: value for field, value in request.ListFields() if field.name != "video"}
    return pb.PredictRequest(**fields)


def recognition_request(
    request: pb.PredictRequest | pb.ExtractFeaturesRequest, *, timeline: bool = False, upload: Upload | None = None
) -> RecognitionRequest:
    """Raises InvalidRequest for enum values that this version does not know."""
    source = request.video.WhichOneof("source")
    clips = request.clips
    return RecognitionRequest(
        data=request.video.data if source == "data" else None,
        path=request.video.path if source == "path" else None,
        uri=request.video.uri if source == "uri" else None,
        upload=upload,
        name=request.video.name,
        model=request.model.name,
        version=request.model.version,
        clips=ClipRequest(
            mode=_known(_MODES, clips.mode, "clips.mode", pb.ClipMode.keys()),
            num_clips=clips.num_clips,
            window_step=clips.window_step_frames,
            start_seconds=clips.start_seconds,
            end_seconds=clips.end_seconds,
        ),
        spatial_mode=_known(_SPATIAL_MODES, request.spatial_mode, "spatial_mode", pb.SpatialMode.keys()),
        protocol=request.protocol,
        timeline=timeline,
    )


def predict_response(request: pb.PredictRequest, result: Recognition) -> pb.PredictResponse:
    """What `request` asked for out of all that `result` holds."""
    k = min(request.top_k or DEFAULT_TOP_K, len(result.labels))
    response = pb.PredictResponse(
        top=_scores(top_classes(result.probabilities, result.labels, k)),
        video=_video(result),
        report=_report(result),
        provenance=_provenance(result),
    )
    if request.include_clip_scores:
        for info, probabilities in zip(_clip_infos(result), result.clip_probabilities, strict=True):
            top = _scores(top_classes(probabilities, result.labels, k))
            response.clips.append(pb.ClipPrediction(clip=info, top=top))
    if request.include_features:
        response.features.CopyFrom(_features(result))
    if result.timeline is not None:
        response.timeline.CopyFrom(_timeline(result.timeline))
    return response


def clip_update(request: pb.PredictRequest, result: ClipResult) -> pb.ClipUpdate:
    k = min(request.top_k or DEFAULT_TOP_K, len(result.labels))
    top = _scores(top_classes(result.probabilities, result.labels, k))
    return pb.ClipUpdate(
        clip=pb.ClipPrediction(clip=_clip_info(result.index, result.clip), top=top),
        top=_scores(top_classes(result.video_probabilities, result.labels, k)),
        num_done=result.num_done,
        num_clips=result.num_clips,
    )


def features_response(result: Recognition) -> pb.ExtractFeaturesResponse:
    return pb.ExtractFeaturesResponse(
        features=_features(result), video=_video(result), report=_report(result), provenance=_provenance(result)
    )


def _known(values: dict[int, T], value: int, field: str, names: Sequence[str]) -> T:
    # proto3 enums are open: a newer client may send a number that has no name here.
    if value not in values:
        raise InvalidRequest(f"{field} {value} is unknown; this server knows {', '.join(names)}")
    return values[value]


def _scores(top: Sequence[ClassScore]) -> list[pb.ClassScore]:
    return [pb.ClassScore(index=s.index, label=s.label, score=s.score) for s in top]


def _clip_infos(result: Recognition) -> Iterator[pb.ClipInfo]:
    return itertools.starmap(_clip_info, enumerate(result.clips))


def _clip_info(index: int, clip: RecognizedClip) -> pb.ClipInfo:
    return pb.ClipInfo(
        index=index,
        start_seconds=clip.start_seconds,
        end_seconds=clip.end_seconds,
        frame_indices=clip.frames,
        looped=clip.looped,
    )


def _features(result: Recognition) -> pb.Features:
    clips = [
        pb.ClipFeatures(clip=info, values=_floats(values))
        for info, values in zip(_clip_infos(result), result.clip_features, strict=True)
    ]
    return pb.Features(clips=clips, mean=_floats(result.features))


def _floats(values: NDArray[np.float32]) -> list[float]:
    floats: list[float] = values.tolist()
    return floats


def _timeline(timeline: SalienceTimeline) -> pb.Timeline:
    points = [
        pb.TimelinePoint(start_seconds=start, end_seconds=end, score=float(score), selected=bool(selected))
        for (start, end), score, selected in zip(timeline.seconds, timeline.scores, timeline.selected, strict=True)
    ]
    return pb.Timeline(scorer=timeline.scorer, points=points)


def _video(result: Recognition) -> pb.VideoInfo:
    info = result.info
    return pb.VideoInfo(
        container=info.container,
        codec=info.codec,
        width=info.width,
        height=info.height,
        rotation=info.rotation,
        frames_per_second=info.frames_per_second,
        num_frames=info.num_frames,
        declared_frames=info.declared_frames,
        duration_seconds=info.duration_seconds,
        has_audio=info.has_audio,
        variable_frame_rate=info.variable_frame_rate,
    )


def _report(result: Recognition) -> pb.DecodeReport:
    report = result.report
    return pb.DecodeReport(
        frames_requested=report.frames_requested,
        frames_decoded=report.frames_decoded,
        frames_substituted=report.frames_substituted,
        warnings=report.warnings,
    )


def _provenance(result: Recognition) -> pb.Provenance:
    return pb.Provenance(
        model=pb.ModelRef(name=result.model, version=result.version),
        protocol=result.protocol,
        runtime=result.runtime,
        server_version=SERVER_VERSION,
        request_id=REQUEST_ID.get(),
        timings=[pb.StageSeconds(stage=stage, seconds=seconds) for stage, seconds in result.timings.items()],
    )


def _model(served: ServedModel, repository: Repository) -> pb.Model:
    info = served.bundle.info
    return pb.Model(
        name=info.name,
        version=info.version,
        is_default_version=info.version == repository.default_version(info.name),
        architecture=info.architecture,
        family=info.family,
        num_classes=info.num_classes,
        feature_dim=info.feature_dim,
        runtime=served.runtime.name,
        runtime_reason=served.runtime_reason,
        default_protocol=info.default_protocol,
        protocols=supported_protocols(info.clip_spec),
        clip_spec_json=json.dumps(info.clip_spec.to_dict()),
        state=_state(served, repository),
        label_source=info.label_source,
    )


def _state(served: ServedModel, repository: Repository) -> str:
    failure = repository.failure(served.name, served.version)
    return "READY" if failure is None else f"READY (an older copy; what is on disk now failed to load: {failure.error})"
