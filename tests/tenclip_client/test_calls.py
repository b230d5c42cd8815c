"""Arguments -> request messages, response messages -> results; no network."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import InvalidRequest, Prediction, ServerError
from tenclip_client import _calls as calls
from tenclip_client._video import VideoPayload

from .servicer import model, prediction

PREDICT: dict[str, Any] = {
    "model": "",
    "clips": None,
    "num_clips": None,
    "window_step": None,
    "start": None,
    "end": None,
    "fully_convolutional": None,
    "protocol": None,
    "top_k": 5,
    "clip_scores": False,
    "features": False,
    "timeline": False,
}


def predict_request(**changes: Any) -> pb.PredictRequest:
    request = calls.predict_call(VideoPayload("a.mp4", b"abc"), **{**PREDICT, **changes}).request
    assert isinstance(request, pb.PredictRequest)
    return request


def test_nothing_is_asked_for_by_default() -> None:
    assert predict_request() == pb.PredictRequest(
        model=pb.ModelRef(), video=pb.Video(data=b"abc", name="a.mp4"), clips=pb.ClipSelection(), top_k=5
    )


@pytest.mark.parametrize(
    ("clips", "mode"),
    [("uniform", pb.UNIFORM), ("center", pb.CENTER), ("windows", pb.WINDOWS), ("salient", pb.SALIENT)],
)
def test_clip_modes(clips: str, mode: pb.ClipMode.ValueType) -> None:
    assert predict_request(clips=clips).clips.mode == mode


@pytest.mark.parametrize(
    ("value", "mode"), [(None, pb.SPATIAL_MODE_UNSPECIFIED), (False, pb.POOLED), (True, pb.FULLY_CONVOLUTIONAL)]
)
def test_spatial_modes(value: bool | None, mode: pb.SpatialMode.ValueType) -> None:
    assert predict_request(fully_convolutional=value).spatial_mode == mode


@pytest.mark.parametrize(
    ("model", "name", "version"),
    [("", "", ""), ("a", "a", ""), ("a:1", "a", "1"), ("a.b-c_d:1.0-rc", "a.b-c_d", "1.0-rc")],
)
def test_model(model: str, name: str, version: str) -> None:
    assert predict_request(model=model).model == pb.ModelRef(name=name, version=version)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "a:"}, "NAME or NAME:VERSION"),
        ({"model": ":1"}, "NAME or NAME:VERSION"),
        ({"model": "a:1:2"}, "NAME or NAME:VERSION"),
        ({"clips": "random"}, "'random' is not one of uniform, center, windows, salient"),
        ({"num_clips": 0}, "num_clips must be at least 1, got 0"),
        ({"num_clips": -3}, "num_clips must be at least 1, got -3"),
        ({"window_step": 0}, "window_step"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2**32}, "top_k"),
        ({"start": -0.5}, "start must be finite"),
        ({"end": math.inf}, "end must be finite"),
        ({"start": math.nan}, "start must be finite"),
        ({"end": 0.0}, "end 0 s is not after start 0 s"),
        ({"start": 3.0, "end": 2.5}, "end 2.5 s is not after start 3 s"),
    ],
)
def test_arguments_that_no_server_could_accept(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        predict_request(**changes)


@given(
    start=st.none() | st.floats(0, 1e9),
    length=st.none() | st.floats(1e-3, 1e9),
    num_clips=st.none() | st.integers(1, 2**32 - 1),
)
def test_selection_arrives_as_given(start: float | None, length: float | None, num_clips: int | None) -> None:
    end = None if length is None else (start or 0) + length
    selection = predict_request(start=start, end=end, num_clips=num_clips).clips
    assert (selection.start_seconds or None) == (start or None)
    assert (selection.end_seconds or None) == end
    assert (selection.num_clips or None) == num_clips


def test_prediction_to_dict_is_json() -> None:
    request = pb.PredictRequest(include_clip_scores=True, include_features=True, include_timeline=True)
    result = calls.prediction(prediction(request, b"abc", "2"))
    assert isinstance(result, Prediction)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["top"][0]["score"] == result.score
    assert plain["clips"][1]["clip"]["frame_indices"] == list(range(16))
    assert plain["features"]["clips"][2]["values"] == list(result.features.clips[2].values)  # type: ignore[union-attr]
    assert plain["timeline"]["points"][6]["selected"] is True
    assert plain["provenance"]["timings"] == {"decode": 0.25, "run": 0.5}


def test_absent_messages_are_none() -> None:
    result = calls.prediction(pb.PredictResponse(top=[pb.ClassScore(label="x")]))
    assert result.features is None
    assert result.timeline is None
    assert result.video.num_frames == 0


def test_model_to_dict_is_json() -> None:
    info = calls.model_info(model("3", full=True))
    assert json.loads(json.dumps(info.to_dict()))["bundle"]["provenance"] == {"run": "moves"}


@pytest.mark.parametrize("text", ["{", "[1, 2]", "3"])
def test_json_that_is_none(text: str) -> None:
    message = model("3", full=True)
    message.bundle_json = text
    with pytest.raises(ServerError, match="JSON"):
        calls.model_info(message)


def test_feature_vectors_of_different_length() -> None:
    message = pb.Features(clips=[pb.ClipFeatures(values=[1, 2]), pb.ClipFeatures(values=[1, 2, 3])], mean=[1, 2])
    with pytest.raises(ServerError, match=r"\[2, 3\]"):
        calls.video_features(pb.ExtractFeaturesResponse(features=message))
