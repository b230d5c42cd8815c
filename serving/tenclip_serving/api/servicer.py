"""tenclip.v1.VideoRecognition over the engine. `convert` has what is between the messages and the core."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias, TypeVar

import grpc

from tenclip_api.errors import InvalidRequest, NoClassifier
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_serving.api import convert
from tenclip_serving.api.convert_similar import index_message, similar_request, similar_response
from tenclip_serving.api.live import live_messages, live_request
from tenclip_serving.engine import Engine
from tenclip_serving.neighbours.requests import SimilarClips
from tenclip_serving.requests import ClipResult, Recognition, Upload

SERVICE = "tenclip.v1.VideoRecognition"
# Up to these numbers, clips and points of a timeline become protobuf in less time than it takes to hand them to a
# thread.
_FEW_CLIPS, FEW_POINTS = 20, 100

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
AnyRequest: TypeAlias = pb.PredictRequest | pb.ExtractFeaturesRequest
Updates: TypeAlias = AsyncGenerator[pb.PredictUpdate, None]
T = TypeVar("T")


class VideoRecognition(tenclip_pb2_grpc.VideoRecognitionServicer):
    """Errors are raised as they are; the interceptor turns them into status codes.

    A request is let go of before its answer is awaited: it may hold a large video.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:  # noqa: N802
        answer, request = self._recognize(request, context), convert.without_video(request)
        return await self._predicted(request, await answer)

    async def PredictUpload(  # noqa: N802
        self, requests: AsyncIterator[pb.PredictUploadRequest], context: Context
    ) -> pb.PredictResponse:
        request, upload = await _upload(requests)
        return await self._predicted(request, await self._recognize(request, context, upload))

    async def PredictStream(self, request: pb.PredictRequest, context: Context) -> Updates:  # noqa: N802
        results, request = self._recognize_stream(request, context), convert.without_video(request)
        async with aclosing(self._updates(request, results)) as updates:
            async for update in updates:
                yield update

    async def PredictUploadStream(  # noqa: N802
        self, requests: AsyncIterator[pb.PredictUploadRequest], context: Context
    ) -> Updates:
        request, upload = await _upload(requests)
        async with aclosing(self._updates(request, self._recognize_stream(request, context, upload))) as updates:
            async for update in updates:
                yield update

    async def ExtractFeatures(  # noqa: N802
        self, request: pb.ExtractFeaturesRequest, context: Context
    ) -> pb.ExtractFeaturesResponse:
        answer = self._recognize(request, context)
        del request
        return await self._features(await answer)

    async def ExtractFeaturesUpload(  # noqa: N802
        self, requests: AsyncIterator[pb.ExtractFeaturesUploadRequest], context: Context
    ) -> pb.ExtractFeaturesResponse:
        request, upload = await _upload(requests)
        return await self._features(await self._recognize(request, context, upload))

    async def Similar(self, request: pb.SimilarRequest, context: Context) -> pb.SimilarResponse:  # noqa: N802
        asked, with_features = similar_request(request), request.include_features
        answer = self._engine.similar(asked, seconds_left=context.time_remaining())
        del request, asked
        return await self._similar(await answer, with_features)

    async def SimilarUpload(  # noqa: N802
        self, requests: AsyncIterator[pb.SimilarUploadRequest], context: Context
    ) -> pb.SimilarResponse:
        request, upload = await _upload(requests)
        asked = similar_request(request, upload=upload)
        answer = await self._engine.similar(asked, seconds_left=context.time_remaining())
        return await self._similar(answer, request.include_features)

    async def ListIndexes(self, request: pb.ListIndexesRequest, context: Context) -> pb.ListIndexesResponse:  # noqa: N802
        return pb.ListIndexesResponse(indexes=[index_message(o.name, o.info) for o in self._engine.indexes])

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        repository = self._engine.repository
        failed = [pb.FailedModel(name=f.name, version=f.version, error=f.error) for f in repository.failed]
        return pb.ListModelsResponse(models=[convert.model_message(m, repository) for m in repository], failed=failed)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: N802
        repository = self._engine.repository
        served = repository.get(request.model.name, request.model.version)
        model = convert.model_message(served, repository)
        model.labels.extend(served.bundle.labels)
        model.bundle_json = json.dumps(served.bundle.info.to_dict())
        return pb.GetModelResponse(model=model)

    async def Live(  # noqa: N802
        self, request: pb.LiveRequest, context: Context
    ) -> AsyncGenerator[pb.LiveUpdate, None]:
        asked = live_request(request)
        labels = self._engine.repository.get(asked.model, asked.version).bundle.labels
        async with aclosing(self._engine.watch(asked)) as updates:
            async for message in live_messages(request, asked.heartbeat_seconds, updates, labels):
                yield message

    def _recognize(
        self, request: AnyRequest, context: Context, upload: Upload | None = None
    ) -> Coroutine[Any, Any, Recognition]:
        self._require_classifier(request)
        asked = convert.recognition_request(request, upload=upload)
        return self._engine.recognize(asked, seconds_left=context.time_remaining())

    def _recognize_stream(
        self, request: pb.PredictRequest, context: Context, upload: Upload | None = None
    ) -> AsyncGenerator[ClipResult | Recognition, None]:
        self._require_classifier(request)
        asked = convert.recognition_request(request, upload=upload)
        return self._engine.recognize_stream(asked, seconds_left=context.time_remaining())

    def _require_classifier(self, request: AnyRequest) -> None:
        """Raises NoClassifier for a prediction of a model with features only; ModelNotFound, VersionNotFound."""
        if not isinstance(request, pb.PredictRequest):
            return
        served = self._engine.repository.get(request.model.name, request.model.version)
        if served.bundle.info.features_only:
            raise NoClassifier(
                f"model {served.name}/{served.version} has no classifier, so it predicts nothing; ask it for features "
                "(ExtractFeatures, `tenclip features`)"
            )

    async def _updates(
        self, request: pb.PredictRequest, results: AsyncGenerator[ClipResult | Recognition, None]
    ) -> Updates:
        """Messages of a stream. When it is closed early, the clips that are left are not run."""
        async with aclosing(results):
            async for result in results:
                if isinstance(result, ClipResult):
                    yield pb.PredictUpdate(clip=convert.clip_update(request, result))
                else:
                    yield pb.PredictUpdate(result=await self._predicted(request, result))

    async def _predicted(self, request: pb.PredictRequest, result: Recognition) -> pb.PredictResponse:
        return await self._build(result, partial(convert.predict_response, request, result))

    async def _features(self, result: Recognition) -> pb.ExtractFeaturesResponse:
        return await self._build(result, partial(convert.features_response, result))

    async def _similar(self, result: SimilarClips, with_features: bool) -> pb.SimilarResponse:
        build = partial(similar_response, result, with_features=with_features)
        return await self._build(result.recognition, build)

    async def _build(self, result: Recognition, build: Callable[[], T]) -> T:
        """The response; off the event loop where it is large, for building it would hold up everyone."""
        if len(result.clips) <= _FEW_CLIPS and result.num_points <= FEW_POINTS:
            return build()
        return await self._engine.threads.answers.run(build)


async def _upload(requests: AsyncIterator[Any]) -> tuple[Any, Upload]:
    """(request, the chunks that follow it) of either kind of upload. Raises InvalidRequest for another order."""
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
