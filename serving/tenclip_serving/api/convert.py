"""tenclip.v1: protobuf -> the core's dataclasses, and its results -> protobuf. Pure functions."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.models.samplers import ServedSampler
from tenclip_serving.requests import (
    AdaptiveReport,
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
from tenclip_video.salience import SalienceTimeline, StoppingRule
from tenclip_video.sampling import SelectionMode

SERVER_VERSION = importlib.metadata.version("tenclip")
DEFAULT_TOP_K = 5

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

T = TypeVar("T")


def recognition_request(
    request: pb.PredictRequest | pb.ExtractFeaturesRequest | pb.SimilarRequest, *, upload: Upload | None = None
) -> RecognitionRequest:
    """The request of the core. upload: the chunks of the video, where it is not in the request itself.

    Raises InvalidRequest for enum values that this version does not know.
    """
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
            adaptive=clips.adaptive,
            error_bound=clips.error_bound,
            sampler=clips.sampler,
        ),
        spatial_mode=spatial_mode(request.spatial_mode),
        protocol=request.protocol,
        timeline=not isinstance(request, pb.SimilarRequest) and request.include_timeline,
        thumbnails=request.thumbnails,
    )


def spatial_mode(value: int) -> SpatialMode | None:
    """Raises InvalidRequest for a value that this version does not know."""
    return _known(_SPATIAL_MODES, value, "spatial_mode", pb.SpatialMode.keys())


def without_video(request: pb.PredictRequest) -> pb.PredictRequest:
    """A copy of the fields that the answer needs, so that nothing keeps the video in memory until then."""
    fields = {field.name: value for field, value in request.ListFields() if field.name != "video"}
    return pb.PredictRequest(**fields)


def predict_response(request: pb.PredictRequest, result: Recognition) -> pb.PredictResponse:
    """The parts of the result that the request asked for."""
    k = min(request.top_k or DEFAULT_TOP_K, len(result.labels))
    response = pb.PredictResponse(
        top=_video_scores(result, k),
        video=_video(result),
        report=_report(result),
        provenance=_provenance(result),
        thumbnails=_thumbnails(result),
    )
    if request.include_clip_scores:
        for info, probabilities in zip(_clip_infos(result), result.clip_probabilities, strict=True):
            top = _scores(top_classes(probabilities, result.labels, k))
            response.clips.append(pb.ClipPrediction(clip=info, top=top))
    if request.include_features:
        response.features.CopyFrom(_features(result))
    if result.timeline is not None:
        response.timeline.CopyFrom(_timeline(result.timeline))
    if result.adaptive is not None:
        response.adaptive.CopyFrom(_adaptive(result.adaptive))
    return response


def clip_update(request: pb.PredictRequest, result: ClipResult) -> pb.ClipUpdate:
    """One message of a stream: the clip's top classes, and those of the video so far."""
    k = min(request.top_k or DEFAULT_TOP_K, len(result.labels))
    top = _scores(top_classes(result.probabilities, result.labels, k))
    return pb.ClipUpdate(
        clip=pb.ClipPrediction(clip=_clip_info(result.clip), top=top),
        top=_scores(top_classes(result.video_probabilities, result.labels, k)),
        num_done=result.num_done,
        num_clips=result.num_clips,
    )


def features_response(result: Recognition) -> pb.ExtractFeaturesResponse:
    """Features of the clips and of the video, and the salience timeline where there is one."""
    response = pb.ExtractFeaturesResponse(
        features=_features(result),
        video=_video(result),
        report=_report(result),
        provenance=_provenance(result),
        thumbnails=_thumbnails(result),
    )
    if result.timeline is not None:
        response.timeline.CopyFrom(_timeline(result.timeline))
    if result.adaptive is not None:
        response.adaptive.CopyFrom(_adaptive(result.adaptive))
    return response


def _known(values: dict[int, T], value: int, field: str, names: Sequence[str]) -> T:
    # proto3 enums are open: a newer client may send a number that has no name here.
    if value not in values:
        raise InvalidRequest(f"{field} {value} is unknown; this server knows {', '.join(names)}")
    return values[value]


def _scores(top: Sequence[ClassScore]) -> list[pb.ClassScore]:
    return [pb.ClassScore(index=s.index, label=s.label, score=s.score) for s in top]


def _video_scores(result: Recognition, k: int) -> list[pb.ClassScore]:
    scores = _scores(top_classes(result.probabilities, result.labels, k))
    if result.calibrated is not None:
        for score in scores:
            score.calibrated = float(result.calibrated[score.index])
    return scores


def _clip_infos(result: Recognition) -> Iterator[pb.ClipInfo]:
    return map(_clip_info, result.clips)


def _clip_info(clip: RecognizedClip) -> pb.ClipInfo:
    return pb.ClipInfo(
        index=clip.index,
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
    return pb.Timeline(scorer=timeline.scorer, points=points, flat=timeline.flat, notes=timeline.notes)


def _adaptive(report: AdaptiveReport) -> pb.AdaptiveReport:
    return pb.AdaptiveReport(
        clips_planned=report.clips_planned,
        clips_used=report.clips_used,
        settled=report.settled,
        error_bound=report.error_bound,
        confidence=report.confidence,
    )


def _thumbnails(result: Recognition) -> list[pb.Thumbnail]:
    return [pb.Thumbnail(seconds=t.seconds, jpeg=t.jpeg, width=t.width, height=t.height) for t in result.thumbnails]


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
        mirrored=info.mirrored,
    )


def _report(result: Recognition) -> pb.DecodeReport:
    report = result.report
    return pb.DecodeReport(
        frames_requested=report.frames_requested,
        frames_decoded=report.frames_decoded,
        frames_substituted=report.frames_substituted,
        frames_corrupt=report.frames_corrupt,
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


def model_message(served: ServedModel, repository: Repository) -> pb.Model:
    """One version as ListModels describes it."""
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
        variant=served.variant,
        default_protocol=info.default_protocol,
        protocols=supported_protocols(info.clip_spec),
        clip_spec_json=json.dumps(info.clip_spec.to_dict()),
        state=_state(served, repository),
        label_source=info.label_source,
        sampler=None if served.sampler is None else _sampler(served.sampler),
    )


def _sampler(sampler: ServedSampler) -> pb.Sampler:
    spec, rule = sampler.spec, sampler.stopping
    return pb.Sampler(
        name=spec.name,
        kind=spec.kind,
        loss=spec.loss,
        clip_span=spec.clip_span,
        window_step=spec.window_step,
        target_fps=spec.target_fps or 0.0,
        teacher=spec.teacher,
        audio_clips=sampler.audio_clips,
        stopping=None if rule is None else _stopping(rule),
        other_stopping=[_stopping(other) for other in sampler.rules if other is not rule],
    )


def _stopping(rule: StoppingRule) -> pb.StoppingRule:
    return pb.StoppingRule(
        threshold=rule.threshold,
        min_clips=rule.min_clips,
        max_clips=rule.max_clips,
        error_bound=rule.error_bound,
        confidence=rule.confidence,
        num_videos=rule.num_videos,
        mean_clips=rule.mean_clips,
    )


def _state(served: ServedModel, repository: Repository) -> str:
    failure = repository.failure(served.name, served.version)
    return "READY" if failure is None else f"READY (an older copy; what is on disk now failed to load: {failure.error})"
