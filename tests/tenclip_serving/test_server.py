"""A real server process, asked over real gRPC."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionStub
from tenclip_client import Client
from tenclip_serving.api.health import LIVENESS
from tenclip_serving.api.management import MANAGEMENT
from tenclip_serving.api.open_inference import INFERENCE
from tenclip_serving.api.servicer import SERVICE
from tenclip_serving.security.addresses import why_not_listen
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol, video_probabilities
from tests.tenclip_serving.conftest import MAX_CLIPS, MAX_MESSAGE_MB
from tests.tenclip_serving.helpers import LABELS, SPEC, ServerProcess, make_bundle, reference, running_server, stop

TINY = pb.ModelRef(name="tiny")


def predict(server: ServerProcess, **fields: Any) -> pb.PredictResponse:
    fields.setdefault("model", TINY)
    if "path" in fields:
        fields["video"] = pb.Video(path=fields.pop("path"))
    with server.stub() as stub:
        return stub.Predict(pb.PredictRequest(**fields), timeout=30)


def refused(server: ServerProcess, **fields: Any) -> tuple[str, str, str]:
    """(status, reason, message) of a Predict that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        predict(server, **fields)
    return status_of(caught.value)


def refused_with_metadata(server: ServerProcess, **fields: Any) -> tuple[tuple[str, str, str], dict[str, str]]:
    with pytest.raises(grpc.RpcError) as caught:
        predict(server, **fields)
    assert isinstance(caught.value, grpc.Call)
    return status_of(caught.value), {k: str(v) for k, v in caught.value.trailing_metadata() or ()}


def status_of(error: grpc.RpcError) -> tuple[str, str, str]:
    assert isinstance(error, grpc.Call)
    metadata = dict(error.trailing_metadata() or ())
    return error.code().name, str(metadata.get("tenclip-reason", "")), error.details() or ""


def metric(server: ServerProcess, name: str, /, **labels: str) -> float:
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_one_line_on_stdout(server: ServerProcess, models: Path) -> None:
    assert server.stdout == f"tenclip serving 3 models on {server.address}, metrics on {server.metrics_address}\n"


