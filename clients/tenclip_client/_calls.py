"""One place for what both clients do: arguments -> request message, response message -> results.

A `Call` is everything about one RPC but the waiting: `Client` blocks on it, `AsyncClient` awaits it.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, get_args

from tenclip_api.errors import InvalidRequest, ServerError
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client._types import (
    ClassScore,
    ClipFeatures,
    ClipInfo,
    ClipMode,
    ClipPrediction,
    ClipUpdate,
    DecodeReport,
    FailedModel,
    Features,
    ModelChanges,
    ModelInfo,
    ModelList,
    Prediction,
    Provenance,
    Timeline,
    TimelinePoint,
    VideoFeatures,
    VideoInfo,
)
from tenclip_client._video import Pieces, VideoPayload, pieces_of_bytes

Result = TypeVar("Result")

_MODES = {
    None: pb.CLIP_MODE_UNSPECIFIED,
    "uniform": pb.UNIFORM,
    "center": pb.CENTER,
    "windows": pb.WINDOWS,
    "salient": pb.SALIENT,
}
_SPATIAL_MODES = {None: pb.SPATIAL_MODE_UNSPECIFIED, False: pb.POOLED, True: pb.FULLY_CONVOLUTIONAL}
_UINT32_MAX = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Call(Generic[Result]):
    """`method` of the service, the `request` message, how to `parse` the response, and what video it is about.

    pieces: the video itself, where it is sent in pieces; the method is then the one for uploads.
    """

    method: str
    request: Any = field(repr=False)
    parse: Callable[[Any], Result] = field(repr=False)
    source: str = ""
    service: Literal["VideoRecognition", "ModelManagement"] = "VideoRecognition"
    pieces: Pieces | None = None

    def messages(self) -> Iterator[Any]:
        """All messages of an upload; read from the video as they are asked for."""
        assert self.pieces is not None
        message = _UPLOADS[self.method]
        yield message(request=self.request, num_bytes=self.pieces.size)
        for piece in self.pieces.read():
            yield message(chunk=piece)

    def in_pieces(self) -> Call[Result] | None:
        """The same call for a server that does not take so large a message; None for what has no such form."""
        upload = _AS_UPLOAD.get(self.method)
        if upload is None or not self.request.video.data:
            return None
        data = self.request.video.data
        request = type(self.request)()
        request.CopyFrom(self.request)
        request.video.ClearField("data")
        pieces = Pieces(len(data), lambda: pieces_of_bytes(data))
        return replace(self, method=upload, request=request, pieces=pieces)


# Methods whose video comes in pieces, and their messages; and those of which they are another form.
_UPLOADS: dict[str, Any] = {
    "PredictUpload": pb.PredictUploadRequest,
    "PredictUploadStream": pb.PredictUploadRequest,
    "ExtractFeaturesUpload": pb.ExtractFeaturesUploadRequest,
}
_AS_UPLOAD = {
    "Predict": "PredictUpload",
    "PredictStream": "PredictUploadStream",
    "ExtractFeatures": "ExtractFeaturesUpload",
}


# --- arguments -> requests ------------------------------------------------------------------------------------------


def predict_call(
    payload: VideoPayload,
    *,
    model: str,
    clips: ClipMode | None,
    num_clips: int | None,
    window_step: int | None,
    start: float | None,
    end: float | None,
    fully_convolutional: bool | None,
    protocol: str | None,
    top_k: int,
    clip_scores: bool,
    features: bool,
    timeline: bool,
) -> Call[Prediction]:
    """Raises InvalidRequest for what no server could accept; what depends on the model is the server's to judge."""
    request = pb.PredictRequest(
        model=model_ref(model),
        clips=_selection(clips, num_clips, window_step, start, end),
        spatial_mode=_spatial_mode(fully_convolutional),
        top_k=_count("top_k", top_k),
        include_clip_scores=clip_scores,
        include_features=features,
        include_timeline=timeline,
        protocol=protocol or "",
    )
    return _video_call("Predict", request, prediction, payload)


def predict_stream_call(payload: VideoPayload, **arguments: Any) -> Call[ClipUpdate | Prediction]:
    """As `predict_call`; `parse` is for each of the messages that come."""
    call = predict_call(payload, **arguments)
    method = "PredictStream" if payload.pieces is None else "PredictUploadStream"
    return Call(method=method, request=call.request, parse=update, source=call.source, pieces=call.pieces)


