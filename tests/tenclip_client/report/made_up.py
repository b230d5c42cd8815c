"""Answers as a server could give them."""

from __future__ import annotations

import io
from array import array
from dataclasses import replace
from typing import Any

from PIL import Image

from tenclip_client import (
    AdaptiveReport,
    ClassScore,
    ClipFeatures,
    ClipInfo,
    ClipPrediction,
    DecodeReport,
    Features,
    ModelInfo,
    Prediction,
    Provenance,
    Thumbnail,
    Timeline,
    TimelinePoint,
    VideoFeatures,
    VideoInfo,
)

LABELS = ("archery", "bowling", "cliff_diving", "drumming", "fencing")
CALIBRATION = {
    "temperature": 1.7,
    "protocol": "salient-clips",
    "num_videos": 200,
    "ece_before": 0.081,
    "ece_after": 0.023,
}
ADAPTIVE = AdaptiveReport(clips_planned=10, clips_used=4, settled=True, error_bound=0.05, confidence=0.95)
PROVENANCE = Provenance(
    model="actions",
    version="2",
    protocol="salient-clips",
    runtime="openvino",
    server_version="0.1.0",
    request_id="r-17",
    timings={"decode": 1.25, "infer": 0.5},
)
VIDEO = VideoInfo(
    container="mp4",
    codec="h264",
    width=64,
    height=48,
    rotation=0,
    frames_per_second=25.0,
    num_frames=250,
    declared_frames=250,
    duration_seconds=10.0,
    has_audio=True,
    variable_frame_rate=False,
)
REPORT = DecodeReport(frames_requested=40, frames_decoded=44, frames_substituted=0, warnings=())


def jpeg(color: tuple[int, int, int] = (200, 30, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(buffer, "JPEG")
    return buffer.getvalue()


def thumbnails(count: int = 4) -> tuple[Thumbnail, ...]:
    return tuple(
        Thumbnail(seconds=(i + 0.5) * 10 / count, jpeg=jpeg((20 * i, 30, 90)), width=64, height=48)
        for i in range(count)
    )


def timeline(num_windows: int = 20, **changes: Any) -> Timeline:
    """Windows over ten seconds; every fifth is chosen."""
    step = 10 / num_windows
    points = tuple(
        TimelinePoint(start_seconds=i * step, end_seconds=(i + 1) * step, score=float(i % 7), selected=i % 5 == 0)
        for i in range(num_windows)
    )
    return replace(Timeline(scorer="compressed-v1", points=points), **changes)


def clip(index: int, **changes: Any) -> ClipInfo:
    start = index * 2.5
    made = ClipInfo(index=index, start_seconds=start, end_seconds=start + 0.5, frame_indices=(1, 2), looped=False)
    return replace(made, **changes)


def top(*scores: float, labels: tuple[str, ...] = LABELS, calibrated: bool = False) -> tuple[ClassScore, ...]:
    scores = scores or (0.5, 0.2, 0.15, 0.1, 0.05)
    return tuple(
        ClassScore(index=i, label=labels[i], score=score, calibrated=score * 0.75 if calibrated else None)
        for i, score in enumerate(scores)
    )


def prediction(**changes: Any) -> Prediction:
    made = Prediction(
        top=top(),
        clips=tuple(ClipPrediction(clip=clip(i), top=top()) for i in range(4)),
        features=None,
        timeline=timeline(),
        video=VIDEO,
        report=REPORT,
        provenance=PROVENANCE,
        thumbnails=thumbnails(),
    )
    return replace(made, **changes)


def features(*vectors: tuple[float, ...]) -> Features:
    clips = tuple(ClipFeatures(clip=clip(i), values=array("f", v)) for i, v in enumerate(vectors))
    return Features(clips=clips, mean=array("f", [0.0] * len(vectors[0])))


def video_features(**changes: Any) -> VideoFeatures:
    made = VideoFeatures(
        features=features((1, 0, 0), (0.9, 0.1, 0), (0, 0, 1)),
        video=VIDEO,
        report=REPORT,
        provenance=PROVENANCE,
        timeline=timeline(),
        thumbnails=thumbnails(),
    )
    return replace(made, **changes)


def model(**bundle: Any) -> ModelInfo:
    return ModelInfo(
        name="actions",
        version="2",
        is_default_version=True,
        architecture="r2plus1d_18",
        family="tenclip",
        num_classes=5,
        feature_dim=3,
        runtime="openvino",
        runtime_reason="the fastest that passes",
        default_protocol="ten-clip",
        protocols=("ten-clip", "salient-clips"),
        clip_spec={},
        state="READY",
        label_source="file",
        labels=LABELS,
        bundle=bundle,
    )
