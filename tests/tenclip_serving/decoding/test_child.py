from __future__ import annotations

import math
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenclip_api.errors import EmptyVideo, InvalidRequest, TenclipError, VideoError, VideoNotFound
from tenclip_serving.decoding import shared_memory, worker_messages
from tenclip_serving.decoding.child import Channel, DecodeRequest, decode, serve
from tenclip_serving.decoding.worker_messages import Answer, ClipsWanted, Decoded, Failure, Fault, Ready
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tests.tenclip_serving.helpers import SPEC


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    a, b = socket.socketpair()
    with a, b:
        yield Channel(a), Channel(b)


def request(path: Path | str, **changes: object) -> DecodeRequest:
    values = {
        "source": str(path),
        "name": "the video",
        "spec": SPEC,
        "protocol": Protocol(selection=ClipSelection(num_clips=3)),
    }
    return DecodeRequest(**{**values, **changes})  # type: ignore[arg-type]


def test_channel_carries_messages_and_bytes(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    sender = threading.Thread(target=ours.send, args=(b"a message", b"x" * 3_000_000))
    sender.start()
    message, payload = theirs.receive(max_message=9, max_payload=3_000_000)
    sender.join()
    assert message == b"a message"
    assert payload == b"x" * 3_000_000
    ours.send(b"nothing else")
    message, payload = theirs.receive(max_message=100)
    assert (bytes(message), bytes(payload)) == (b"nothing else", b"")


@pytest.mark.parametrize(("message", "payload"), [(b"123456", b""), (b"12345", b"1"), (b"", b"12")])
def test_channel_takes_no_more_than_was_asked_for(
    pair: tuple[Channel, Channel], message: bytes, payload: bytes
) -> None:
    """What a worker sends without being asked is in nobody's budget."""
    pair[0].send(message, payload)
    with pytest.raises(ValueError, match=f"{len(message)} bytes with {len(payload)} more where 5 and 0 are taken"):
        pair[1].receive(max_message=5)


def test_channel_says_when_the_other_end_has_gone(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.sock.close()
    with pytest.raises(EOFError):
        ours.receive(max_message=100)
    with pytest.raises(EOFError):
        ours.send(b"x", b"y" * 10_000_000)


def test_channel_cut_off_in_the_middle_of_a_message(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.sock.sendall(b"\0" * 7 + b"\x64" + b"\0" * 8 + b"only this")
    theirs.sock.close()
    with pytest.raises(EOFError):
        ours.receive(max_message=1000)


def answered(*requests: tuple[DecodeRequest, bytes], shared: bool = True) -> list[TenclipError | tuple[Answer, bytes]]:
    """What `serve` answers, in a thread of this process: errors, or an answer with its pixels."""
    a, b = socket.socketpair()
    with a, b:
        thread = threading.Thread(target=serve, args=(Channel(b),))
        thread.start()
        channel = Channel(a)
        found: list[TenclipError | tuple[Answer, bytes]] = []
        assert isinstance(receive(channel)[0], Ready)
        for asked, data in requests:
            with shared_memory.closing(shared_memory.create_from(data) if shared and data else None) as descriptor:
                channel.send(pickle.dumps(asked), data if descriptor is None else b"", descriptor=descriptor)
            found.append(exchange(channel, shared))
        a.shutdown(socket.SHUT_RDWR)
        thread.join(20)
        assert not thread.is_alive()
    return found


def receive(channel: Channel) -> tuple[Answer, bytes]:
    message, payload = channel.receive(max_message=1 << 20, max_payload=1 << 30)
    return worker_messages.decode(message), bytes(payload)


def exchange(channel: Channel, shared: bool) -> TenclipError | tuple[Answer, bytes]:
    answer, _ = receive(channel)
    if not isinstance(answer, ClipsWanted):
        return answer.error() if isinstance(answer, Failure) else (answer, b"")
    with shared_memory.closing(shared_memory.create(math.prod(answer.shape)) if shared else None) as descriptor:
        channel.send(b"", descriptor=descriptor)
        decoded, payload = receive(channel)
        assert isinstance(decoded, Decoded)
        assert decoded.shape == answer.shape
        if descriptor is None:
            return decoded, payload
        assert payload == b""
        return decoded, shared_memory.map_writable(descriptor, decoded.shape).tobytes()


@pytest.mark.parametrize("shared", [True, False], ids=["shared memory", "socket"])
def test_answers_one_request_after_the_other(videos: Path, shared: bool) -> None:
    good = videos / "colors.mp4"
    missing, from_path, empty, from_bytes = answered(
        (request(videos / "absent.mp4"), b""),
        (request(good), b""),
        (request(videos / "empty.mp4"), b""),
        (request("ignored"), good.read_bytes()),
        shared=shared,
    )
    assert isinstance(missing, VideoNotFound)
    assert isinstance(empty, EmptyVideo)
    expected = read_clips(good, SPEC, Protocol(selection=ClipSelection(num_clips=3)))
    for answer in (from_path, from_bytes):
        assert isinstance(answer, tuple)
        decoded, pixels = answer
        assert isinstance(decoded, Decoded)
        assert decoded.preprocess_seconds > 0
        # Nothing else of it depends on the moment.
        assert decoded == Decoded.of(replace(expected, preprocess_seconds=decoded.preprocess_seconds))
        assert pixels == expected.clips.tobytes()


def test_a_plan_that_does_not_fit_the_video_is_an_invalid_request(videos: Path) -> None:
    (answer,) = answered(
        (request(videos / "colors.mp4", protocol=Protocol(selection=ClipSelection(start_seconds=99.0))), b"")
    )
    assert isinstance(answer, InvalidRequest)
    assert "the video has 40 frames in 2.000 s" in str(answer)


def test_a_bug_comes_back_as_a_fault_with_its_traceback(videos: Path) -> None:
    fault, after = answered((request(videos / "colors.mp4", spec=None), b""), (request(videos / "short.mp4"), b""))
    assert isinstance(fault, tuple)
    assert isinstance(fault[0], Fault)
    assert "Traceback" in fault[0].trace
    assert isinstance(after, tuple)
    assert isinstance(after[0], Decoded)


def test_out_of_memory_is_the_videos_error(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tenclip_serving.decoding.child.read_clips", starve)
    with pytest.raises(VideoError, match="the video: decoding it takes more memory than"):
        decode(request(videos / "colors.mp4"))


def test_a_worker_imports_neither_grpc_nor_a_runtime() -> None:
    code = (
        "import sys, tenclip_serving.decoding.child; "
        "print([m for m in ('grpc','google.protobuf','onnxruntime','openvino','torch','typer','prometheus_client',"
        "'cv2') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
