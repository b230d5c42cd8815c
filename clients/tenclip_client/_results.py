"""Response messages -> the results of `tenclip_client`."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from tenclip_api.errors import ServerError
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client._types import (
    AdaptiveReport,
    ClassScore,
    ClipFeatures,
    ClipInfo,
    ClipPrediction,
    ClipUpdate,
    DecodeReport,
    FailedModel,
    Features,
    IndexInfo,
    ModelChanges,
    ModelInfo,
    ModelList,
    Neighbour,
    Prediction,
    Provenance,
    SamplerInfo,
    SimilarVideos,
    StoppingRule,
    Thumbnail,
    Timeline,
    TimelinePoint,
    VideoFeatures,
    VideoInfo,
)


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
        thumbnails=_thumbnails(message.thumbnails),
        adaptive=_adaptive(message.adaptive) if message.HasField("adaptive") else None,
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
        thumbnails=_thumbnails(message.thumbnails),
        timeline=_timeline(message.timeline) if message.HasField("timeline") else None,
        adaptive=_adaptive(message.adaptive) if message.HasField("adaptive") else None,
    )


def similar_videos(message: pb.SimilarResponse) -> SimilarVideos:
    return SimilarVideos(
        neighbours=tuple(_neighbour(n) for n in message.neighbours),
        index=index_info(message.index),
        video=_video(message.video),
        report=_report(message.report),
        provenance=_provenance(message.provenance),
        features=_features(message.features) if message.HasField("features") else None,
        thumbnails=_thumbnails(message.thumbnails),
    )


def index_list(message: pb.ListIndexesResponse) -> tuple[IndexInfo, ...]:
    return tuple(index_info(i) for i in message.indexes)


def index_info(message: pb.Index) -> IndexInfo:
    return IndexInfo(
        name=message.name,
        model=message.model.name,
        version=message.model.version,
        weights=message.weights,
        kind=message.kind,
        dimension=message.dimension,
        clips=message.clips,
        videos=message.videos,
        recall_at_10=message.recall_at_10 or None,
        sources=tuple(message.sources),
        protocols=tuple(message.protocols),
        labels=message.labels,
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
        sampler=_sampler(message.sampler) if message.HasField("sampler") else None,
        variant=message.variant,
    )


def one_model(message: pb.GetModelResponse) -> ModelInfo:
    return model_info(message.model)


def model_changes(message: pb.LoadModelResponse | pb.UnloadModelResponse | pb.ReloadModelsResponse) -> ModelChanges:
    changes = message.changes
    return ModelChanges(
        loaded=tuple(f"{m.name}:{m.version}" for m in changes.loaded),
        unloaded=tuple(f"{m.name}:{m.version}" for m in changes.unloaded),
        failed=tuple(FailedModel(name=f.name, version=f.version, error=f.error) for f in changes.failed),
    )


def _neighbour(message: pb.Neighbour) -> Neighbour:
    return Neighbour(
        score=message.score,
        video=message.video,
        clip_index=message.clip_index,
        start_seconds=message.start_seconds,
        end_seconds=message.end_seconds,
        labels=tuple(message.labels),
        source=message.source,
        query_clip=_clip(message.query_clip),
    )


def _scores(messages: Sequence[pb.ClassScore]) -> tuple[ClassScore, ...]:
    return tuple(
        ClassScore(
            index=m.index,
            label=m.label,
            score=m.score,
            calibrated=m.calibrated if m.HasField("calibrated") else None,
        )
        for m in messages
    )


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
    return Timeline(scorer=message.scorer, points=points, flat=message.flat, notes=tuple(message.notes))


def _adaptive(message: pb.AdaptiveReport) -> AdaptiveReport:
    return AdaptiveReport(
        clips_planned=message.clips_planned,
        clips_used=message.clips_used,
        settled=message.settled,
        error_bound=message.error_bound,
        confidence=message.confidence,
    )


def _sampler(message: pb.Sampler) -> SamplerInfo:
    return SamplerInfo(
        name=message.name,
        kind=message.kind,
        loss=message.loss,
        clip_span=message.clip_span,
        window_step=message.window_step,
        target_fps=message.target_fps or None,
        teacher=message.teacher,
        audio_clips=message.audio_clips,
        stopping=_stopping(message.stopping) if message.HasField("stopping") else None,
        other_stopping=tuple(_stopping(rule) for rule in message.other_stopping),
    )


def _stopping(message: pb.StoppingRule) -> StoppingRule:
    return StoppingRule(
        threshold=message.threshold,
        min_clips=message.min_clips,
        max_clips=message.max_clips,
        error_bound=message.error_bound,
        confidence=message.confidence,
        num_videos=message.num_videos,
        mean_clips=message.mean_clips,
    )


def _thumbnails(messages: Sequence[pb.Thumbnail]) -> tuple[Thumbnail, ...]:
    return tuple(Thumbnail(seconds=m.seconds, jpeg=m.jpeg, width=m.width, height=m.height) for m in messages)


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
        raise ServerError(f"the server sent JSON that is not an object: {text[:60]}")
    return value