@pytest.mark.parametrize("inline", [False, True])
def test_predict_is_what_numpy_says(server: ServerProcess, videos: Path, inline: bool) -> None:
    file = videos / "colors.mp4"
    video = pb.Video(data=file.read_bytes(), name="mine") if inline else pb.Video(path=str(file))
    response = predict(server, video=video, include_features=True, include_clip_scores=True, include_timeline=True)
    clips = read_clips(file, SPEC)
    outputs = reference(clips.clips)
    expected = video_probabilities(outputs.logits, "probabilities")
    assert [t.label for t in response.top] == [LABELS[i] for i in np.argsort(-expected)]
    np.testing.assert_allclose([t.score for t in response.top], np.sort(expected)[::-1], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose([c.values for c in response.features.clips], outputs.features, rtol=1e-4)
    np.testing.assert_allclose(response.features.mean, outputs.features.mean(0), rtol=1e-4)
    assert [tuple(c.clip.frame_indices) for c in response.clips] == [c.frames for c in clips.plan]
    assert response.clips[0].top[0].label == "red"
    assert response.clips[-1].top[0].label == "blue"
    assert response.timeline.scorer == "motion-energy"
    assert len(response.timeline.points) == 10
    assert (response.video.num_frames, response.video.width, response.video.height) == (40, 64, 48)
    assert response.provenance.model == pb.ModelRef(name="tiny", version="10")
    assert response.provenance.protocol == "ten-clip"
    assert response.provenance.runtime == "openvino"
    assert response.provenance.request_id
    stages = {"decode", "preprocess", "score", "queue", "infer", "aggregate"}
    assert {t.stage for t in response.provenance.timings} == stages


def test_a_large_answer_is_the_same_as_small_ones(server: ServerProcess) -> None:
    """Large ones are built on another thread."""
    fields: dict[str, Any] = {"path": "bar.mp4", "include_features": True, "include_clip_scores": True}
    large = predict(server, clips=pb.ClipSelection(num_clips=60), **fields)
    assert [clip.clip.index for clip in large.clips] == list(range(60))
    assert len(large.features.clips) == 60
    assert large.provenance.request_id
    small = predict(server, clips=pb.ClipSelection(num_clips=1), **fields)
    np.testing.assert_allclose(large.features.clips[0].values, small.features.clips[0].values, rtol=1e-6)
    with server.stub() as stub:
        request = pb.ExtractFeaturesRequest(
            model=TINY, video=pb.Video(path="bar.mp4"), clips=pb.ClipSelection(num_clips=60)
        )
        assert stub.ExtractFeatures(request, timeout=30).features == large.features


def test_extract_features_is_the_same_pass(server: ServerProcess) -> None:
    with server.stub() as stub:
        request = pb.ExtractFeaturesRequest(model=TINY, video=pb.Video(path="colors.mp4"))
        features = stub.ExtractFeatures(request, timeout=30)
    both = predict(server, path="colors.mp4", include_features=True)
    assert features.features == both.features
    assert (features.video, features.report) == (both.video, both.report)
    assert features.features.clips[1].clip.start_seconds == pytest.approx(0.2)


def test_fully_convolutional_and_pooled(server: ServerProcess, videos: Path) -> None:
    response = predict(server, path="bar.mp4", spatial_mode=pb.FULLY_CONVOLUTIONAL)
    outputs = reference(read_clips(videos / "bar.mp4", SPEC, Protocol(fully_convolutional=True)).clips)
    assert outputs.logits.shape[2] == 4
    expected = np.sort(video_probabilities(outputs.logits, "probabilities"))[::-1]
    np.testing.assert_allclose([t.score for t in response.top], expected, rtol=1e-3, atol=1e-6)
    assert response.provenance.protocol == (
        "custom: 10 uniform clips, centre crop, fully-convolutional, probabilities averaged"
    )


@pytest.mark.parametrize(
    ("clips", "num"),
    [
        (pb.ClipSelection(mode=pb.UNIFORM, num_clips=3), 3),
        (pb.ClipSelection(mode=pb.CENTER), 1),
        (pb.ClipSelection(mode=pb.WINDOWS), 20),
        (pb.ClipSelection(mode=pb.WINDOWS, window_step_frames=2, end_seconds=1.0), 9),
        (pb.ClipSelection(mode=pb.SALIENT, num_clips=2), 2),
    ],
)
def test_selections(server: ServerProcess, clips: pb.ClipSelection, num: int) -> None:
    response = predict(server, path="bar.mp4", clips=clips, include_clip_scores=True, top_k=1)
    assert len(response.clips) == num
    assert len(response.top) == 1
    assert response.HasField("timeline") == (clips.mode == pb.SALIENT)
    if clips.mode == pb.SALIENT:
        assert {c.top[0].label for c in response.clips} == {"moving"}
        assert sum(p.selected for p in response.timeline.points) == 2


def test_a_short_video_loops_and_says_so(server: ServerProcess) -> None:
    response = predict(server, path="short.mp4", clips=pb.ClipSelection(mode=pb.CENTER), include_clip_scores=True)
    assert response.clips[0].clip.looped
    assert list(response.clips[0].clip.frame_indices) == [0, 1, 0, 1]


def test_models(server: ServerProcess) -> None:
    with server.stub() as stub:
        listed = stub.ListModels(pb.ListModelsRequest(), timeout=30)
        model = stub.GetModel(pb.GetModelRequest(model=pb.ModelRef(name="tiny", version="2")), timeout=30).model
    assert [(m.name, m.version, m.is_default_version) for m in listed.models] == [
        ("pooled", "1", True),
        ("strided", "1", True),
        ("tiny", "10", True),
        ("tiny", "2", False),
    ]
    assert {(f.name, f.version) for f in listed.failed} == {("broken", "1"), ("drifted", "1"), ("tiny", "11")}
    assert not listed.models[2].labels
    assert tuple(model.labels) == LABELS
    assert (model.num_classes, model.feature_dim, model.state) == (4, 6, "READY")
    assert model.runtime == "openvino"
    assert model.runtime_reason
    assert "fully-convolutional" in model.protocols
    assert "fully-convolutional" not in listed.models[0].protocols
    assert json.loads(model.clip_spec_json)["crop"] == SPEC.crop
    assert json.loads(model.bundle_json)["name"] == "tiny"


# -- refusals ---------------------------------------------------------------------------------------------------------

REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    ({}, "INVALID_ARGUMENT", "INVALID_REQUEST", "no video"),
    ({"video": pb.Video(data=b"")}, "INVALID_ARGUMENT", "EMPTY_VIDEO", "is empty"),
    ({"video": pb.Video(data=b"x" * 999, name="up.mp4")}, "INVALID_ARGUMENT", "NOT_A_VIDEO", "up.mp4"),
    ({"path": "empty.mp4"}, "INVALID_ARGUMENT", "EMPTY_VIDEO", "empty.mp4"),
    ({"path": "text.mp4"}, "INVALID_ARGUMENT", "NOT_A_VIDEO", "text.mp4"),
    ({"path": "folder.mp4"}, "INVALID_ARGUMENT", "NOT_A_FILE", "a directory"),
    ({"path": "absent.mp4"}, "NOT_FOUND", "VIDEO_NOT_FOUND", "no such file"),
    ({"path": "../x.mp4"}, "PERMISSION_DENIED", "PATH_NOT_ALLOWED", "outside"),
    ({"path": "/etc/passwd"}, "PERMISSION_DENIED", "PATH_NOT_ALLOWED", "outside"),
    ({"path": "leak.mp4"}, "PERMISSION_DENIED", "PATH_NOT_ALLOWED", "outside"),
    ({"path": "leak/secret.mp4"}, "PERMISSION_DENIED", "PATH_NOT_ALLOWED", "outside"),
    ({"path": "a\0b"}, "INVALID_ARGUMENT", "INVALID_REQUEST", "no path"),
    ({"model": pb.ModelRef(name="huge")}, "NOT_FOUND", "MODEL_NOT_FOUND", "pooled, strided, tiny"),
    ({"model": pb.ModelRef(name="tiny", version="3")}, "NOT_FOUND", "VERSION_NOT_FOUND", "2, 10"),
    ({"model": pb.ModelRef()}, "INVALID_ARGUMENT", "INVALID_REQUEST", "pooled, strided, tiny"),
    ({"model": pb.ModelRef(name="drifted")}, "FAILED_PRECONDITION", "MODEL_ERROR", "drifts"),
    ({"protocol": "best"}, "INVALID_ARGUMENT", "INVALID_REQUEST", "ten-clip"),
    ({"protocol": "ten-clip", "spatial_mode": pb.POOLED}, "INVALID_ARGUMENT", "INVALID_REQUEST", "spatial_mode"),
    ({"clips": pb.ClipSelection(num_clips=MAX_CLIPS + 1)}, "INVALID_ARGUMENT", "INVALID_REQUEST", "num_clips 65"),
    ({"clips": pb.ClipSelection(start_seconds=float("nan"))}, "INVALID_ARGUMENT", "INVALID_REQUEST", "finite"),
    ({"clips": pb.ClipSelection(end_seconds=-1)}, "INVALID_ARGUMENT", "INVALID_REQUEST", "not negative"),
    ({"clips": pb.ClipSelection(start_seconds=99)}, "INVALID_ARGUMENT", "INVALID_REQUEST", "40 frames"),
    (
        {"model": pb.ModelRef(name="pooled"), "spatial_mode": pb.FULLY_CONVOLUTIONAL},
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "no fully-convolutional crop",
    ),
    (
        {"path": "long.mp4", "clips": pb.ClipSelection(mode=pb.WINDOWS)},
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "100 windows",
    ),
]


