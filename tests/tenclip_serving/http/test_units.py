"""Forms, options, messages and problems, without a server; and connections on a loop of this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import MutableMapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import (
    BundleError,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    TenclipError,
    VideoNotFound,
    error_classes,
)
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.http import protocol
from tenclip_serving.http.body import Body
from tenclip_serving.http.form import Form
from tenclip_serving.http.messages import to_dict
from tenclip_serving.http.options import Options, options_of
from tenclip_serving.http.problems import headers_of, problem, status_of
from tenclip_serving.http.server import HttpServer
from tests.tenclip_serving.http.helpers import form

floats = st.floats(width=32)


@given(st.lists(floats, max_size=5), floats, st.floats(), st.binary(max_size=9), st.text(max_size=9), st.booleans())
def test_messages_as_json_are_those_of_protobuf(
    values: list[float], score: float, seconds: float, data: bytes, text: str, flag: bool
) -> None:
    """Read back by protobuf's own reader they are the same message; and 64-bit readers see the same numbers."""
    message = pb.PredictResponse(
        top=[pb.ClassScore(index=1, label=text, score=score)],
        features=pb.Features(mean=values),
        timeline=pb.Timeline(points=[pb.TimelinePoint(start_seconds=seconds, selected=flag)]),
        thumbnails=[pb.Thumbnail(jpeg=data)],
    )
    if flag:
        message.top[0].calibrated = score
    written = json.loads(json.dumps(to_dict(message)))
    read = ParseDict(written, pb.PredictResponse())
    assert to_dict(read) == to_dict(message)
    if "NaN" not in json.dumps(written):  # JSON has one of them, and floats have many
        assert read.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    theirs = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    assert _shape(written) == _shape(theirs)
    if score == score and abs(score) != float("inf"):
        assert written["top"][0]["score"] == message.top[0].score


def _shape(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _shape(value) for name, value in part.items()}
    return [_shape(value) for value in part] if isinstance(part, list) else isinstance(part, str)


def test_wide_numbers_and_enums() -> None:
    upload = pb.PredictUploadRequest(num_bytes=2**60, request=pb.PredictRequest(spatial_mode=pb.POOLED))
    assert to_dict(upload)["num_bytes"] == str(2**60)
    assert to_dict(upload, wide_as_text=False)["num_bytes"] == 2**60
    assert to_dict(upload)["request"]["spatial_mode"] == "POOLED"


# -- forms ------------------------------------------------------------------------------------------------------------


def body_of(data: bytes, cuts: list[int]) -> Body:
    places = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places)]
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    return Body(receive, num_bytes=None)


async def read(data: bytes, cuts: list[int]) -> tuple[pb.PredictRequest, str, bytes | None]:
    options = Options(pb.PredictRequest)
    found = Form(body_of(data, cuts), 'multipart/form-data; boundary="-b-"', options)
    file = b"".join([piece async for piece in found.file()]) if await found.find_file() else None
    request = options.request()
    assert isinstance(request, pb.PredictRequest)
    return request, found.file_name, file


@settings(deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 600), max_size=20), st.booleans())
def test_a_form_is_the_same_however_it_is_cut(content: bytes, cuts: list[int], last: bool) -> None:
    fields = [("top_k", None, b"7"), ("name", None, "é".encode())]
    file = ("video", "C:\\clips\\run.mp4", content.replace(b"---b-", b""))
    parts: Any = [*fields, file] if last else [file, *fields]
    request, name, found = asyncio.run(read(form("-b-", *parts), cuts))
    assert (request.top_k, request.video.name, name, found) == (7, "é", "run.mp4", file[2])


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_no_bytes_make_a_form_fail_otherwise_than_as_told(data: bytes, cuts: list[int]) -> None:
    with contextlib.suppress(InvalidRequest):
        asyncio.run(read(b"---b-\r\n" + data, cuts))


def test_parts_without_end() -> None:
    many = form("-b-", *[(name, None, b"") for name in ("name",) * 65])
    with pytest.raises(InvalidRequest, match="the option name is there twice"):
        asyncio.run(read(many, []))
    headers = b"---b-\r\n" + b"A: b\r\n" * 9
    with pytest.raises(InvalidRequest, match="the body is no multipart form: Maximum header count exceeded"):
        asyncio.run(read(headers, []))


