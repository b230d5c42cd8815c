from __future__ import annotations

import math
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import EmptyVideo, InvalidRequest, VideoError, VideoNotFound, error_classes
from tenclip_serving import memory
from tenclip_serving.decode_worker import READY, Channel, ClipsWanted, DecodeRequest, WorkerFault, decode, serve
from tenclip_video.clips import VideoClips, read_clips
from tenclip_video.sampling import ClipSelection

from .helpers import SPEC


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    a, b = socket.socketpair()
    with a, b:
        yield Channel(a), Channel(b)


def request(path: Path | str, **changes: object) -> DecodeRequest:
    values = {"source": str(path), "name": "the video", "spec": SPEC, "selection": ClipSelection(num_clips=3)}
    return DecodeRequest(**{**values, **changes})  # type: ignore[arg-type]


def test_channel_carries_objects_and_bytes(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    sender = threading.Thread(target=ours.send, args=(request("a.mp4"), b"x" * 3_000_000))
    sender.start()
    message, payload = theirs.receive()
    sender.join()
    assert message == request("a.mp4")
    assert payload == b"x" * 3_000_000
    ours.send("nothing else")
    message, payload = theirs.receive()
    assert (message, bytes(payload)) == ("nothing else", b"")


def test_channel_says_when_the_other_end_has_gone(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.sock.close()
    with pytest.raises(EOFError):
        ours.receive()
    with pytest.raises(EOFError):
        ours.send("x", b"y" * 10_000_000)


def test_channel_cut_off_in_the_middle_of_a_message(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.sock.sendall(b"\0" * 7 + b"\x64" + b"\0" * 8 + b"only this")
    theirs.sock.close()
    with pytest.raises(EOFError):
        ours.receive()


@pytest.mark.parametrize(
    "error",
    [
        cls("said this", source="a.mp4") if issubclass(cls, VideoError) else cls("said this")
        for cls in error_classes().values()
    ],
    ids=lambda e: type(e).__name__,
)
def test_every_error_keeps_its_class(pair: tuple[Channel, Channel], error: Exception) -> None:
    pair[0].send(error)
    received, _ = pair[1].receive()
    assert type(received) is type(error)
    assert str(received) == "said this"
    assert getattr(received, "source", None) == getattr(error, "source", None)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo taken over",)


class Indirect:
    def __reduce__(self) -> tuple[Any, ...]:
        import tenclip_serving.workers

        return tenclip_serving.workers.DecodeWorker, ()


@pytest.mark.parametrize("message", [Attack(), Indirect(), Path("x"), [Attack()], threading.Event])
def test_nothing_but_our_own_classes_is_unpickled(pair: tuple[Channel, Channel], message: object) -> None:
    """A worker that a hostile file has taken over must not take over the server."""
    pair[0].send(message)
    with pytest.raises(pickle.UnpicklingError, match="is not allowed between server and decode worker"):
        pair[1].receive()


def test_no_dotted_names_through_our_own_modules(pair: tuple[Channel, Channel]) -> None:
    pickled = b"\x80\x04\x8c\x16tenclip_video.sampling\x8c\x08np.array\x93."
    pair[0].sock.sendall(len(pickled).to_bytes(8, "big") + (0).to_bytes(8, "big") + pickled)
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        pair[1].receive()


def answers(*requests: tuple[DecodeRequest, bytes], shared: bool = True) -> list[object]:
    """What `serve` answers, in a thread of this process: errors, faults, or (result, shape, pixels)."""
    a, b = socket.socketpair()
    with a, b:
        thread = threading.Thread(target=serve, args=(Channel(b),))
        thread.start()
        channel, found = Channel(a), []
        assert channel.receive()[0] == READY
        for asked, data in requests:
            with memory.closing(memory.create_from(data) if shared and data else None) as descriptor:
                channel.send(asked, data if descriptor is None else b"", descriptor=descriptor)
            found.append(exchange(channel, shared))
        a.shutdown(socket.SHUT_RDWR)
        thread.join(20)
        assert not thread.is_alive()
    return found


def exchange(channel: Channel, shared: bool) -> object:
    message, _ = channel.receive()
    if not isinstance(message, ClipsWanted):
        return message
    with memory.closing(memory.create(math.prod(message.shape)) if shared else None) as descriptor:
        channel.send(READY, descriptor=descriptor)
        (result, shape), payload = channel.receive()
        assert shape == message.shape
        if descriptor is None:
            return result, shape, bytes(payload)
        assert payload == b""
        return result, shape, memory.map_writable(descriptor, shape).tobytes()


@pytest.mark.parametrize("shared", [True, False], ids=["shared memory", "socket"])
def test_answers_one_request_after_the_other(videos: Path, shared: bool) -> None:
    good = videos / "colors.mp4"
    missing, from_path, empty, from_bytes = answers(
        (request(videos / "absent.mp4"), b""),
        (request(good), b""),
        (request(videos / "empty.mp4"), b""),
        (request("ignored"), good.read_bytes()),
        shared=shared,
    )
    assert isinstance(missing, VideoNotFound)
    assert isinstance(empty, EmptyVideo)
    expected = read_clips(good, SPEC, ClipSelection(num_clips=3))
    for answer in (from_path, from_bytes):
        assert isinstance(answer, tuple)
        result, shape, pixels = answer
        assert isinstance(result, VideoClips)
        assert len(result.clips) == 0
        assert shape == expected.clips.shape
        assert pixels == expected.clips.tobytes()
        assert (result.plan, result.seconds) == (expected.plan, expected.seconds)


def test_a_plan_that_does_not_fit_the_video_is_an_invalid_request(videos: Path) -> None:
    (answer,) = answers((request(videos / "colors.mp4", selection=ClipSelection(start_seconds=99.0)), b""))
    assert isinstance(answer, InvalidRequest)
    assert "the video has 40 frames in 2.000 s" in str(answer)


def test_a_bug_comes_back_as_a_fault_with_its_traceback(videos: Path) -> None:
    fault, after = answers((request(videos / "colors.mp4", spec=None), b""), (request(videos / "short.mp4"), b""))
    assert isinstance(fault, WorkerFault)
    assert "Traceback" in fault.trace
    assert isinstance(after, tuple)


def test_out_of_memory_is_the_videos_error(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tenclip_serving.decode_worker.read_clips", starve)
    with pytest.raises(VideoError, match="the video: decoding it takes more memory than"):
        decode(request(videos / "colors.mp4"))


def test_a_worker_imports_neither_grpc_nor_a_runtime() -> None:
    code = (
        "import sys, tenclip_serving.decode_worker; "
        "print([m for m in ('grpc','google.protobuf','onnxruntime','openvino','torch','typer','prometheus_client') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
