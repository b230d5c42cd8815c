"""Both clients against a real server: the same tests, blocking and awaited (fixture `call`)."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import subprocess
import threading
import time
from array import array
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionServicer
from tenclip_client import (
    AsyncClient,
    Cancelled,
    Client,
    ClipUpdate,
    DeadlineExceeded,
    DecodeWorkerDied,
    InvalidRequest,
    MessageTooLarge,
    ModelNotFound,
    NotAVideo,
    Overloaded,
    Prediction,
    ServerError,
    ServerPath,
    ServerUnavailable,
    TenclipError,
    VersionNotFound,
    VideoFeatures,
    VideoNotFound,
    VideoNotReadable,
    VideoTooLarge,
)
from tenclip_client import _video as video
from tests.ports import free_port

from .conftest import Call
from .servicer import CLIPS, FEATURE_DIM, FakeRecognition, serving


def test_predict(call: Call, servicer: FakeRecognition, tmp_path: Path) -> None:
    path = tmp_path / "archery.avi"
    path.write_bytes(b"an archer")
    result = call("predict", path, top_k=3)
    assert isinstance(result, Prediction)
    assert len(result.top) == 3
    assert result.score == result.top[0].score >= result.top[1].score >= result.top[2].score > 0
    assert result.label == result.top[0].label
    assert result.clips == ()
    assert result.features is None
    assert result.timeline is None
    assert (result.video.width, result.video.codec, result.video.declared_frames) == (320, "mpeg4", 251)
    assert result.report.warnings == ("2 frames were lost",)
    assert (result.provenance.model, result.provenance.version) == ("actions", "2")
    assert result.provenance.timings == {"decode": 0.25, "run": 0.5}
    (request,) = servicer.requests
    assert request.video == pb.Video(data=b"an archer", name=str(path))
    assert request.clips == pb.ClipSelection()
    assert request.spatial_mode == pb.SPATIAL_MODE_UNSPECIFIED


def test_everything_at_once(call: Call, servicer: FakeRecognition) -> None:
    result = call(
        "predict",
        b"bytes",
        model="actions:2",
        clips="salient",
        num_clips=4,
        window_step=8,
        start=1.5,
        end=9,
        fully_convolutional=True,
        top_k=2,
        clip_scores=True,
        features=True,
        timeline=True,
        name="from memory",
    )
    assert [c.clip.index for c in result.clips] == [0, 1, 2, 3]
    assert result.clips[2].clip.looped
    assert result.clips[0].clip.frame_indices == tuple(range(16))
    assert all(len(c.top) == 2 for c in result.clips)
    assert result.features.dim == FEATURE_DIM
    assert len(result.features.clips) == 4
    assert result.timeline.scorer == "motion-energy"
    assert sum(p.selected for p in result.timeline.points) == 2
    assert servicer.requests == [
        pb.PredictRequest(
            model=pb.ModelRef(name="actions", version="2"),
            video=pb.Video(data=b"bytes", name="from memory"),
            clips=pb.ClipSelection(
                mode=pb.SALIENT, num_clips=4, window_step_frames=8, start_seconds=1.5, end_seconds=9
            ),
            spatial_mode=pb.FULLY_CONVOLUTIONAL,
            top_k=2,
            include_clip_scores=True,
            include_features=True,
            include_timeline=True,
        )
    ]


def test_extract_features(call: Call, servicer: FakeRecognition) -> None:
    result = call("extract_features", io.BytesIO(b"bytes"), clips="windows", fully_convolutional=False)
    assert isinstance(result, VideoFeatures)
    assert len(result.features.clips) == CLIPS
    values = result.features.clips[1].values
    assert isinstance(values, array)
    assert values.typecode == "f"
    assert len(values) == len(result.features.mean) == FEATURE_DIM
    assert result.features.mean[0] == pytest.approx(sum(c.values[0] for c in result.features.clips) / CLIPS)
    (request,) = servicer.requests
    assert request.spatial_mode == pb.POOLED
    assert request.clips.mode == pb.WINDOWS


def test_similar(call: Call, servicer: FakeRecognition) -> None:
    result = call("similar", b"bytes", index="clips", k=2, by_video=True, labels=["run"], without_videos=("a.mp4",))
    assert [(n.video, n.clip_index, n.labels) for n in result.neighbours] == [
        ("indexed.mp4", 0, ("run",)),
        ("indexed.mp4", 1, ("run",)),
    ]
    assert result.neighbours[1].score == pytest.approx(0.9)
    assert result.neighbours[1].query_clip.frame_indices == tuple(range(16))
    assert (result.index.name, result.index.clips, result.index.recall_at_10) == ("clips", 100, None)
    assert result.features is None
    assert result.to_dict()["neighbours"][0]["query_clip"]["index"] == 0
    assert call("list_indexes") == (result.index,)
    request, _ = servicer.requests
    assert request == pb.SimilarRequest(
        index="clips",
        k=2,
        by_video=True,
        labels=["run"],
        without_videos=["a.mp4"],
        clips=pb.ClipSelection(),
        model=pb.ModelRef(),
        video=pb.Video(data=b"bytes", name="<bytes>"),
    )


def test_named_protocol_and_server_path(call: Call, servicer: FakeRecognition) -> None:
    result = call("predict", ServerPath("kept/a.mp4"), protocol="center-clip")
    assert result.provenance.protocol == "center-clip"
    assert servicer.requests[0].video == pb.Video(path="kept/a.mp4", name="kept/a.mp4")


def test_models(call: Call) -> None:
    listed = call("list_models")
    assert len(listed) == 1
    assert [m.ref for m in listed] == ["actions:2"]
    assert listed.failed[0].error == "no bundle.json"
    model = listed.models[0]
    assert model.clip_spec == {"num_frames": 16, "crop": 112}
    assert model.protocols == ("ten-clip", "center-clip")
    assert (model.labels, model.bundle) == ((), {})
    full = call("get_model", "actions:2")
    assert full.labels[4] == "eating [hot] cake"
    assert full.bundle["speed"] == [{"runtime": "fake", "clips_per_second": 12.5}]


@pytest.mark.parametrize(("model", "error"), [("swimming", ModelNotFound), ("actions:9", VersionNotFound)])
def test_no_such_model(call: Call, model: str, error: type[TenclipError]) -> None:
    with pytest.raises(error):
        call("get_model", model)


def test_file_errors_need_no_network(call: Call, servicer: FakeRecognition, tmp_path: Path) -> None:
    with pytest.raises(VideoNotFound, match=r"gone\.mp4"):
        call("predict", tmp_path / "gone.mp4")
    assert servicer.requests == []


def test_deadline(call: Call) -> None:
    with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
        call("predict", b"sleep 5", timeout=0.2)


def test_deadline_of_the_client_and_none(call: Call) -> None:
    with pytest.raises(DeadlineExceeded):
        call("predict", b"sleep 5", client={"timeout": 0.2})
    assert call("predict", b"sleep 0.4", client={"timeout": 0.2}, timeout=None).top


def test_nobody_there(call: Call, nobody: str) -> None:
    with pytest.raises(ServerUnavailable, match=f"{nobody}: no server answers"):
        call("predict", b"bytes", client={"target": nobody, "retries": 0})


def test_unavailable_is_retried_for_videos_of_any_size(call: Call, servicer: FakeRecognition) -> None:
    # gRPC retries nothing beyond 256 KiB unless it is told to keep more.
    video = b"flaky 2 " + bytes(3 << 20)
    assert call("predict", video).top
    assert servicer.seen[video] == 3


def test_what_a_stopping_server_cancels_is_sent_again(call: Call, servicer: FakeRecognition) -> None:
    assert call("predict", b"stopping 2").top
    assert servicer.seen[b"stopping 2"] == 3


def test_no_retries(call: Call, servicer: FakeRecognition) -> None:
    with pytest.raises(ServerUnavailable, match="coming up"):
        call("predict", b"flaky 2", client={"retries": 0})
    assert servicer.seen[b"flaky 2"] == 1


def test_a_video_that_kills_its_decoder_is_not_sent_again(call: Call, servicer: FakeRecognition) -> None:
    with pytest.raises(DecodeWorkerDied):
        call("predict", b"crash")
    assert servicer.seen[b"crash"] == 1


def test_wait_for_ready(call: Call) -> None:
    late = FakeRecognition()
    port = free_port()

    def come_up() -> None:
        time.sleep(0.3)
        with serving(late, port=port):
            done.wait(60)

    done = threading.Event()
    thread = threading.Thread(target=come_up)
    thread.start()
    try:
        assert call("predict", b"bytes", client={"target": f"127.0.0.1:{port}", "wait_for_ready": True}, timeout=60).top
    finally:
        done.set()
        thread.join()


def test_wait_for_ready_ends_with_the_deadline(call: Call, nobody: str) -> None:
    with pytest.raises(DeadlineExceeded):
        call("predict", b"bytes", client={"target": nobody, "wait_for_ready": True}, timeout=0.2)


def test_message_beyond_the_server_limit_goes_in_pieces(call: Call) -> None:
    limit = [("grpc.max_receive_message_length", 1 << 20)]
    fake = FakeRecognition()
    with serving(fake, options=limit) as small:
        large = bytes(3 << 20) + b"!"
        assert call("predict", large, client={"target": small}).top
        assert call("extract_features", large, num_clips=2, client={"target": small}).features.dim == FEATURE_DIM
        assert call("predict", b"bytes", client={"target": small}).top
    assert [r.video.data for r in fake.requests] == [large, large, b"bytes"]
    assert fake.uploads == [(len(large), [512 << 10] * 6 + [1])] * 2


def test_message_beyond_the_limit_of_a_server_without_uploads(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRecognition, "PredictUpload", VideoRecognitionServicer.PredictUpload)
    with (
        serving(FakeRecognition(), options=[("grpc.max_receive_message_length", 1 << 20)]) as old,
        pytest.raises(MessageTooLarge, match=r"larger than max \(\d+ vs\. 1048576\)"),
    ):
        call("predict", bytes(2 << 20), client={"target": old})


def test_large_files_are_never_read_whole(call: Call, servicer: FakeRecognition, tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    path.write_bytes(b"large" + bytes(video.INLINE_BYTES))
    assert call("predict", path, name="shown", top_k=2).top
    (request,) = servicer.requests
    assert request.video == pb.Video(name="shown", data=path.read_bytes())
    assert request.top_k == 2
    ((announced, pieces),) = servicer.uploads
    assert announced == sum(pieces) == path.stat().st_size
    assert max(pieces) == video.PIECE_BYTES


def test_errors_of_an_upload_are_those_of_any_call(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "INLINE_BYTES", 4)
    for order, error in ((b"raise NOT_A_VIDEO", NotAVideo), (b"status INTERNAL", ServerError), (b"busy 1", Overloaded)):
        with pytest.raises(error):
            call("predict", order)
    with pytest.raises(DeadlineExceeded):
        call("predict", b"sleep 1", timeout=0.2)


def test_a_server_that_answers_before_the_end_of_an_upload(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: FakeRecognition, messages: Any, context: grpc.ServicerContext) -> Any:
        next(messages)
        context.set_trailing_metadata((("tenclip-reason", "VIDEO_TOO_LARGE"),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too large")

    monkeypatch.setattr(FakeRecognition, "PredictUpload", refuse)
    with serving(FakeRecognition()) as target, pytest.raises(VideoTooLarge, match="too large"):
        call("predict", bytes(video.INLINE_BYTES + 1), client={"target": target})


class BrokenFile(io.RawIOBase):
    left = 3

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "Input/output error")
        return b"x" * size


def test_a_file_that_cannot_be_read_to_its_end(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "INLINE_BYTES", 4)
    with pytest.raises(VideoNotReadable, match="Input/output error"):
        call("predict", BrokenFile(), name="broken")
    assert call("predict", b"good").top


def test_a_stream_is_every_clip_and_then_the_prediction(call: Call, servicer: FakeRecognition) -> None:
    *clips, last = call("predict_stream", b"bytes", num_clips=4, top_k=2, clip_scores=True)
    assert last == call("predict", b"bytes", num_clips=4, top_k=2, clip_scores=True)
    assert all(isinstance(c, ClipUpdate) for c in clips)
    assert [c.clip for c in clips] == list(last.clips)
    assert [(c.num_done, c.num_clips) for c in clips] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert clips[0].top == last.top
    json.dumps(clips[0].to_dict())
    assert servicer.requests[0] == servicer.requests[1]


def test_a_stream_of_an_upload(call: Call, servicer: FakeRecognition, monkeypatch: pytest.MonkeyPatch) -> None:
    inline = call("predict_stream", b"bytes" * 10)
    monkeypatch.setattr(video, "INLINE_BYTES", 4)
    monkeypatch.setattr(video, "PIECE_BYTES", 7)
    assert call("predict_stream", b"bytes" * 10) == inline
    assert servicer.uploads == [(50, [7] * 7 + [1])]
    with pytest.raises(NotAVideo):
        call("predict_stream", b"raise NOT_A_VIDEO")
    with pytest.raises(VideoNotReadable):
        call("predict_stream", BrokenFile())


def test_a_stream_that_is_too_large_for_one_message(call: Call) -> None:
    fake = FakeRecognition()
    with serving(fake, options=[("grpc.max_receive_message_length", 1 << 20)]) as small:
        *clips, last = call("predict_stream", bytes(2 << 20), client={"target": small})
    assert len(clips) == CLIPS
    assert isinstance(last, Prediction)
    assert [size for size, _ in fake.uploads] == [2 << 20]


@pytest.mark.parametrize(
    ("order", "error"), [(b"raise NOT_A_VIDEO", NotAVideo), (b"bug", ServerError), (b"busy 1", Overloaded)]
)
def test_errors_of_a_stream(call: Call, order: bytes, error: type[TenclipError]) -> None:
    with pytest.raises(error):
        call("predict_stream", order)


def test_what_is_wrong_with_a_streams_video_is_said_at_once(target: str) -> None:
    with Client(target) as client, pytest.raises(VideoNotFound):
        client.predict_stream("gone.mp4")  # nobody has asked for its first clip


@pytest.mark.parametrize("inline", [True, False])
def test_to_leave_a_stream_early_tells_the_server(
    target: str, servicer: FakeRecognition, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not inline:
        monkeypatch.setattr(video, "INLINE_BYTES", 4)
    with Client(target) as client:
        for update in client.predict_stream(b"stop_after 2"):
            assert isinstance(update, ClipUpdate)
            if update.num_done == 2:
                break
        assert servicer.released.wait(60)


@pytest.mark.parametrize("inline", [True, False])
def test_to_leave_an_asynchronous_stream_early_tells_the_server(
    target: str, servicer: FakeRecognition, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not inline:
        monkeypatch.setattr(video, "INLINE_BYTES", 4)

    async def leave() -> None:
        async with AsyncClient(target) as client, aclosing(client.predict_stream(b"stop_after 1")) as updates:
            async for update in updates:
                assert isinstance(update, ClipUpdate)
                break

    asyncio.run(leave())
    assert servicer.released.wait(60)


def test_large_answers_have_no_limit(call: Call) -> None:
    # 20,000 clips: beyond gRPC's default of 4 MiB.
    result = call("predict", b"bytes", num_clips=20_000, clip_scores=True)
    assert len(result.clips) == 20_000


def test_overloaded_says_when_to_come_back(call: Call) -> None:
    with pytest.raises(Overloaded) as caught:
        call("predict", b"busy 1")
    assert caught.value.retry_after_seconds == 0.05


def test_a_bug_of_the_server(call: Call) -> None:
    with pytest.raises(ServerError):
        call("predict", b"bug")


def test_the_next_request_after_an_error_is_fine(servicer: FakeRecognition, target: str) -> None:
    with Client(target) as client:
        for bad in (b"raise NOT_A_VIDEO", b"status INTERNAL", b"bug", b"raise OVERLOADED"):
            with pytest.raises(TenclipError):
                client.predict(bad)
            assert client.predict(b"good").top


def test_metadata_goes_with_every_call(call: Call, servicer: FakeRecognition) -> None:
    call("predict", b"bytes", client={"metadata": [("Authorization", "Bearer x")]})
    assert servicer.metadata[0]["authorization"] == "Bearer x"


def test_answer_with_nothing_in_it(call: Call) -> None:
    with pytest.raises(ServerError, match="no class scores"):
        call("predict", b"empty")


def test_tls(call: Call, tmp_path: Path) -> None:
    key, certificate = _self_signed(tmp_path)
    secure = grpc.ssl_server_credentials([(key, certificate)])
    with serving(FakeRecognition(), credentials=secure) as target:
        address = target.replace("127.0.0.1", "localhost")
        trusted = grpc.ssl_channel_credentials(certificate)
        assert call("predict", b"bytes", client={"target": address, "credentials": trusted}).top
        with pytest.raises(ServerUnavailable):
            call("predict", b"bytes", client={"target": address, "retries": 0}, timeout=60)


def _self_signed(folder: Path) -> tuple[bytes, bytes]:
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl command to make a certificate with")
    return key.read_bytes(), certificate.read_bytes()


def test_closed_client_says_so(target: str) -> None:
    client = Client(target)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.predict(b"bytes")

    async def later() -> None:
        other = AsyncClient(target)
        await other.close()
        with pytest.raises(RuntimeError, match="closed"):
            await other.predict(b"bytes")

    asyncio.run(later())


def test_closing_ends_calls_that_wait(target: str) -> None:
    client = Client(target, retries=0)
    timer = threading.Timer(0.3, client.close)
    timer.start()
    with pytest.raises(Cancelled):
        client.predict(b"sleep 3")
    timer.join()


def test_one_client_for_many_threads(target: str, servicer: FakeRecognition) -> None:
    results: list[Prediction] = []
    with Client(target) as client:
        threads = [threading.Thread(target=lambda: results.append(client.predict(b"same"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 8
    assert len({r.label for r in results}) == 1


def test_async_calls_run_side_by_side(target: str, servicer: FakeRecognition) -> None:
    async def all_at_once() -> list[Prediction]:
        async with AsyncClient(target) as client:
            return await asyncio.gather(*(client.predict(f"sleep 0.3 {i}".encode()[:9]) for i in range(6)))

    assert len(asyncio.run(all_at_once())) == 6
    assert servicer.most_at_once > 1


def test_cancelled_task_stays_cancelled(target: str) -> None:
    async def cancel() -> None:
        async with AsyncClient(target) as client:
            task = asyncio.create_task(client.predict(b"sleep 2"))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancel())


def test_async_client_can_be_made_before_there_is_a_loop(target: str) -> None:
    client = AsyncClient(target)

    async def use() -> Prediction:
        async with client:
            return await client.predict(b"bytes")

    assert asyncio.run(use()).top


@pytest.mark.parametrize("method", ["predict", "extract_features", "list_models", "get_model", "close"])
def test_both_clients_take_the_same_arguments(method: str) -> None:
    blocking, awaited = getattr(Client, method), getattr(AsyncClient, method)
    assert inspect.signature(blocking) == inspect.signature(awaited)
    assert inspect.iscoroutinefunction(awaited)


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"retries": 5},
        {"retries": -1},
        {"keepalive_seconds": 0},
        {"target": "a b"},
    ],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Client(**settings)


def test_repr(target: str) -> None:
    assert repr(Client(target)) == f"Client({target!r})"