# -- options ----------------------------------------------------------------------------------------------------------


@given(st.data())
def test_any_option_from_text_or_json_is_set_or_refused(data: st.DataObject) -> None:
    names = st.sampled_from([*options_of(pb.PredictRequest), "data", "video", "clips"])
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    values: Any = plain | st.lists(plain, max_size=2)
    members = data.draw(st.dictionaries(names, values, max_size=4))
    options = Options(pb.PredictRequest)
    with contextlib.suppress(InvalidRequest):
        options.add_json(json.dumps(members, allow_nan=True).encode())
        options.request()
    texts = Options(pb.PredictRequest)
    with contextlib.suppress(InvalidRequest):
        texts.add_texts((name, str(value)) for name, value in members.items())


def test_options_have_their_places() -> None:
    options = Options(pb.PredictRequest)
    options.add_texts([("model", "moves"), ("version", "3"), ("mode", "Salient"), ("end_seconds", "1.5")])
    options.add_json(b'{"num_clips": 4, "adaptive": true, "spatial_mode": "pooled"}')
    assert options.request() == pb.PredictRequest(
        model=pb.ModelRef(name="moves", version="3"),
        clips=pb.ClipSelection(mode=pb.SALIENT, end_seconds=1.5, num_clips=4, adaptive=True),
        spatial_mode=pb.POOLED,
    )


# -- problems ---------------------------------------------------------------------------------------------------------


def test_the_folder_of_the_models_is_not_told_and_paths_of_callers_are() -> None:
    """Where `models` is started with a relative path, callers may have a folder of that name, too."""
    models = Path("models")

    def detail(error: TenclipError) -> str:
        return str(problem(error, "id", models=models)["detail"])

    assert detail(BundleError("models/tiny/1: broken")) == "tiny/1: broken"
    assert detail(BundleError(f"{models.absolute()}/tiny/1: broken")) == "tiny/1: broken"
    assert detail(BundleError("'models/tiny' and my-models/tiny")) == "'tiny' and my-models/tiny"
    for path in ("models/run.mp4", "data/models/run.mp4"):
        assert detail(VideoNotFound(f"{path}: no such file")) == f"{path}: no such file"
        assert detail(DeadlineExceeded(f"{path}: not done")) == f"{path}: not done"


def test_every_error_of_the_tree_is_a_problem() -> None:
    for reason, cls in error_classes().items():
        error = cls("said this \udcff")
        found = problem(error, "id", models=Path("models"))
        assert (found["reason"], found["code"], found["status"]) == (reason, cls.grpc_status, status_of(error))
        assert 400 <= status_of(error) <= 504
        assert headers_of(error, status_of(error))["tenclip-reason"] == reason


def test_seconds_to_wait_are_whole_and_exact() -> None:
    error = Overloaded("full")
    error.retry_after_seconds = 0.25
    assert headers_of(error, 429) == {
        "tenclip-reason": "OVERLOADED",
        "retry-after": "1",
        "tenclip-retry-after-seconds": "0.250",
    }


# -- connections ------------------------------------------------------------------------------------------------------


async def hello(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /"])
def test_headers_that_do_not_come_end_the_connection(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing, one that says it slowly, and one that does so in its second request."""
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 1.0)

    async def run() -> bytes:
        server = HttpServer(hello, host="127.0.0.1", port=0, tls=None)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        data = b""
        try:
            async with asyncio.timeout(60):
                data = await reader.read()
        except ConnectionResetError:
            pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await server.stop(0)
        return data

    assert asyncio.run(run()).count(b"200 OK") == sent.count(b"\r\n\r\n")


def test_a_connection_may_stay_open_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.6)

    async def run() -> None:
        server = HttpServer(hello, host="127.0.0.1", port=0, tls=None)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200 OK")
            await asyncio.sleep(1.0)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await server.stop(0)

    asyncio.run(run())
