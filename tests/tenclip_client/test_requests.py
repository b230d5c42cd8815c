"""Arguments -> request messages, and calls with their videos; no network."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import InvalidRequest, ServerPath, ServerUri, VideoNotFound
from tenclip_client import _requests as requests
from tenclip_client import _video as video_module
from tenclip_client._requests import Call

PREDICT: dict[str, Any] = {
    "model": "",
    "clips": None,
    "num_clips": None,
    "window_step": None,
    "start": None,
    "end": None,
    "fully_convolutional": None,
    "adaptive": False,
    "error_bound": None,
    "sampler": None,
    "protocol": None,
    "top_k": 5,
    "clip_scores": False,
    "features": False,
    "timeline": False,
}


def predict_request(**changes: Any) -> pb.PredictRequest:
    return requests.predict_request(**{**PREDICT, **changes})


def test_nothing_is_asked_for_by_default() -> None:
    assert predict_request() == pb.PredictRequest(model=pb.ModelRef(), clips=pb.ClipSelection(), top_k=5)


@pytest.mark.parametrize(
    ("clips", "mode"),
    [("uniform", pb.UNIFORM), ("center", pb.CENTER), ("windows", pb.WINDOWS), ("salient", pb.SALIENT)],
)
def test_clip_modes(clips: str, mode: pb.ClipMode.ValueType) -> None:
    assert predict_request(clips=clips).clips.mode == mode


@pytest.mark.parametrize("clips", [None, "salient"])
def test_adaptive_and_a_sampler(clips: str | None) -> None:
    request = predict_request(clips=clips, adaptive=True, sampler="moves/2")
    assert (request.clips.adaptive, request.clips.sampler) == (True, "moves/2")
    assert request.clips.error_bound == 0.0
    assert predict_request(clips=clips, adaptive=True, error_bound=0.2).clips.error_bound == 0.2


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
        (
            {"clips": "uniform", "adaptive": True},
            "which clips='uniform' do not have; leave clips out, or name 'salient'",
        ),
        ({"error_bound": 0.2}, "error_bound 0.2 is of adaptive prediction; ask for that, too"),
        ({"adaptive": True, "error_bound": 20}, "a share of videos, between 0 and 1; got 20"),
        ({"adaptive": True, "error_bound": math.nan}, "between 0 and 1; got nan"),
        ({"clips": "windows", "adaptive": True}, "which clips='windows' do not have"),
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


def call(video: Any = None, method: str = "Predict") -> Call[Any]:
    return Call(method=method, request=predict_request(), parse=lambda response: response, video=video)


@pytest.mark.parametrize(
    ("video", "field", "value"),
    [(b"abc", "data", b"abc"), (ServerPath("/a.mp4"), "path", "/a.mp4"), (ServerUri("s3://b/a"), "uri", "s3://b/a")],
)
def test_a_loaded_call_has_its_video(video: Any, field: str, value: Any) -> None:
    loaded = call(video).load()
    assert getattr(loaded.request.video, field) == value
    assert loaded.source == loaded.request.video.name != ""
    assert (loaded.method, loaded.pieces) == ("Predict", None)


def test_a_call_without_a_video_stays_as_it_is() -> None:
    listing: Call[Any] = Call(method="ListModels", request=pb.ListModelsRequest(), parse=lambda response: response)
    assert listing.load() is listing
    assert listing.as_upload() is None


def test_a_call_whose_video_is_missing() -> None:
    with pytest.raises(VideoNotFound, match=r"gone\.mp4"):
        call("gone.mp4").load()


@pytest.mark.parametrize(
    ("method", "upload"),
    [("Predict", "PredictUpload"), ("PredictStream", "PredictUploadStream")],
)
def test_a_large_video_travels_in_pieces(monkeypatch: pytest.MonkeyPatch, method: str, upload: str) -> None:
    monkeypatch.setattr(video_module, "INLINE_BYTES", 5)
    monkeypatch.setattr(video_module, "PIECE_BYTES", 4)
    loaded = call(b"0123456789", method).load()
    first, *pieces = loaded.messages()
    assert loaded.method == upload
    assert (first.num_bytes, first.request.video.data) == (10, b"")
    assert [p.chunk for p in pieces] == [b"0123", b"4567", b"89"]
    assert loaded.as_upload() is None  # it is one


def test_the_upload_form_of_a_call_leaves_the_first_form_whole() -> None:
    loaded = call(b"abc").load()
    upload = loaded.as_upload()
    assert upload is not None
    first, piece = upload.messages()
    assert (first.num_bytes, piece.chunk, upload.source) == (3, b"abc", loaded.source)
    assert loaded.request.video.data == b"abc"


def test_pictures() -> None:
    assert predict_request(thumbnails=12).thumbnails == 12
    with pytest.raises(InvalidRequest, match="thumbnails must be at least 0, got -1"):
        predict_request(thumbnails=-1)