@pytest.mark.parametrize(("fields", "code", "reason", "says"), REFUSALS)
def test_refusals(server: ServerProcess, fields: dict[str, Any], code: str, reason: str, says: str) -> None:
    if fields and not {"path", "video"} & set(fields):
        fields = {**fields, "path": "colors.mp4"}
    got_code, got_reason, message = refused(server, **fields)
    assert (got_code, got_reason) == (code, reason), message
    assert says in message
    assert len(predict(server, path="colors.mp4").top) == 4


def test_an_oversized_message_and_then_a_good_one_on_the_same_channel(server: ServerProcess, videos: Path) -> None:
    with server.stub() as stub:
        video = pb.Video(data=b"\0" * (MAX_MESSAGE_MB << 20))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(pb.PredictRequest(model=TINY, video=video), timeout=30)
        code, _, message = status_of(caught.value)
        assert code == "RESOURCE_EXHAUSTED"
        assert str(MAX_MESSAGE_MB << 20) in message
        good = pb.PredictRequest(model=TINY, video=pb.Video(data=(videos / "colors.mp4").read_bytes()))
        assert len(stub.Predict(good, timeout=30).top) == 4


def raw_call(server: ServerProcess, method: str, message: bytes) -> grpc.RpcError:
    """The error of a call that sends just these bytes."""
    with grpc.insecure_channel(server.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=30)
    return caught.value