def extract_features_call(
    payload: VideoPayload,
    *,
    model: str,
    clips: ClipMode | None,
    num_clips: int | None,
    window_step: int | None,
    start: float | None,
    end: float | None,
    fully_convolutional: bool | None,
    protocol: str | None,
) -> Call[VideoFeatures]:
    request = pb.ExtractFeaturesRequest(
        model=model_ref(model),
        clips=_selection(clips, num_clips, window_step, start, end),
        spatial_mode=_spatial_mode(fully_convolutional),
        protocol=protocol or "",
    )
    return _video_call("ExtractFeatures", request, video_features, payload)


def list_models_call() -> Call[ModelList]:
    return Call(method="ListModels", request=pb.ListModelsRequest(), parse=model_list)


def get_model_call(model: str) -> Call[ModelInfo]:
    return Call(method="GetModel", request=pb.GetModelRequest(model=model_ref(model)), parse=_get_model)


def load_model_call(model: str) -> Call[ModelChanges]:
    request = pb.LoadModelRequest(model=_named(model))
    return Call(service="ModelManagement", method="LoadModel", request=request, parse=_changed)


def unload_model_call(model: str) -> Call[ModelChanges]:
    request = pb.UnloadModelRequest(model=_named(model))
    return Call(service="ModelManagement", method="UnloadModel", request=request, parse=_changed)


def reload_models_call() -> Call[ModelChanges]:
    return Call(service="ModelManagement", method="ReloadModels", request=pb.ReloadModelsRequest(), parse=_changed)


def set_default_version_call(model: str) -> Call[None]:
    request = pb.SetDefaultVersionRequest(model=_named(model))
    return Call(service="ModelManagement", method="SetDefaultVersion", request=request, parse=lambda response: None)


def _named(model: str) -> pb.ModelRef:
    if not model:
        raise InvalidRequest("name the model: NAME or NAME:VERSION")
    return model_ref(model)


def model_ref(model: str) -> pb.ModelRef:
    """`""` (the server's only model), `"name"` (its default version) or `"name:version"`."""
    name, colon, version = model.partition(":")
    if (colon and not (name and version)) or ":" in version:
        raise InvalidRequest(f"model {model!r}: write NAME or NAME:VERSION")
    return pb.ModelRef(name=name, version=version)


def _selection(
    clips: ClipMode | None, num_clips: int | None, window_step: int | None, start: float | None, end: float | None
) -> pb.ClipSelection:
    if clips not in _MODES:
        raise InvalidRequest(f"clips {clips!r} is not one of {', '.join(get_args(ClipMode))}")
    for what, seconds in (("start", start), ("end", end)):
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise InvalidRequest(f"{what} must be finite and not negative, in seconds; got {seconds}")
    if end is not None and end <= (start or 0):
        raise InvalidRequest(f"end {end:g} s is not after start {start or 0:g} s")
    return pb.ClipSelection(
        mode=_MODES[clips],
        num_clips=0 if num_clips is None else _count("num_clips", num_clips),
        window_step_frames=0 if window_step is None else _count("window_step", window_step),
        start_seconds=start or 0.0,
        end_seconds=end or 0.0,
    )


def _spatial_mode(fully_convolutional: bool | None) -> pb.SpatialMode.ValueType:
    return _SPATIAL_MODES[None if fully_convolutional is None else bool(fully_convolutional)]


def _count(what: str, value: int) -> int:
    if not 1 <= value <= _UINT32_MAX:
        raise InvalidRequest(f"{what} must be at least 1, got {value}")
    return value


def _video_call(method: str, request: Any, parse: Callable[[Any], Result], payload: VideoPayload) -> Call[Result]:
    video = request.video
    video.name = payload.name
    if payload.pieces is not None:
        method = _AS_UPLOAD[method]
    elif payload.path:
        video.path = payload.path
    elif payload.uri:
        video.uri = payload.uri
    else:
        video.data = payload.data
    return Call(method=method, request=request, parse=parse, source=payload.name, pieces=payload.pieces)


# --- responses -> results -------------------------------------------------------------------------------------------


def prediction(message: pb.PredictResponse) -> Prediction:
    if not message.top:
        raise ServerError("the server's answer holds no class scores")
    return Prediction(
        top=_scores(message.top),
        clips=tuple(ClipPrediction(clip=_clip(c.clip), top=_scores(c.top)) for c in message.clips),
        features=_features(message.features) if message.HasField("features") else None,
        timeline=_timeline(message.timeline) if message.HasField("timeline") else None,
        video=_video(message.video),
        report=_report(message.report),
        provenance=_provenance(message.provenance),
    )


