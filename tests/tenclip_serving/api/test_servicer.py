"""Protobuf to dataclasses and back: no server, no video."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api.convert import DEFAULT_TOP_K, features_response, predict_response, recognition_request
from tenclip_serving.requests import ClipRequest, Recognition, RecognitionRequest, RecognizedClip
from tenclip_video.filmstrip import Thumbnail
from tenclip_video.salience import SalienceTimeline
from tenclip_video.video import DecodeReport, VideoInfo

INFO = VideoInfo(
    container="mp4",
    codec="h264",
    width=64,
    height=48,
    coded_width=48,
    coded_height=64,
    rotation=90,
    mirrored=True,
    pixel_format="yuv420p",
    sample_aspect_ratio=1.0,
    frames_per_second=29.97,
    num_frames=40,
    declared_frames=41,
    num_keyframes=4,
    duration_seconds=1.5,
    has_audio=True,
    variable_frame_rate=True,
    seekable=True,
)


def recognition(*, num_classes: int = 7, timeline: bool = False) -> Recognition:
    probabilities = np.linspace(0.3, 0.01, num_classes, dtype=np.float32)
    return Recognition(
        model="m",
        version="2",
        runtime="fake",
        protocol="ten-clip",
        labels=tuple(f"class {i}" for i in range(num_classes)),
        clips=(
            RecognizedClip(index=0, start_seconds=0.0, end_seconds=0.5, frames=(0, 2, 4), looped=False),
            RecognizedClip(index=1, start_seconds=0.5, end_seconds=1.5, frames=(38, 39, 0), looped=True),
        ),
        probabilities=probabilities,
        clip_probabilities=np.stack([probabilities, probabilities[::-1]]),
        clip_features=np.array([[1, 2], [3, 4]], np.float32),
        features=np.array([2, 3], np.float32),
        timeline=SalienceTimeline("s", ((0.0, 0.5),), np.array([0.25], np.float32), np.array([True]))
        if timeline
        else None,
        info=INFO,
        report=DecodeReport(
            frames_requested=6, frames_decoded=9, frames_substituted=1, frames_corrupt=3, warnings=("cut off",)
        ),
        timings={"decode": 0.5, "infer": 1.25},
    )


def test_a_full_request_becomes_a_dataclass() -> None:
    request = pb.PredictRequest(
        model=pb.ModelRef(name="m", version="2"),
        video=pb.Video(path="a.mp4", name="n"),
        clips=pb.ClipSelection(mode=pb.SALIENT, num_clips=3, window_step_frames=4, start_seconds=1.5, end_seconds=2.5),
        spatial_mode=pb.FULLY_CONVOLUTIONAL,
        protocol="p",
        include_timeline=True,
        thumbnails=7,
    )
    assert recognition_request(request) == RecognitionRequest(
        path="a.mp4",
        name="n",
        model="m",
        version="2",
        clips=ClipRequest(mode="salient", num_clips=3, window_step=4, start_seconds=1.5, end_seconds=2.5),
        spatial_mode="fully_convolutional",
        protocol="p",
        timeline=True,
        thumbnails=7,
    )


@pytest.mark.parametrize("kind", [pb.PredictRequest, pb.ExtractFeaturesRequest])
def test_empty_bytes_are_not_the_same_as_no_video(
    kind: type[pb.PredictRequest] | type[pb.ExtractFeaturesRequest],
) -> None:
    assert recognition_request(kind()).data is None
    assert recognition_request(kind(video=pb.Video(data=b""))).data == b""
    assert recognition_request(kind(video=pb.Video(path=""))).path == ""


@pytest.mark.parametrize(
    "request_",
    [
        pb.PredictRequest(clips=pb.ClipSelection(mode=99)),  # type: ignore[arg-type]
        pb.PredictRequest(spatial_mode=99),  # type: ignore[arg-type]
    ],
)
def test_enum_values_of_the_future(request_: pb.PredictRequest) -> None:
    with pytest.raises(InvalidRequest, match="mode 99 is unknown; this server knows"):
        recognition_request(request_)


@given(raw=st.binary(max_size=200))
def test_any_message_becomes_a_request_or_an_invalid_one(raw: bytes) -> None:
    from google.protobuf.message import DecodeError

    message = pb.PredictRequest()
    try:
        message.ParseFromString(raw)
        recognition_request(message)
    except (DecodeError, InvalidRequest):
        pass


@pytest.mark.parametrize(("asked", "given_"), [(0, DEFAULT_TOP_K), (2, 2), (7, 7), (4_000_000_000, 7)])
def test_top_k(asked: int, given_: int) -> None:
    response = predict_response(pb.PredictRequest(top_k=asked), recognition())
    assert [t.index for t in response.top] == list(range(given_))
    assert response.top[0].label == "class 0"


def test_only_what_was_asked_for() -> None:
    response = predict_response(pb.PredictRequest(), recognition())
    assert not response.clips
    assert not response.HasField("features")
    assert not response.HasField("timeline")
    assert response.provenance.model == pb.ModelRef(name="m", version="2")
    assert {t.stage: t.seconds for t in response.provenance.timings} == {"decode": 0.5, "infer": 1.25}


def test_everything() -> None:
    request = pb.PredictRequest(top_k=1, include_clip_scores=True, include_features=True, include_timeline=True)
    response = predict_response(request, recognition(timeline=True))
    first, second = response.clips
    assert list(second.clip.frame_indices) == [38, 39, 0]
    assert (second.clip.index, second.clip.start_seconds, second.clip.end_seconds) == (1, 0.5, 1.5)
    assert (first.clip.looped, second.clip.looped) == (False, True)
    assert [c.top[0].index for c in (first, second)] == [0, 6]
    assert [list(c.values) for c in response.features.clips] == [[1, 2], [3, 4]]
    assert list(response.features.mean) == [2, 3]
    assert response.timeline.points[0] == pb.TimelinePoint(start_seconds=0, end_seconds=0.5, score=0.25, selected=True)
    assert not response.thumbnails
    assert response.video == pb.VideoInfo(
        container="mp4",
        codec="h264",
        width=64,
        height=48,
        rotation=90,
        mirrored=True,
        frames_per_second=29.97,
        num_frames=40,
        declared_frames=41,
        duration_seconds=1.5,
        has_audio=True,
        variable_frame_rate=True,
    )
    assert response.report == pb.DecodeReport(
        frames_requested=6, frames_decoded=9, frames_substituted=1, frames_corrupt=3, warnings=["cut off"]
    )


def test_pictures_are_in_both_answers() -> None:
    picture = Thumbnail(seconds=0.5, jpeg=b"\xff\xd8\xff\xd9", width=96, height=72)
    result = replace(recognition(), thumbnails=(picture,))
    expected = [pb.Thumbnail(seconds=0.5, jpeg=b"\xff\xd8\xff\xd9", width=96, height=72)]
    assert list(predict_response(pb.PredictRequest(thumbnails=1), result).thumbnails) == expected
    assert list(features_response(result).thumbnails) == expected
    assert recognition_request(pb.ExtractFeaturesRequest(thumbnails=3)).thumbnails == 3
