"""Response messages -> results; no network."""

from __future__ import annotations

import json

import pytest

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import Prediction, ServerError
from tenclip_client import _results as results

from .servicer import model, prediction


def test_prediction_to_dict_is_json() -> None:
    request = pb.PredictRequest(include_clip_scores=True, include_features=True, include_timeline=True)
    result = results.prediction(prediction(request, b"abc", "2"))
    assert isinstance(result, Prediction)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["top"][0]["score"] == result.score
    assert plain["clips"][1]["clip"]["frame_indices"] == list(range(16))
    assert plain["features"]["clips"][2]["values"] == list(result.features.clips[2].values)  # type: ignore[union-attr]
    assert plain["timeline"]["points"][6]["selected"] is True
    assert plain["provenance"]["timings"] == {"decode": 0.25, "run": 0.5}


def test_absent_messages_are_none() -> None:
    result = results.prediction(pb.PredictResponse(top=[pb.ClassScore(label="x")]))
    assert result.features is None
    assert result.timeline is None
    assert result.video.num_frames == 0


def test_model_to_dict_is_json() -> None:
    info = results.model_info(model("3", full=True))
    assert json.loads(json.dumps(info.to_dict()))["bundle"]["provenance"] == {"run": "moves"}


@pytest.mark.parametrize("text", ["{", "[1, 2]", "3"])
def test_json_that_is_none(text: str) -> None:
    message = model("3", full=True)
    message.bundle_json = text
    with pytest.raises(ServerError, match="JSON"):
        results.model_info(message)


def test_feature_vectors_of_different_length() -> None:
    message = pb.Features(clips=[pb.ClipFeatures(values=[1, 2]), pb.ClipFeatures(values=[1, 2, 3])], mean=[1, 2])
    with pytest.raises(ServerError, match=r"\[2, 3\]"):
        results.video_features(pb.ExtractFeaturesResponse(features=message))


def test_pictures_are_bytes_here_and_base64_in_json() -> None:
    message = prediction(pb.PredictRequest(), b"x", "2")
    message.thumbnails.add(seconds=1.5, jpeg=b"\xff\xd8\xff\xd9", width=96, height=72)
    made = results.prediction(message)
    (picture,) = made.thumbnails
    assert (picture.seconds, picture.jpeg, picture.width, picture.height) == (1.5, b"\xff\xd8\xff\xd9", 96, 72)
    assert json.loads(json.dumps(made.to_dict()))["thumbnails"] == [
        {"seconds": 1.5, "jpeg": "/9j/2Q==", "width": 96, "height": 72}
    ]
    assert "jpeg" not in repr(made)