def test_a_malformed_message(server: ServerProcess) -> None:
    assert status_of(raw_call(server, "Predict", b"\x0a\xff\xff"))[:2] == ("INVALID_ARGUMENT", "INVALID_REQUEST")


def test_a_method_that_is_not_there(server: ServerProcess) -> None:
    assert status_of(raw_call(server, "Train", b""))[0] == "UNIMPLEMENTED"


# -- health, reflection, metrics --------------------------------------------------------------------------------------


def health(channel: grpc.Channel, service: str) -> str:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def test_health_overall_for_the_service_and_for_each_model(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        for service in ("", SERVICE, "tiny", "pooled", "tiny/2", "tiny/10"):
            assert health(channel, service) == "SERVING"
        for failed in ("drifted", "drifted/1", "tiny/11"):
            assert health(channel, failed) == "NOT_SERVING"
        with pytest.raises(grpc.RpcError) as caught:
            health(channel, "huge")
        assert status_of(caught.value)[0] == "NOT_FOUND"


def test_reflection_names_the_service(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        ours = {SERVICE, MANAGEMENT, INFERENCE, "grpc.health.v1.Health"}
        assert ours <= set(database.get_services())
        assert database.FindFileContainingSymbol(INFERENCE).package == "inference"
        file = database.FindFileContainingSymbol(SERVICE)
        methods = pb.DESCRIPTOR.services_by_name["VideoRecognition"].methods
        assert [m.name for m in file.service[0].method] == [m.name for m in methods]


def test_metrics(server: ServerProcess) -> None:
    before = {
        "requests": metric(server, "tenclip_requests_total", method="Predict", code="OK"),
        "clips": metric(server, "tenclip_clips_total", model="tiny"),
        "decode": metric(server, "tenclip_stage_seconds_count", stage="decode"),
        "frames": metric(server, "tenclip_frames_decoded_total"),
    }
    report = predict(server, path="colors.mp4", clips=pb.ClipSelection(num_clips=3)).report
    assert metric(server, "tenclip_requests_total", method="Predict", code="OK") == before["requests"] + 1
    assert metric(server, "tenclip_clips_total", model="tiny") == before["clips"] + 3
    assert metric(server, "tenclip_stage_seconds_count", stage="decode") == before["decode"] + 1
    assert metric(server, "tenclip_frames_decoded_total") == before["frames"] + report.frames_decoded
    assert metric(server, "tenclip_requests_in_flight") == 0
    assert metric(server, "tenclip_model_info", name="tiny", version="10", runtime="openvino") == 1
    assert metric(server, "tenclip_models_failed") == 3
    assert metric(server, "process_resident_memory_bytes") > 0


def test_metrics_have_one_path(server: ServerProcess) -> None:
    with urllib.request.urlopen(f"http://{server.metrics_address}/", timeout=10) as answer:
        assert answer.read() == b"tenclip: the metrics are at /metrics\n"
    for path in ("/metrics/", "/metric", "/healthz"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://{server.metrics_address}{path}", timeout=10)
        with caught.value as refused_:
            assert refused_.code == 404


def test_request_ids_go_through(server: ServerProcess) -> None:
    with server.stub() as stub:
        request = pb.PredictRequest(model=TINY, video=pb.Video(path="colors.mp4"))
        response, call = stub.Predict.with_call(request, metadata=(("tenclip-request-id", "id-7"),), timeout=30)
    assert response.provenance.request_id == "id-7"
    assert dict(call.trailing_metadata())["tenclip-request-id"] == "id-7"
    wait_until(lambda: "request_id=id-7" in server.log)


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_concurrent_videos_each_get_their_own_answer(server: ServerProcess) -> None:
    frames = {"colors.mp4": 40, "bar.mp4": 80, "short.mp4": 2, "long.mp4": 400}
    names = list(frames) * 10
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda name: predict(server, path=name, include_features=True), names))
    for name, answer in zip(names, answers, strict=True):
        assert answer.video.num_frames == frames[name]
        assert answer.features == answers[names.index(name)].features
        assert answer.top == answers[names.index(name)].top


def test_a_video_whose_worker_is_killed_is_answered_all_the_same(one_model: Path, videos: Path) -> None:
    with running_server(one_model, "--allow-root", str(videos), "--decode-workers", "1") as server:
        for round_ in range(1, 3):
            (worker,) = server.decode_workers()
            worker.suspend()
            with ThreadPoolExecutor(1) as threads:
                answer = threads.submit(predict, server, path="colors.mp4")
                wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 1)
                worker.kill()
                assert answer.result().video.num_frames == 40
            wait_until(lambda: len(server.decode_workers()) == 1)
            assert metric(server, "tenclip_decode_worker_restarts_total", reason="died") == round_
            assert metric(server, "tenclip_decode_retries_total") == round_


