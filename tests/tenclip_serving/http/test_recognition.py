"""Predictions and features over HTTP: every answer equals gRPC's to the bit, and every refusal has its words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict

from tenclip_api.v1 import tenclip_pb2 as pb
from tests.tenclip_serving.helpers import ServerProcess
from tests.tenclip_serving.http.helpers import (
    as_grpc,
    connected,
    curl,
    form,
    get,
    metric,
    over_grpc,
    post,
    post_head,
    read_answer,
    refused_over_grpc,
    url,
    video,
    wait_until,
)

OPTIONS: dict[str, Any] = {
    "model": "tiny",
    "version": "1",
    "num_clips": 3,
    "top_k": 2,
    "include_clip_scores": True,
    "include_features": True,
    "include_timeline": True,
    "thumbnails": 2,
}


def asked(path: Path, **fields: Any) -> pb.PredictRequest:
    """The same as OPTIONS, over gRPC."""
    return pb.PredictRequest(
        model=pb.ModelRef(name="tiny", version="1"),
        video=pb.Video(path=str(path)),
        clips=pb.ClipSelection(num_clips=3),
        top_k=2,
        include_clip_scores=True,
        include_features=True,
        include_timeline=True,
        thumbnails=2,
        **fields,
    )


def same(answer: dict[str, Any], expected: Any) -> None:
    """All fields alike, floats to the bit; but for what belongs to one request."""
    found = type(expected)()
    ParseDict(answer, found)
    for message in (found, expected):
        assert message.provenance.request_id
        assert message.provenance.timings
        message.provenance.ClearField("request_id")
        message.provenance.ClearField("timings")
    assert found.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def texts(options: dict[str, Any]) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}


def test_curl_equals_grpc_to_the_bit(http_server: ServerProcess, videos: Path) -> None:
    file = videos / "bar.mp4"
    expected = over_grpc(http_server, asked(file))
    fields = [word for name, value in texts(OPTIONS).items() for word in ("-F", f"{name}={value}")]
    status, headers, body = curl("-F", f"video=@{file}", *fields, url(http_server, "/v1/predict"))
    assert (status, headers["content-type"]) == (200, "application/json")
    answer = json.loads(body)
    # In 64 bits, too: without a look at the width of the fields.
    assert [t["score"] for t in answer["top"]] == [t.score for t in expected.top]
    assert answer["features"]["mean"] == list(expected.features.mean)
    assert answer["provenance"]["request_id"] == headers["tenclip-request-id"]
    same(answer, expected)


def test_every_way_to_ask_is_the_same(http_server: ServerProcess, videos: Path) -> None:
    file = videos / "bar.mp4"
    options, data = texts(OPTIONS), file.read_bytes()
    answers = [
        post(http_server, "/v1/predict", params=options, content=data, headers={"content-type": "video/mp4"}),
        post(
            http_server,
            "/v1/predict",
            params=options,
            content=data,
            headers={"content-type": "application/octet-stream"},
        ),
        post(http_server, "/v1/predict", params=options, files=video(file)),
        post(http_server, "/v1/predict", json={"path": str(file), **OPTIONS}),
        post(http_server, "/v1/predict", files={n: (None, v) for n, v in {"path": str(file), **options}.items()}),
        post(http_server, "/v1/predict", params={"path": str(file), **options}),
    ]
    for answer in answers:
        same(answer.json(), over_grpc(http_server, asked(file)))


@pytest.mark.parametrize("first", [True, False])
def test_options_may_come_before_and_after_the_file(http_server: ServerProcess, videos: Path, first: bool) -> None:
    parts: list[tuple[str, str | None, bytes]] = [(n, None, v.encode()) for n, v in texts(OPTIONS).items()]
    parts.insert(len(parts) if first else 0, ("video", "bar.mp4", (videos / "bar.mp4").read_bytes()))
    body = form("xyz", *parts)
    headers = {"content-type": "multipart/form-data; boundary=xyz"}
    same(
        post(http_server, "/v1/predict", content=body, headers=headers).json(),
        over_grpc(http_server, asked(videos / "bar.mp4")),
    )


def test_features_and_their_array(http_server: ServerProcess, videos: Path) -> None:
    file = videos / "bar.mp4"
    request = pb.ExtractFeaturesRequest(model=pb.ModelRef(name="tiny"), video=pb.Video(path=str(file)))
    expected = over_grpc(http_server, request)
    same(post(http_server, "/v1/features", files=video(file), data={"model": "tiny"}).json(), expected)
    answer = post(http_server, "/v1/features?model=tiny", files=video(file), headers={"accept": "application/x-npy"})
    assert answer.headers["content-type"] == "application/x-npy"
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.array([c.values for c in expected.features.clips], np.float32))


def test_a_stream_is_a_line_for_each_clip(http_server: ServerProcess, videos: Path) -> None:
    before = metric(http_server, "tenclip_requests_total", method="PredictStream", code="OK", transport="http")
    answer = post(
        http_server,
        "/v1/predict",
        params=texts(OPTIONS),
        files=video(videos / "bar.mp4"),
        headers={"accept": "application/x-ndjson"},
    )
    assert answer.headers["content-type"] == "application/x-ndjson"
    *clips, last = [json.loads(line) for line in answer.text.splitlines()]
    expected = over_grpc(http_server, asked(videos / "bar.mp4"))
    same(last["result"], expected)
    assert [c["clip"]["num_done"] for c in clips] == [1, 2, 3]
    assert sorted(c["clip"]["clip"]["clip"]["index"] for c in clips) == [0, 1, 2]
    after = metric(http_server, "tenclip_requests_total", method="PredictStream", code="OK", transport="http")
    assert after == before + 1


def test_a_large_answer_is_the_same_as_small_ones(http_server: ServerProcess, videos: Path) -> None:
    options = {
        "model": "tiny",
        "mode": "windows",
        "window_step_frames": "1",
        "end_seconds": "1.5",
        "include_clip_scores": "yes",
    }
    answer = post(http_server, "/v1/predict", params=options, files=video(videos / "bar.mp4"))
    request = pb.PredictRequest(
        model=pb.ModelRef(name="tiny"),
        video=pb.Video(path=str(videos / "bar.mp4")),
        clips=pb.ClipSelection(mode=pb.WINDOWS, window_step_frames=1, end_seconds=1.5),
        include_clip_scores=True,
    )
    expected = over_grpc(http_server, request)
    assert len(expected.clips) > 20
    same(answer.json(), expected)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "request_", "status"),
    [
        ({"model": "huge"}, {"model": pb.ModelRef(name="huge")}, 404),
        ({"model": "tiny", "version": "9"}, {"model": pb.ModelRef(name="tiny", version="9")}, 404),
        ({"model": "broken"}, {"model": pb.ModelRef(name="broken")}, 409),
        ({"num_clips": "65"}, {"clips": pb.ClipSelection(num_clips=65)}, 400),
        ({"protocol": "none"}, {"protocol": "none"}, 400),
        ({"start_seconds": "3", "end_seconds": "1"}, {"clips": pb.ClipSelection(start_seconds=3, end_seconds=1)}, 400),
        ({"start_seconds": "nan"}, {"clips": pb.ClipSelection(start_seconds=float("nan"))}, 400),
        ({"sampler": "x/y/z", "mode": "salient"}, {"clips": pb.ClipSelection(sampler="x/y/z", mode=pb.SALIENT)}, None),
        ({"adaptive": "true"}, {"clips": pb.ClipSelection(adaptive=True)}, None),
    ],
)
def test_what_is_asked_wrongly_has_the_words_of_grpc(
    http_server: ServerProcess,
    two_models: Path,
    videos: Path,
    options: dict[str, str],
    request_: dict[str, Any],
    status: int | None,
) -> None:
    fields = {"model": pb.ModelRef(name="tiny"), "video": pb.Video(path=str(videos / "bar.mp4")), **request_}
    reason, message = refused_over_grpc(http_server, pb.PredictRequest(**fields))
    expected = reason, message.replace(f"{two_models}/", "")  # where models are on this machine is not told over HTTP
    asked_for = {"model": "tiny", **options}
    for answer in (
        post(http_server, "/v1/predict", params=asked_for, files=video(videos / "bar.mp4")),
        post(http_server, "/v1/predict", params={"path": str(videos / "bar.mp4"), **asked_for}),
    ):
        got, *words = as_grpc(answer)
        assert tuple(words) == expected
        assert status in (None, got)


@pytest.mark.parametrize(("name", "status"), [("empty.mp4", 422), ("text.mp4", 415)])
def test_bad_videos_have_the_words_of_grpc(http_server: ServerProcess, videos: Path, name: str, status: int) -> None:
    data = (videos / name).read_bytes()
    expected = refused_over_grpc(
        http_server, pb.PredictRequest(model=pb.ModelRef(name="tiny"), video=pb.Video(data=data, name=name))
    )
    assert as_grpc(post(http_server, "/v1/predict?model=tiny", files=video(videos / name))) == (status, *expected)
    raw = post(http_server, f"/v1/predict?model=tiny&name={name}", content=data, headers={"content-type": "video/mp4"})
    assert as_grpc(raw) == (status, *expected)


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ({"path": "/etc/passwd"}, 403),
        ({"path": "leak.mp4"}, 403),
        ({"path": "absent.mp4"}, 404),
        ({"path": "folder.mp4"}, 422),
        ({"uri": "http://169.254.169.254/x"}, 403),
        ({"uri": "file:///etc/passwd"}, 403),
    ],
)
def test_paths_and_uris_have_the_words_of_grpc(http_server: ServerProcess, named: dict[str, Any], status: int) -> None:
    expected = refused_over_grpc(
        http_server, pb.PredictRequest(model=pb.ModelRef(name="tiny"), video=pb.Video(**named))
    )
    assert as_grpc(post(http_server, "/v1/predict", json={"model": "tiny", **named})) == (status, *expected)


def test_no_video_at_all_has_the_words_of_grpc(http_server: ServerProcess) -> None:
    expected = refused_over_grpc(http_server, pb.PredictRequest(model=pb.ModelRef(name="tiny")))
    for answer in (
        post(http_server, "/v1/predict", json={"model": "tiny"}),
        post(http_server, "/v1/predict?model=tiny"),
        post(http_server, "/v1/predict", files={"model": (None, "tiny")}),
    ):
        assert as_grpc(answer) == (400, *expected)


def body(content: bytes, content_type: str, **headers: str) -> dict[str, Any]:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"content": content, "headers": {"content-type": content_type, **more}}


@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        ({"params": {"topk": "3"}}, 400, "unknown option 'topk'; there are model, version, path, uri, name, mode,"),
        ({"params": {"token": "secret-0123456789"}}, 400, "unknown option 'token'"),
        ({"params": [("top_k", "1"), ("top_k", "2")]}, 400, "the option top_k is there twice"),
        ({"params": {"top_k": "-1"}}, 400, "the option top_k must be a whole number from 0 on; got '-1'"),
        ({"params": {"top_k": "5000000000"}}, 400, "the option top_k must be a whole number from 0 on"),
        ({"params": {"mode": "best"}}, 400, "the option mode must be one of uniform, center, windows, salient"),
        ({"params": {"adaptive": "maybe"}}, 400, "the option adaptive must be true or false; got 'maybe'"),
        ({"json": {"adaptive": 1}}, 400, "the option adaptive must be true or false; got '1'"),
        ({"json": {"top_k": 2.5}}, 400, "the option top_k must be a whole number"),
        ({"json": {"model": {"name": "tiny"}}}, 400, "the option model must be text; got 'an object'"),
        ({"json": {"path": "a", "uri": "b"}}, 400, "path and uri are both set; a request is of one video"),
        ({"json": [1]}, 400, "the body must be a JSON object"),
        (body(b"{", "application/json"), 400, "the body is not valid JSON: "),
        (body(b"[" * 60000, "application/json"), 400, "the body is not valid JSON"),
        (body(b'{"top_k": NaN}', "application/json"), 400, "not valid JSON"),
        (body(b"x", "text/plain"), 415, "the Content-Type 'text/plain' is not taken: send multipart/form-"),
        ({"content": b"x"}, 415, "the Content-Type '' is not taken"),
        (body(b"x", "video/mp4", content_encoding="gzip"), 415, "Content-Encoding is not taken"),
        (body(b"x", "multipart/form-data"), 400, "names no boundary"),
        (body(b"x", "multipart/form-data; boundary=b"), 400, "the body is no multipart form"),
        (body(b"--b\r\n\r\nx", "multipart/form-data; boundary=b"), 400, "has no name"),
        ({"files": {"file": ("run.mp4", b"x")}}, 400, "the file of the video must be called video: curl -F video=@run"),
        ({"files": [("video", ("a", b"x")), ("video", ("b", b"y"))]}, 400, "the form has two files video"),
        ({"files": {"video": ("a", b"x"), "path": (None, "b")}}, 400, "so path must not be set"),
        ({"files": {"protocol": (None, b"x" * 70000)}}, 400, "the fields of the form have more than 65536 bytes"),
        ({"files": {"protocol": (None, b"\xff")}}, 400, "the field 'protocol' is not UTF-8"),
        ({"headers": {"request-timeout": "soon"}}, 400, "must be a number of seconds, as 2.5; got 'soon'"),
        ({"params": {"path": "bar.mp4"}, "headers": {"request-timeout": "0.0001"}}, 504, "the caller's deadline"),
        ({"json": {"protocol": "x" * 70000}}, 413, "the JSON has 70"),
    ],
)  # fmt: skip
def test_what_is_no_request(http_server: ServerProcess, how: dict[str, Any], status: int, says: str) -> None:
    got, _, message = as_grpc(post(http_server, "/v1/predict", **how))
    assert says in message
    assert got == status
    assert "secret" not in message


def test_features_have_no_options_of_predictions(http_server: ServerProcess) -> None:
    _, _, message = as_grpc(post(http_server, "/v1/features?top_k=3"))
    assert message.startswith("unknown option 'top_k'; there are ")


def test_a_form_that_ends_early(http_server: ServerProcess, videos: Path) -> None:
    whole = form("b", ("model", None, b"tiny"), ("video", "bar.mp4", (videos / "bar.mp4").read_bytes()))
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = post(http_server, "/v1/predict", content=whole[:-10], headers=headers)
    assert as_grpc(answer)[2] == "the form ends before its last boundary"
    assert metric(http_server, "tenclip_spool_bytes") == 0


def test_too_large_is_said_before_the_body_is_read(http_server: ServerProcess) -> None:
    for content_type in ("video/mp4", "multipart/form-data; boundary=b"):
        with connected(http_server) as connection:
            connection.sendall(post_head("/v1/predict", 50 << 20, content_type))
            status, headers, body = read_answer(connection)
        problem = json.loads(body)
        assert (status, problem["reason"], headers["connection"]) == (413, "VIDEO_TOO_LARGE", "close")
        assert problem["detail"].endswith("MiB or more; this server takes at most 1.0 MiB (max_upload_mb)")


def test_who_waits_for_100_continue_sends_nothing_in_vain(http_server: ServerProcess) -> None:
    with connected(http_server) as connection:
        connection.sendall(post_head("/v1/predict", 50 << 20, Expect="100-continue"))
        assert read_answer(connection)[0] == 413
        assert connection.recv(10) == b""


# -- models and the rest ----------------------------------------------------------------------------------------------


def test_models(http_server: ServerProcess, two_models: Path) -> None:
    with http_server.stub() as stub:
        expected = stub.ListModels(pb.ListModelsRequest())
        one = stub.GetModel(pb.GetModelRequest(model=pb.ModelRef(name="tiny", version="1"))).model
    answer = get(http_server, "/v1/models")
    found = pb.ListModelsResponse()
    ParseDict(answer.json(), found)
    assert found.models == expected.models
    assert [f.name for f in found.failed] == [f.name for f in expected.failed] == ["broken"]
    assert str(two_models) not in answer.text
    for path, version in (("/v1/models/tiny", "2"), ("/v1/models/tiny/versions/1", "1")):
        model = pb.Model()
        ParseDict(get(http_server, path).json(), model)
        assert model.version == version
    assert model == one
    assert as_grpc(get(http_server, "/v1/models/huge")) == (
        404,
        "MODEL_NOT_FOUND",
        "no model 'huge'; this server holds tiny",
    )


def test_health(http_server: ServerProcess) -> None:
    for path, members in (("/healthz", {"live": True}), ("/readyz", {"ready": True})):
        answer = get(http_server, path)
        assert (answer.status_code, answer.json()) == (200, members)
    before = http_server.log.count("http  method=")
    get(http_server, "/readyz")
    assert http_server.log.count("http  method=") == before


def test_nothing_there_and_no_such_verb(http_server: ServerProcess) -> None:
    status, _, message = as_grpc(get(http_server, "/v1/nothing/"))
    assert (status, message) == (404, "there is nothing at /v1/nothing/; /docs says what there is")
    answer = get(http_server, "/v1/predict")
    assert as_grpc(answer)[0] == 405
    assert answer.headers["allow"] == "POST"
    assert "access-control-allow-origin" not in get(http_server, "/v1/models", headers={"origin": "http://x"}).headers


def test_ids_come_back_and_are_in_the_log(http_server: ServerProcess) -> None:
    answer = get(http_server, "/v1/models/tiny", headers={"tenclip-request-id": "my-own-7"})
    assert answer.headers["tenclip-request-id"] == "my-own-7"
    wait_until(lambda: "request_id=my-own-7" in http_server.log)  # after the answer
    assert "method=GetModel code=OK" in http_server.log
    forged = get(http_server, "/v1/models/tiny", headers={"x-request-id": "a b"})
    assert forged.headers["tenclip-request-id"] != "a b"
    assert metric(http_server, "tenclip_requests_total", method="GetModel", code="OK", transport="http") >= 2
