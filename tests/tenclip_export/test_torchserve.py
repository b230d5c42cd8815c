"""The archive, its handler without TorchServe, and a real TorchServe against a real server of ours."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import (
    BundleError,
    DecodeWorkerDied,
    InvalidRequest,
    MessageTooLarge,
    ParityError,
    TenclipError,
    error_classes,
)
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_export.torchserve import handler as handler_module
from tenclip_export.torchserve.archive import HANDLER, MODEL_CONFIG, TorchServeSettings, export_torchserve, manifest
from tenclip_export.torchserve.handler import (
    BUNDLES,
    FIELDS,
    SETTINGS,
    Handler,
    error_answer,
    predict_request,
    server_config,
)
from tenclip_serving.models.repository import load_model
from tenclip_video.bundle import Bundle, read_bundle

from ..tenclip_serving.helpers import Sampler, make_bundle, make_video, running_server
from .torchserve import TorchServe, absent, http_post, members, running_torchserve

BOUNDARY = "a-boundary"


def parse(document: bytes) -> pb.PredictResponse:
    return json_format.Parse(document, pb.PredictResponse())


def comparable(response: pb.PredictResponse) -> pb.PredictResponse:
    """Without what differs from one request to the next."""
    same = pb.PredictResponse()
    same.CopyFrom(response)
    same.provenance.ClearField("request_id")
    same.provenance.ClearField("timings")
    return same


# -- the archive ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def model_store(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("model-store")
    settings = TorchServeSettings(decode_workers=1, threads=1, runtime="onnxruntime")
    export_torchserve(bundle, store, settings=settings)
    return store


def test_archive_holds_the_bundle_and_a_handler(bundle: Bundle, model_store: Path, tmp_path: Path) -> None:
    path = model_store / f"{bundle.info.name}-{bundle.info.version}.mar"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    unpacked = read_bundle(tmp_path / BUNDLES / bundle.info.name / bundle.info.version)
    assert unpacked.info == bundle.info
    assert unpacked.labels == bundle.labels
    config = yaml.safe_load((tmp_path / MODEL_CONFIG).read_text())
    assert (config["minWorkers"], config["batchSize"]) == (1, 1)
    assert config["responseTimeout"] > config[SETTINGS]["max_request_seconds"]
    assert server_config(tmp_path, config[SETTINGS]).threads == 1
    compile((tmp_path / HANDLER).read_text(), HANDLER, "exec")


def test_a_sampler_is_in_the_archive(tmp_path: Path) -> None:
    bundle = read_bundle(make_bundle(tmp_path, sampler=Sampler()))
    with zipfile.ZipFile(export_torchserve(bundle, tmp_path / "store")) as archive:
        archive.extractall(tmp_path / "unpacked")
    unpacked = tmp_path / "unpacked" / BUNDLES / "tiny" / "1"
    assert (unpacked / "salience.onnx").read_bytes() == (bundle.path / "salience.onnx").read_bytes()
    assert load_model(unpacked, runtime="onnxruntime").sampler is not None


def test_manifest_is_what_the_archiver_writes(bundle: Bundle) -> None:
    pytest.importorskip("model_archiver", reason="pip install 'tenclip[torchserve]'")
    config = importlib.import_module("model_archiver.model_archiver_config").ModelArchiverConfig(
        model_name=bundle.info.name, version=bundle.info.version, handler=HANDLER, config_file=MODEL_CONFIG
    )
    utils = importlib.import_module("model_archiver.model_packaging_utils").ModelExportUtils
    theirs, ours = json.loads(utils.generate_manifest_json(config)), manifest(bundle)
    assert {**ours, "createdOn": ""} == {**theirs, "createdOn": ""}


def test_equal_bundles_give_equal_archives(bundle: Bundle, tmp_path: Path) -> None:
    first, second = (export_torchserve(bundle, tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_an_archive_that_exists(bundle: Bundle, tmp_path: Path) -> None:
    path = export_torchserve(bundle, tmp_path)
    before = path.read_bytes()
    with pytest.raises(BundleError, match=r"exists; --overwrite"):
        export_torchserve(bundle, tmp_path)
    settings = TorchServeSettings(workers=3)
    assert export_torchserve(bundle, tmp_path, settings=settings, overwrite=True).read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_half_an_archive(bundle: Bundle, tmp_path: Path) -> None:
    lost = replace(bundle, path=tmp_path / "gone")
    with pytest.raises(BundleError, match="cannot be written"):
        export_torchserve(lost, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_folder_that_cannot_be(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="cannot be written"):
        export_torchserve(bundle, tmp_path / "file")


@pytest.mark.parametrize("field", ["workers", "batch_size", "max_batch_delay_ms", "threads", "max_clips"])
def test_settings_that_cannot_work(field: str) -> None:
    wrong: dict[str, Any] = {field: -1}
    with pytest.raises(ValueError, match=f"{field} must be at least"):
        TorchServeSettings(**wrong)


def test_an_archive_whose_settings_were_edited(tmp_path: Path) -> None:
    for settings in ({"thread": 1}, {"threads": -1}, {"runtime": "magic"}):
        with pytest.raises(BundleError, match=r"model-config\.yaml, section tenclip"):
            server_config(tmp_path, settings)


# -- what a request may be --------------------------------------------------------------------------------------------


def test_fields_are_those_of_the_proto() -> None:
    assert {"protocol", "top_k", "clips", "spatial_mode", "include_features"} <= set(FIELDS)


@pytest.mark.parametrize("name", ["data", "body", "video"])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_the_video(name: str, kind: type[bytes] | type[bytearray]) -> None:
    assert predict_request({name: kind(b"\0video")}, {}).video.data == b"\0video"


@given(text=st.text())
def test_a_video_that_was_taken_for_text(text: str) -> None:
    assert predict_request({"data": text}, {}).video.data == text.encode()


def test_parameters_by_every_way() -> None:
    expected = pb.PredictRequest(
        top_k=3, include_features=True, clips=pb.ClipSelection(mode=pb.CENTER), video=pb.Video(data=b"v")
    )
    as_json = {"top_k": 3, "include_features": True, "clips": {"mode": "CENTER"}}
    assert predict_request({"body": b"v"}, {"Tenclip-Parameters": json.dumps(as_json)}) == expected
    assert predict_request({"body": b"v", "parameters": as_json}, {}) == expected
    assert predict_request({"body": b"v", "parameters": json.dumps(as_json).encode()}, {}) == expected
    single = {"top_k": b"3", "include_features": "true", "clips": bytearray(b'{"mode": "CENTER"}')}
    assert predict_request({"data": b"v", **single}, {"Host": "here"}) == expected
    assert predict_request({"data": b"v", "protocol": b"ten-clip"}, {}).protocol == "ten-clip"


def test_the_nearest_wins() -> None:
    headers = {"tenclip-parameters": '{"top_k": 1, "protocol": "ten-clip"}'}
    request = predict_request({"data": b"v", "parameters": '{"top_k": 2}', "top_k": "3"}, headers)
    assert (request.top_k, request.protocol) == (3, "ten-clip")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "got nothing"),
        ({"top_k": b"3"}, "got top_k"),
        ({"data": b"v", "body": b"w"}, "got data and body"),
        ({"body": {"instances": []}}, "body is JSON"),
        ({"data": b"v", "topk": b"3"}, "no parameter topk; there are .*top_k"),
        ({"data": b"v", "model": b"other"}, "no parameter model"),
        ({"data": b"v", "top_k": b"many"}, "top_k"),
        ({"data": b"v", "top_k": b"-1"}, "top_k"),
        ({"data": b"v", "include_features": b"3"}, "include_features"),
        ({"data": b"v", "clips": b'{"mode": "SIDEWAYS"}'}, "SIDEWAYS"),
        ({"data": b"v", "parameters": b"\xff"}, "input parameters is no JSON"),
        ({"data": b"v", "parameters": b"[1]"}, "must be a JSON object, got list"),
    ],
)
def test_requests_that_are_refused(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        predict_request(inputs, {})


@given(value=st.one_of(st.binary(), st.text(), st.integers(), st.none(), st.lists(st.integers())))
def test_no_parameter_is_a_fault_of_ours(value: object) -> None:
    for name in (*FIELDS, "parameters"):
        try:
            predict_request({"data": b"v", name: value}, {})
        except InvalidRequest:
            continue


def test_every_error_has_a_status() -> None:
    statuses = {reason: error_answer(cls("text")) for reason, cls in error_classes().items()}
    assert all(400 <= a.code <= 599 and a.body["reason"] == reason for reason, a in statuses.items())
    assert statuses["EMPTY_VIDEO"].body == {"code": 400, "reason": "EMPTY_VIDEO", "message": "text"}
    assert error_answer(MessageTooLarge("")).code == 413
    assert error_answer(DecodeWorkerDied("")).code == 503
    assert error_answer(TenclipError("")).code == 500


# -- the handler without TorchServe -----------------------------------------------------------------------------------


class FakeContext:
    """What TorchServe tells a handler, and what a handler tells it."""

    def __init__(self, model_dir: Path, settings: dict[str, Any], headers: list[dict[str, Any]] | None = None) -> None:
        self.system_properties = {"model_dir": str(model_dir)}
        self.model_yaml_config: dict[str, Any] | None = {SETTINGS: settings}
        self.headers = headers or []
        self.statuses: dict[int, tuple[int, str]] = {}
        self.content_types: dict[int, str] = {}

    def get_request_id(self, idx: int) -> str | None:
        return f"request-{idx}"

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        return self.headers[idx] if idx < len(self.headers) else {}

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:
        self.statuses[idx] = (code, phrase)

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.content_types[idx] = value


@pytest.fixture(scope="module")
def unpacked(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(next(model_store.glob("*.mar"))) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def handler(unpacked: Path) -> Iterator[Handler]:
    made = Handler()
    made.initialize(FakeContext(unpacked, {"threads": 1, "decode_workers": 2, "runtime": "onnxruntime"}))
    yield made
    made.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_video(tmp_path_factory.mktemp("video") / "colors.mp4").read_bytes()


def test_a_batch_of_good_and_bad(handler: Handler, unpacked: Path, video: bytes, bundle: Bundle) -> None:
    context = FakeContext(unpacked, {})
    good, bad, odd = handler.handle([{"data": video}, {"data": b""}, {"data": video, "top_k": 0.5}], context)
    response = parse(good)
    assert {t.label for t in response.top} == set(bundle.labels)
    # Class 0 says that it is: JSON has no defaults that a reader could know.
    assert sorted(t["index"] for t in json.loads(good)["top"]) == [0, 1, 2]
    assert response.provenance.request_id == "request-0"
    assert response.provenance.model == pb.ModelRef(name=bundle.info.name, version=bundle.info.version)
    assert json.loads(bad)["reason"] == "EMPTY_VIDEO"
    assert context.statuses == {1: (400, "EMPTY_VIDEO"), 2: (400, "INVALID_REQUEST")}
    assert json.loads(odd)["code"] == 400
    assert set(context.content_types.values()) == {"application/json"}


def test_labels_stay_text(handler: Handler, unpacked: Path, video: bytes) -> None:
    (answer,) = handler.handle([{"data": video}], FakeContext(unpacked, {}))
    assert "läuft & springt".encode() in answer


def test_an_error_alone_over_http(handler: Handler, unpacked: Path) -> None:
    context = FakeContext(unpacked, {}, [{"Host": "here"}])
    (answer,) = handler.handle([{"body": b"no video at all"}], context)
    assert json.loads(answer)["reason"] == "NOT_A_VIDEO"
    assert context.statuses == {0: (400, "NOT_A_VIDEO")}


def test_a_fault_of_ours_tells_nothing(
    handler: Handler, unpacked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handler_module, "predict_request", lambda *_: 1 / 0)
    (answer,) = handler.handle([{"data": b"v"}], FakeContext(unpacked, {}, [{"host": "here"}]))
    assert json.loads(answer) == {
        "code": 500,
        "reason": "SERVER_ERROR",
        "message": "internal error, request id request-0",
    }
    assert "ZeroDivisionError" in caplog.text


def test_archives_that_do_not_load(unpacked: Path, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "none" / BUNDLES).mkdir(parents=True)
    with pytest.raises(BundleError, match="holds 0 models"):
        Handler().initialize(FakeContext(tmp_path / "none", {}))
    with pytest.raises(BundleError, match="is not a directory"):
        Handler().initialize(FakeContext(tmp_path / "absent", {}))
    broken = tmp_path / "broken" / BUNDLES / bundle.info.name / bundle.info.version
    broken.mkdir(parents=True)
    (broken / "bundle.json").write_text("{}")
    with pytest.raises((BundleError, ParityError), match="schema_version"):
        Handler().initialize(FakeContext(tmp_path / "broken", {}))


# -- a real TorchServe ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchserve(model_store: Path, bundle: Bundle) -> Iterator[TorchServe]:
    if reason := absent():
        pytest.skip(reason)
    with running_torchserve(model_store) as server:
        server.register(next(model_store.glob("*.mar")))
        yield server
    assert members(server.process.pid) == []


@pytest.fixture(scope="module")
def footage(data_dir: Path) -> bytes:
    return (data_dir / "clips" / "archery.avi").read_bytes()


@pytest.fixture(scope="module")
def expected(bundle: Bundle, footage: bytes) -> pb.PredictResponse:
    """What a server process of ours says of the same model and video."""
    arguments = ["--runtime", "onnxruntime", "--threads", "1", "--decode-workers", "1"]
    with running_server(bundle.path.parent.parent, *arguments) as server, server.stub() as stub:
        request = pb.PredictRequest(
            video=pb.Video(data=footage), top_k=2, include_features=True, include_clip_scores=True
        )
        return stub.Predict(request, timeout=60)


def form(fields: dict[str, bytes]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (b'; filename="a.avi"\r\nContent-Type: video/x-msvideo' if name == "data" else b"")
        + b"\r\n\r\n" + value + b"\r\n"
        for name, value in fields.items()
    ]  # fmt: skip
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.slow
class TestTorchServe:
    def test_grpc_gives_what_our_server_gives(
        self, torchserve: TorchServe, bundle: Bundle, footage: bytes, expected: pb.PredictResponse
    ) -> None:
        parameters = b'{"top_k": 2, "include_features": true, "include_clip_scores": true}'
        answer = torchserve.predict(bundle.info.name, {"data": footage, "parameters": parameters})
        # To the last bit: the same code on the same machine, and JSON that keeps every float32.
        assert comparable(parse(answer)) == comparable(expected)
        assert len(expected.clips) == 10

    def test_http_in_every_form(
        self, torchserve: TorchServe, bundle: Bundle, footage: bytes, expected: pb.PredictResponse
    ) -> None:
        path = f"/predictions/{bundle.info.name}"
        as_json = '{"top_k": 2, "include_features": true, "include_clip_scores": true}'
        multipart = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        flags = {"include_features": b"true", "include_clip_scores": b"true"}
        for url, body, headers in (
            (path, footage, {"tenclip-parameters": as_json}),
            (path, footage, {"tenclip-parameters": as_json, "Content-Type": "video/x-msvideo"}),
            (f"{path}/{bundle.info.version}", form({"video": footage, "parameters": as_json.encode()}), multipart),
            (path, form({"data": footage, "top_k": b"2", **flags}), multipart),
        ):
            status, answer = http_post(torchserve.inference, url, body, headers)
            assert status == 200, answer
            assert comparable(parse(answer)) == comparable(expected)

    @pytest.mark.parametrize(
        ("parameters", "reason", "message"),
        [
            ("{}", "NOT_A_VIDEO", "<bytes>"),
            ('{"top_k": "many"}', "INVALID_REQUEST", "top_k"),
            ('{"protocol": "mine"}', "INVALID_REQUEST", "no protocol 'mine'; this model has ten-clip"),
        ],
    )
    def test_errors(self, torchserve: TorchServe, bundle: Bundle, parameters: str, reason: str, message: str) -> None:
        headers = {"tenclip-parameters": parameters}
        path = f"/predictions/{bundle.info.name}"
        status, answer = http_post(torchserve.inference, path, b"this is no video", headers)
        error = json.loads(answer)
        assert (status, error["code"], error["reason"]) == (400, 400, reason)
        assert message in error["message"]

    def test_errors_over_grpc(self, torchserve: TorchServe, bundle: Bundle) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            torchserve.predict(bundle.info.name, {"data": b"this is no video"})
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "NOT_A_VIDEO" in (caught.value.details() or "")