def test_a_decode_that_takes_too_long_is_the_end_of_its_worker(one_model: Path, videos: Path) -> None:
    arguments = ("--allow-root", str(videos), "--decode-workers", "1", "--max-decode-seconds", "0.3")
    with running_server(one_model, *arguments) as server:
        (worker,) = server.decode_workers()
        worker.suspend()
        (code, reason, message), metadata = refused_with_metadata(server, path="colors.mp4")
        assert (code, reason) == ("UNAVAILABLE", "DECODE_WORKER_DIED")
        assert "took longer than the 0.3 seconds" in message
        # Nor may a client's retry policy send the same video to the next worker.
        assert metadata["grpc-retry-pushback-ms"] == "-1"
        assert metric(server, "tenclip_decode_worker_restarts_total", reason="timeout") == 1
        assert metric(server, "tenclip_decode_retries_total") == 0


def test_a_deadline_of_the_client(one_model: Path, videos: Path) -> None:
    with running_server(one_model, "--allow-root", str(videos), "--decode-workers", "1") as server:
        (worker,) = server.decode_workers()
        worker.suspend()
        with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
            stub.Predict(pb.PredictRequest(model=TINY, video=pb.Video(path="colors.mp4")), timeout=0.3)
        assert status_of(caught.value)[0] == "DEADLINE_EXCEEDED"
        worker.resume()
        assert len(predict(server, path="colors.mp4").top) == 4


def test_sigterm_finishes_what_runs_and_leaves_nothing(one_model: Path, videos: Path) -> None:
    arguments = ("--allow-root", str(videos), "--decode-workers", "2", "--shutdown-grace-seconds", "3600")
    with running_server(one_model, *arguments) as server:
        workers = server.decode_workers()
        assert len(workers) == 2
        for worker in workers:
            worker.suspend()
        with ThreadPoolExecutor(1) as threads, grpc.insecure_channel(server.address) as channel:
            states: list[str] = []
            watched = threading.Thread(target=lambda: watch_health(channel, states))
            watched.start()
            accepted = threads.submit(predict, server, path="colors.mp4")
            wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 1)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "NOT_SERVING" in states)
            for worker in workers:
                worker.resume()
            assert len(accepted.result().top) == 4
            assert server.process.wait(60) == 0
            watched.join(60)
        gone, alive = psutil.wait_procs(workers, timeout=60)
        assert (len(gone), alive) == (2, [])
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        assert "Traceback" not in server.log
        assert server.log.rstrip().endswith("stopped")


def test_sigterm_says_so_before_it_refuses(one_model: Path, videos: Path) -> None:
    arguments = ("--allow-root", str(videos), "--shutdown-delay-seconds", "3600")
    with running_server(one_model, *arguments) as server, grpc.insecure_channel(server.address) as channel:
        states: list[str] = []
        watched = threading.Thread(target=lambda: watch_health(channel, states))
        watched.start()
        wait_until(lambda: states == ["SERVING"])
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "NOT_SERVING" in states)
        assert health(channel, LIVENESS) == "SERVING"
        assert len(predict(server, path="colors.mp4").top) == 4
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 1
        watched.join(60)