def update(message: pb.PredictUpdate) -> ClipUpdate | Prediction:
    if message.WhichOneof("update") == "result":
        return prediction(message.result)
    clip = message.clip
    return ClipUpdate(
        clip=ClipPrediction(clip=_clip(clip.clip.clip), top=_scores(clip.clip.top)),
        top=_scores(clip.top),
        num_done=clip.num_done,
        num_clips=clip.num_clips,
    )


def video_features(message: pb.ExtractFeaturesResponse) -> VideoFeatures:
    return VideoFeatures(
        features=_features(message.features),
        video=_video(message.video),
        report=_report(message.report),
        provenance=_provenance(message.provenance),
    )


def model_list(message: pb.ListModelsResponse) -> ModelList:
    return ModelList(
        models=tuple(model_info(m) for m in message.models),
        failed=tuple(FailedModel(name=f.name, version=f.version, error=f.error) for f in message.failed),
    )


def model_info(message: pb.Model) -> ModelInfo:
    return ModelInfo(
        name=message.name,
        version=message.version,
        is_default_version=message.is_default_version,
        architecture=message.architecture,
        family=message.family,
        num_classes=message.num_classes,
        feature_dim=message.feature_dim,
        runtime=message.runtime,
        runtime_reason=message.runtime_reason,
        default_protocol=message.default_protocol,
        protocols=tuple(message.protocols),
        clip_spec=_json(message.clip_spec_json),
        state=message.state,
        label_source=message.label_source,
        labels=tuple(message.labels),
        bundle=_json(message.bundle_json),
    )


def _get_model(message: pb.GetModelResponse) -> ModelInfo:
    return model_info(message.model)


def _changed(message: pb.LoadModelResponse | pb.UnloadModelResponse | pb.ReloadModelsResponse) -> ModelChanges:
    changes = message.changes
    return ModelChanges(
        loaded=tuple(f"{m.name}:{m.version}" for m in changes.loaded),
        unloaded=tuple(f"{m.name}:{m.version}" for m in changes.unloaded),
        failed=tuple(FailedModel(name=f.name, version=f.version, error=f.error) for f in changes.failed),
    )


def _scores(messages: Sequence[pb.ClassScore]) -> tuple[ClassScore, ...]:
    return tuple(ClassScore(index=m.index, label=m.label, score=m.score) for m in messages)


def _clip(message: pb.ClipInfo) -> ClipInfo:
    return ClipInfo(
        index=message.index,
        start_seconds=message.start_seconds,
        end_seconds=message.end_seconds,
        frame_indices=tuple(message.frame_indices),
        looped=message.looped,
    )


def _features(message: pb.Features) -> Features:
    clips = tuple(ClipFeatures(clip=_clip(c.clip), values=array("f", c.values)) for c in message.clips)
    mean = array("f", message.mean)
    if any(len(c.values) != len(mean) for c in clips):
        raise ServerError(
            f"the server's feature vectors differ in length: {sorted({len(mean), *(len(c.values) for c in clips)})}"
        )
    return Features(clips=clips, mean=mean)


def _timeline(message: pb.Timeline) -> Timeline:
    points = tuple(
        TimelinePoint(start_seconds=p.start_seconds, end_seconds=p.end_seconds, score=p.score, selected=p.selected)
        for p in message.points
    )
    return Timeline(scorer=message.scorer, points=points)


def _video(message: pb.VideoInfo) -> VideoInfo:
    return VideoInfo(
        container=message.container,
        codec=message.codec,
        width=message.width,
        height=message.height,
        rotation=message.rotation,
        frames_per_second=message.frames_per_second,
        num_frames=message.num_frames,
        declared_frames=message.declared_frames,
        duration_seconds=message.duration_seconds,
        has_audio=message.has_audio,
        variable_frame_rate=message.variable_frame_rate,
        mirrored=message.mirrored,
    )


def _report(message: pb.DecodeReport) -> DecodeReport:
    return DecodeReport(
        frames_requested=message.frames_requested,
        frames_decoded=message.frames_decoded,
        frames_substituted=message.frames_substituted,
        frames_corrupt=message.frames_corrupt,
        warnings=tuple(message.warnings),
    )


def _provenance(message: pb.Provenance) -> Provenance:
    return Provenance(
        model=message.model.name,
        version=message.model.version,
        protocol=message.protocol,
        runtime=message.runtime,
        server_version=message.server_version,
        request_id=message.request_id,
        timings={t.stage: t.seconds for t in message.timings},
    )


def _json(text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as err:
        raise ServerError(f"the server sent malformed JSON: {err}") from err
    if not isinstance(value, dict):
        raise ServerError(f"the server sent JSON that is no object: {text[:60]}")
    return value
