"""Videos that come in pieces, to a server process whose messages end at one MiB."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import Client, VideoTooLarge
from tenclip_serving.telemetry.metrics import STAGES
from tests.tenclip_serving.helpers import ServerProcess, running_server
from tests.tenclip_serving.test_server import metric, status_of, wait_until

MAX_UPLOAD_MB = 100


@pytest.fixture(scope="module")
def uploads(one_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """In its folder nothing may ever appear: spooled files have no names."""
    spool = tmp_path_factory.mktemp("spool")
    arguments = (
        "--spool-dir", str(spool), "--max-message-mb", "1", "--max-upload-mb", str(MAX_UPLOAD_MB),
        "--max-spool-mb", "150", "--max-arrival-seconds", "2",
        "--upload-idle-seconds", "3", "--decode-workers", "1",
    )  # fmt: skip
    with running_server(one_model, *arguments) as running:
        yield running
        assert list(spool.iterdir()) == []


def padded(path: Path, source: Path, size: int) -> Path:
    """`source`, an MP4, made `size` bytes long by a box that says "skip me". A sparse file: no larger on disk."""
    data = source.read_bytes()
    with path.open("wb") as file:
        file.write(data + (size - len(data)).to_bytes(4, "big") + b"free")
        file.truncate(size)
    return path


def messages(data: bytes, *, piece: int = 1000, announced: int | None = None, **fields: Any) -> list[Any]:
    """All messages of a PredictUpload."""
    request = pb.PredictRequest(video=pb.Video(name="up.mp4"), **fields)
    num_bytes = len(data) if announced is None else announced
    pieces = [pb.PredictUploadRequest(chunk=data[i : i + piece]) for i in range(0, len(data), piece)]
    return [pb.PredictUploadRequest(request=request, num_bytes=num_bytes), *pieces]


def refused(server: ServerProcess, sent: Iterator[Any] | list[Any], timeout: float = 60) -> tuple[str, str, str]:
    with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.PredictUpload(iter(sent), timeout=timeout)
    return status_of(caught.value)


def nothing_held(server: ServerProcess) -> bool:
    bytes_held = ("tenclip_spool_bytes", "tenclip_in_flight_bytes", "tenclip_requests_in_flight")
    return all(metric(server, name) == 0 for name in bytes_held)


def spooled_files(server: ServerProcess) -> list[str]:
    """Files without names that the server's process holds open."""
    folder = Path(f"/proc/{server.process.pid}/fd")
    targets = []
    for link in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(os.readlink(link))
    return [t for t in targets if "/spool" in t]


@pytest.mark.parametrize("announced", [None, 0])
def test_an_upload_is_answered_as_the_same_video_inline(
    uploads: ServerProcess, videos: Path, announced: int | None
) -> None:
    data = (videos / "colors.mp4").read_bytes()
    fields: dict[str, Any] = {"include_features": True, "include_clip_scores": True, "include_timeline": True}
    with uploads.stub() as stub:
        inline = stub.Predict(pb.PredictRequest(video=pb.Video(data=data, name="up.mp4"), **fields), timeout=30)
        sent = stub.PredictUpload(iter(messages(data, announced=announced, **fields)), timeout=30)
    assert {t.stage for t in sent.provenance.timings} == set(STAGES) - {"neighbours"}
    assert sent.provenance.request_id
    sent.provenance.CopyFrom(inline.provenance)
    assert sent == inline
    assert metric(uploads, "tenclip_requests_total", method="PredictUpload", code="OK") >= 1
    assert metric(uploads, "tenclip_stage_seconds_count", stage="fetch") >= 1


def test_the_client_sends_what_no_message_can_hold(uploads: ServerProcess, videos: Path, tmp_path: Path) -> None:
    large = padded(tmp_path / "large.mp4", videos / "colors.mp4", 65 << 20)
    with Client(uploads.address) as client:
        small = client.predict(videos / "colors.mp4", features=True)
        sent = client.predict(large, features=True)
        features = client.extract_features(large)
    assert sent.top == small.top
    assert sent.features == small.features == features.features
    wait_until(lambda: nothing_held(uploads))
    assert spooled_files(uploads) == []


def test_between_its_and_our_idea_of_a_large_message(uploads: ServerProcess, videos: Path, tmp_path: Path) -> None:
    medium = padded(tmp_path / "medium.mp4", videos / "colors.mp4", 2 << 20)  # the client tries it in one message first
    with Client(uploads.address) as client:
        assert client.predict(medium).top == client.predict(videos / "colors.mp4").top


def test_too_large_is_said_before_anything_is_sent(uploads: ServerProcess, videos: Path, tmp_path: Path) -> None:
    huge = padded(tmp_path / "huge.mp4", videos / "colors.mp4", 3 << 30)  # of which nothing is read
    with Client(uploads.address) as client, pytest.raises(VideoTooLarge, match=r"3072\.0 MiB .* 100\.0 MiB"):
        client.predict(huge)