def test_sigterm_waits_for_a_message_that_is_on_its_way(one_model: Path, videos: Path) -> None:
    with (
        running_server(one_model, "--allow-root", str(videos), "--shutdown-grace-seconds", "3600") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        arrives = threading.Event()

        def message() -> Iterator[pb.PredictRequest]:
            arrives.wait(60)
            yield pb.PredictRequest(model=TINY, video=pb.Video(path="colors.mp4"))

        # The same on the wire as a unary call, but with time between its headers and its message.
        call: Any = channel.stream_unary(
            "/tenclip.v1.VideoRecognition/Predict",
            request_serializer=pb.PredictRequest.SerializeToString,
            response_deserializer=pb.PredictResponse.FromString,
        )
        answer = call.future(message(), timeout=60)
        VideoRecognitionStub(channel).ListModels(pb.ListModelsRequest())  # after it, on the same connection
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "SIGTERM: stopping" in server.log)
        time.sleep(0.5)  # longer than a server waits that knows of nothing
        assert server.process.poll() is None
        arrives.set()
        assert len(answer.result().top) == 4
        assert server.process.wait(60) == 0


def watch_health(channel: grpc.Channel, states: list[str]) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        for answer in stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=240):
            states.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    except grpc.RpcError:
        pass  # the server has gone


def test_a_request_beyond_the_grace_is_cut_off(one_model: Path, videos: Path) -> None:
    arguments = ["--allow-root", str(videos), "--decode-workers", "1", "--shutdown-grace-seconds", "0.3"]
    with running_server(one_model, *arguments) as server:
        (worker,) = server.decode_workers()
        worker.suspend()
        with ThreadPoolExecutor(1) as threads:
            cut_off = threads.submit(refused, server, path="colors.mp4")
            wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 1)
            assert stop(server.process) == 0
            assert cut_off.result()[0] in ("UNAVAILABLE", "CANCELLED")
        psutil.wait_procs([worker], timeout=60)
        assert not worker.is_running()


def test_sigkill_leaves_no_orphans(one_model: Path) -> None:
    with running_server(one_model) as server:
        workers = server.decode_workers()
        server.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive


def test_a_second_signal_ends_it_at_once(one_model: Path, videos: Path) -> None:
    with running_server(one_model, "--allow-root", str(videos), "--decode-workers", "1") as server:
        (worker,) = server.decode_workers()
        worker.suspend()
        with ThreadPoolExecutor(1) as threads:
            lost = threads.submit(refused, server, path="colors.mp4")
            wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 1)
            server.process.send_signal(signal.SIGINT)
            wait_until(lambda: "SIGINT: stopping" in server.log)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 1
            assert lost.result()[0] == "UNAVAILABLE"
        worker.resume()
        psutil.wait_procs([worker], timeout=60)
        assert not worker.is_running()


# -- starting ---------------------------------------------------------------------------------------------------------


def test_one_model_no_roots_other_options(tmp_path: Path, videos: Path) -> None:
    make_bundle(tmp_path, "only")
    arguments = ["--runtime", "onnxruntime", "--threads", "1", "--log-format", "json", "--metrics-port", "-1"]
    with running_server(tmp_path, *arguments) as server:
        assert server.stdout.endswith("metrics off\n")
        response = predict(server, model=pb.ModelRef(), video=pb.Video(data=(videos / "colors.mp4").read_bytes()))
        assert response.provenance.runtime == "onnxruntime"
        code, reason, message = refused(server, model=pb.ModelRef(), path=str(videos / "colors.mp4"))
        assert (code, reason) == ("PERMISSION_DENIED", "PATH_NOT_ALLOWED")
        assert "--allow-root" in message
        lines = [json.loads(line) for line in server.log.splitlines()]
        assert any(line.get("reason") == "PATH_NOT_ALLOWED" for line in lines)
        assert any(line.get("reason") == "asked for" for line in lines)


