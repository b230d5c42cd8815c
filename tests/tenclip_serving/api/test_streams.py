"""Predictions clip by clip, from a server process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tenclip_api.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import Client, ClipUpdate, Prediction
from tenclip_video.aggregate import RunningAverage
from tenclip_video.protocols import Averaging, video_probabilities
from tests.tenclip_serving.helpers import ServerProcess, running_server
from tests.tenclip_serving.test_server import TINY, metric, status_of, wait_until


def test_a_stream_is_every_clip_and_then_what_predict_answers(server: ServerProcess) -> None:
    request = pb.PredictRequest(
        model=TINY,
        video=pb.Video(path="bar.mp4"),
        clips=pb.ClipSelection(mode=pb.WINDOWS),
        top_k=3,
        include_clip_scores=True,
        include_features=True,
    )
    with server.stub() as stub:
        call = stub.PredictStream(request, timeout=30, metadata=(("tenclip-request-id", "streamed"),))
        *updates, last = list(call)
        whole = stub.Predict(request, timeout=30)
    assert dict(call.trailing_metadata())["tenclip-request-id"] == "streamed"
    assert last.result.provenance.request_id == "streamed"
    last.result.provenance.CopyFrom(whole.provenance)
    assert last.result == whole
    clips = [u.clip for u in updates]
    assert [c.num_done for c in clips] == list(range(1, 21))
    assert {c.num_clips for c in clips} == {20}
    in_order = sorted(clips, key=lambda c: c.clip.clip.index)
    assert [c.clip for c in in_order] == list(whole.clips)
    assert [t.label for t in clips[-1].top] == [t.label for t in whole.top]
    np.testing.assert_allclose([t.score for t in clips[-1].top], [t.score for t in whole.top], rtol=1e-4)
    assert clips[0].top == clips[0].clip.top
    assert metric(server, "tenclip_requests_total", method="PredictStream", code="OK") >= 1
    assert "method=PredictStream" in server.log


def test_a_stream_of_an_upload(server: ServerProcess, videos: Path) -> None:
    with Client(server.address) as client:
        inline = list(client.predict_stream(videos / "colors.mp4", model="tiny"))
        request = pb.PredictRequest(model=TINY, video=pb.Video(name="up.mp4"))
        data = (videos / "colors.mp4").read_bytes()
    messages = [pb.PredictUploadRequest(request=request), pb.PredictUploadRequest(chunk=data)]
    with server.stub() as stub:
        *updates, last = list(stub.PredictUploadStream(iter(messages), timeout=30))
    assert len(updates) == len(inline) - 1 == 10
    final = inline[-1]
    assert isinstance(final, Prediction)
    assert [t.score for t in last.result.top] == [t.score for t in final.top]
    assert "fetch" in {t.stage for t in last.result.provenance.timings}


@pytest.mark.parametrize(
    ("video", "status", "reason"),
    [
        (pb.Video(path="gone.mp4"), "NOT_FOUND", "VIDEO_NOT_FOUND"),
        (pb.Video(path="text.mp4"), "INVALID_ARGUMENT", "NOT_A_VIDEO"),
        (pb.Video(), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    ],
)
def test_errors_of_a_stream_are_those_of_predict(
    server: ServerProcess, video: pb.Video, status: str, reason: str
) -> None:
    with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        list(stub.PredictStream(pb.PredictRequest(model=TINY, video=video), timeout=30))
    assert status_of(caught.value)[:2] == (status, reason)


def test_a_caller_who_has_seen_enough_leaves_nothing_behind(server: ServerProcess, videos: Path) -> None:
    with Client(server.address) as client:
        for _ in range(5):
            for update in client.predict_stream(videos / "long.mp4", model="tiny", clips="uniform", num_clips=64):
                assert isinstance(update, ClipUpdate)
                break
        wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 0)
        wait_until(lambda: metric(server, "tenclip_in_flight_bytes") == 0)
        assert client.predict(videos / "colors.mp4", model="tiny").top


def test_an_upload_that_is_broken_off_ends_its_stream(server: ServerProcess) -> None:
    def endless() -> Iterator[Any]:
        yield pb.PredictUploadRequest(request=pb.PredictRequest(model=TINY), num_bytes=1 << 30)
        while True:
            yield pb.PredictUploadRequest(chunk=bytes(1000))

    with server.stub() as stub:
        call = stub.PredictUploadStream(endless(), timeout=30)
        wait_until(lambda: metric(server, "tenclip_spool_bytes") == 1 << 30)
        call.cancel()
    wait_until(lambda: metric(server, "tenclip_spool_bytes") == 0)
    wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 0)


def test_streams_of_the_open_inference_protocol_are_bounded(one_model: Path) -> None:
    """As many as there may be messages that come in: 2048 MiB of 512 each."""
    done = threading.Event()

    def silent() -> Iterator[Any]:
        done.wait(60)
        yield from ()

    with (
        running_server(one_model, "--max-message-mb", "512") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        calls = [stub.ModelStreamInfer(silent()) for _ in range(5)]
        wait_until(lambda: metric(server, "tenclip_refusals_total", reason="streams_full") == 1)
        done.set()
        codes = [call.code() for call in calls]
    assert codes.count(grpc.StatusCode.OK) == 4
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 1


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
def test_the_running_average_ends_as_the_average(averaging: Averaging) -> None:
    logits = np.random.default_rng(0).normal(size=(7, 5, 1)).astype(np.float32) * 3
    running = RunningAverage(averaging)
    for i in range(len(logits)):
        so_far = running.add(video_probabilities(logits[i : i + 1], averaging))
        np.testing.assert_allclose(so_far, video_probabilities(logits[: i + 1], averaging), rtol=1e-4)


def test_the_running_average_of_certain_clips_is_finite() -> None:
    running = RunningAverage("logits")
    running.add(np.array([1, 0], np.float32))
    np.testing.assert_allclose(running.add(np.array([0, 1], np.float32)), [0.5, 0.5], rtol=1e-5)