@pytest.mark.parametrize(
    ("sent", "reason", "message"),
    [
        ([], "INVALID_REQUEST", "first message"),
        ([pb.PredictUploadRequest(chunk=b"x")], "INVALID_REQUEST", "first message"),
        ([pb.PredictUploadRequest()], "INVALID_REQUEST", "first message"),
        ([*messages(b"abc"), *messages(b"")], "INVALID_REQUEST", "pieces of the file only"),
        (
            [pb.PredictUploadRequest(request=pb.PredictRequest(video=pb.Video(path="a.mp4")))],
            "INVALID_REQUEST",
            r"video\.path must not be set",
        ),
        (messages(b"", announced=0), "EMPTY_VIDEO", "0 bytes"),
        (messages(b"abc", announced=4), "INVALID_REQUEST", "ended after 3 of the 4"),
        (messages(b"abcde", piece=2, announced=4), "INVALID_REQUEST", "more than the 4"),
        (messages(b"no video" * 200), "NOT_A_VIDEO", r"up\.mp4"),
        (messages(b"abc", model=pb.ModelRef(name="gone")), "MODEL_NOT_FOUND", "gone"),
        (messages(b"abc", protocol="gone"), "INVALID_REQUEST", "no protocol"),
        (messages(b"abc", announced=(MAX_UPLOAD_MB << 20) + 1), "VIDEO_TOO_LARGE", "max_upload_mb"),
        (messages(b"abc", announced=2**64 - 1), "VIDEO_TOO_LARGE", "max_upload_mb"),
    ],
)
def test_refused(uploads: ServerProcess, sent: list[Any], reason: str, message: str) -> None:
    status, got, details = refused(uploads, sent)
    assert (status, got) == ("NOT_FOUND" if reason == "MODEL_NOT_FOUND" else "INVALID_ARGUMENT", reason)
    assert re.search(message, details)
    wait_until(lambda: nothing_held(uploads))


def test_a_message_that_is_no_protobuf_is_told_so(uploads: ServerProcess) -> None:
    with grpc.insecure_channel(uploads.address) as channel:
        rpc: Any = channel.stream_unary("/tenclip.v1.VideoRecognition/PredictUpload")
        with pytest.raises(grpc.RpcError) as caught:
            rpc(iter([b"\xff\xff"]), timeout=60)
    assert status_of(caught.value)[:2] == ("INVALID_ARGUMENT", "INVALID_REQUEST")


def test_uploads_together_beyond_the_disk_are_refused_with_a_hint(uploads: ServerProcess) -> None:
    with uploads.stub() as stub:
        first = stub.PredictUpload.future(endless(announced=90 << 20), timeout=60)
        wait_until(lambda: metric(uploads, "tenclip_spool_bytes") == 90 << 20)
        with pytest.raises(grpc.RpcError) as caught:
            stub.PredictUpload(iter(messages(b"abc", announced=80 << 20)), timeout=60)
        assert status_of(caught.value)[:2] == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert isinstance(caught.value, grpc.Call)
        assert float(str(dict(caught.value.trailing_metadata() or ())["tenclip-retry-after-seconds"])) > 0
        assert metric(uploads, "tenclip_refusals_total", reason="spool_full") == 1
        first.cancel()
    wait_until(lambda: nothing_held(uploads))


def endless(*, announced: int = 0, stop_after: int | None = None) -> Iterator[Any]:
    """An upload that goes on as long as anyone listens; or that falls silent."""
    yield messages(b"", announced=announced)[0]
    sent = 0
    while stop_after is None or sent < stop_after:
        yield pb.PredictUploadRequest(chunk=bytes(16 << 10))
        sent += 1
        threading.Event().wait(0.01)
    threading.Event().wait(20)


def test_an_upload_that_falls_silent_is_given_up(uploads: ServerProcess) -> None:
    status, reason, details = refused(uploads, endless(stop_after=2))
    assert (status, reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert "of it came in 3 seconds" in details
    wait_until(lambda: nothing_held(uploads))


def test_an_upload_without_its_first_message_is_given_up(uploads: ServerProcess) -> None:
    silent = threading.Event()

    def nothing() -> Iterator[Any]:
        silent.wait(60)
        yield from ()

    status, reason, details = refused(uploads, nothing())
    silent.set()
    assert (status, reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert "the request was not here after 2 seconds" in details
    wait_until(lambda: nothing_held(uploads))


def test_a_deadline_in_the_middle_of_an_upload(uploads: ServerProcess) -> None:
    def ended() -> float:
        # Its caller hangs up at the same moment: the server may see that first.
        codes = ("DEADLINE_EXCEEDED", "CANCELLED")
        return sum(metric(uploads, "tenclip_requests_total", method="PredictUpload", code=code) for code in codes)

    before = ended()
    with uploads.stub() as stub:
        stub.ListModels(pb.ListModelsRequest(), timeout=60)  # connected: all of the deadline is the upload's
        with pytest.raises(grpc.RpcError) as caught:
            stub.PredictUpload(endless(), timeout=1)
    assert status_of(caught.value)[0] == "DEADLINE_EXCEEDED"
    wait_until(lambda: ended() == before + 1)
    wait_until(lambda: nothing_held(uploads))


def test_an_upload_that_is_broken_off_leaves_nothing(uploads: ServerProcess) -> None:
    with uploads.stub() as stub:
        rpcs = [stub.PredictUpload.future(endless(), timeout=60) for _ in range(4)]
        wait_until(lambda: len(spooled_files(uploads)) == 4)
        rpcs[0].cancel()
        rpcs[1].cancel()
        wait_until(lambda: len(spooled_files(uploads)) == 2)
    # The channel is closed: the connection itself has gone.
    wait_until(lambda: nothing_held(uploads))
    assert spooled_files(uploads) == []