def test_no_models_is_up_and_not_serving(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        assert server.stdout.startswith("tenclip serving 0 models")
        with grpc.insecure_channel(server.address) as channel:
            assert health(channel, "") == "NOT_SERVING"
            assert health(channel, LIVENESS) == "SERVING"
        code, reason, message = refused(server, path="a.mp4")
        assert (code, reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
        assert "holds no models" in message


def start_and_fail(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tenclip_serving", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_port_that_is_taken(one_model: Path, flag: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = str(sock.getsockname()[1])
        ports = {"--port": "0", "--metrics-port": "0", flag: taken}
        error = start_and_fail(str(one_model), *(part for pair in ports.items() for part in pair))
    assert f"127.0.0.1:{taken}" in error
    assert f"{flag} 0 takes a" in error


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("192.0.2.1", "cannot listen on 192.0.2.1:7511: the host is not this machine's"),
        ("nosuch.invalid", "cannot listen on nosuch.invalid:7511: the host's name cannot be resolved"),
        ("unix:/tmp/s.sock", "this server listens on TCP only"),
    ],
)
def test_a_host_to_listen_on_that_there_is_not(tmp_path: Path, host: str, says: str) -> None:
    make_bundle(tmp_path)
    error = start_and_fail(str(tmp_path), "--host", host, "--port", "7511")
    assert says in error
    assert "loading model" not in error


def test_what_is_wrong_is_said_before_models_are_loaded(tmp_path: Path) -> None:
    make_bundle(tmp_path / "models")
    tokens, pem = tmp_path / "tokens.toml", tmp_path / "no.pem"
    tokens.write_text("nonsense")
    pem.write_text("nonsense")
    for flags in (["--tokens-file", str(tokens)], ["--tls-certificate", str(pem), "--tls-key", str(pem)]):
        error = start_and_fail(str(tmp_path / "models"), "--port", "0", *flags)
        assert flags[1] in error
        assert "loading model" not in error


def test_ipv6(tmp_path: Path, videos: Path) -> None:
    if not socket.has_ipv6 or why_not_listen("::1", 0, option="--port"):
        pytest.skip("no IPv6 here")
    make_bundle(tmp_path)
    with running_server(tmp_path, "--host", "[::1]", "--runtime", "onnxruntime") as server:
        assert re.fullmatch(r"\[::1\]:\d+", server.address)
        assert re.fullmatch(r"\[::1\]:\d+", server.metrics_address or "")
        with Client(server.address) as client:
            assert [m.ref for m in client.list_models()] == ["tiny:1"]


def test_a_signal_while_models_are_loaded(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    (bundle / "labels.txt").unlink()
    os.mkfifo(bundle / "labels.txt")  # whoever reads it waits
    command = [sys.executable, "-m", "tenclip_serving", str(tmp_path), "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and process.stdout is not None  # noqa: PT018
        try:
            for line in process.stderr:
                if "loading model" in line:
                    break
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(60) == 0
            assert process.stdout.read() == ""
        finally:
            process.kill()
    assert "SIGTERM: stopping" in rest
    assert "stopped before the models were loaded" in rest


def test_what_cannot_start_says_so(one_model: Path, tmp_path: Path) -> None:
    assert "is not a directory" in start_and_fail(str(tmp_path / "absent"))
    assert "allowed root" in start_and_fail(str(one_model), "--allow-root", str(tmp_path / "absent"))


def test_check_only(models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tenclip_serving", "--check-only"]
    bad = subprocess.run([*command, str(models)], capture_output=True, text=True, timeout=60)
    assert bad.returncode == 1
    assert "ok      tiny/10: openvino" in bad.stdout
    assert "failed  drifted/1: " in bad.stdout
    make_bundle(tmp_path)
    assert subprocess.run([*command, str(tmp_path)], capture_output=True, timeout=60).returncode == 0


def test_importing_the_server_imports_no_torch() -> None:
    code = (
        "import sys, tenclip_serving.server, tenclip_serving.commands; "
        "print([m for m in ('torch', 'onnxruntime', 'openvino') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a_server_takes_all_the_descriptors_it_may_have() -> None:
    code = (
        "import resource; from tenclip_serving.server import raise_file_limit; "
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE); "
        "hard = 4000 if hard == resource.RLIM_INFINITY else min(hard, 4000); "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)); "
        "raise_file_limit(); assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
