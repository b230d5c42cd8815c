"""What a caller may call a video, and everything that is none."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tenclip_client import (
    EmptyVideo,
    InvalidRequest,
    NotAFile,
    ServerPath,
    ServerUri,
    VideoNotFound,
    VideoNotReadable,
)
from tenclip_client import _video as video_module
from tenclip_client._video import Pieces, VideoPayload, load_video


def test_path_as_text_and_as_path(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abc")
    expected = VideoPayload(name=str(path), data=b"abc")
    assert load_video(path) == load_video(str(path)) == expected
    assert load_video(path, name="shown") == VideoPayload(name="shown", data=b"abc")


@pytest.mark.parametrize("video", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_bytes(video: Any) -> None:
    assert load_video(video) == VideoPayload(name="<bytes>", data=b"abc")


def test_file_object_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abcdef")
    with path.open("rb") as file:
        file.seek(3)
        assert load_video(file) == VideoPayload(name=str(path), data=b"def")
        with pytest.raises(EmptyVideo, match=r"seek\(0\)"):
            load_video(file)
    assert load_video(io.BytesIO(b"xyz")) == VideoPayload(name="<file>", data=b"xyz")


def test_file_object_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abc")
    with path.open() as text, pytest.raises(InvalidRequest, match="binary mode"):
        load_video(text)  # type: ignore[arg-type]
    with path.open("rb") as closed:
        pass
    with pytest.raises(VideoNotReadable, match="closed file"):
        load_video(closed)


def test_server_path() -> None:
    assert load_video(ServerPath("a/b.mp4")) == VideoPayload(name="a/b.mp4", path="a/b.mp4")
    assert load_video(ServerPath("a/b.mp4"), name="b") == VideoPayload(name="b", path="a/b.mp4")
    for bad in ("", "a\udcff.mp4"):
        with pytest.raises(InvalidRequest, match="ServerPath"):
            load_video(ServerPath(bad))


@pytest.mark.parametrize("video", [None, 3, ["a.mp4"], object()])
def test_no_video_at_all(video: Any) -> None:
    with pytest.raises(InvalidRequest, match=type(video).__name__):
        load_video(video)


@pytest.mark.parametrize("name", ["gone.mp4", "", "file.mp4/inside.mp4", "nul\0.mp4", "x" * 300 + ".mp4"])
def test_missing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.mp4").write_bytes(b"abc")
    with pytest.raises(VideoNotFound, match="no such file"):
        load_video(name)


def test_missing_url_says_what_to_do() -> None:
    with pytest.raises(VideoNotFound, match="download it first"):
        load_video("https://example.org/a.mp4")


def test_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # socket names are limited to about 100 bytes
    os.mkfifo("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.mp4")
        for name, kind in ((".", "directory"), ("pipe.mp4", "pipe"), ("socket.mp4", "socket"), ("/dev/null", "device")):
            with pytest.raises(NotAFile, match=kind) as caught:
                load_video(name)
            assert caught.value.source == name


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    with pytest.raises(EmptyVideo, match=r"a\.mp4: is empty"):
        load_video(path, name="other name")
    with pytest.raises(EmptyVideo, match="<bytes>"):
        load_video(b"")


def test_not_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    with pytest.raises(VideoNotReadable, match="symbolic links"):
        load_video(loop)
    locked = tmp_path / "locked.mp4"
    locked.write_bytes(b"abc")
    locked.chmod(0)
    if os.access(locked, os.R_OK):  # root reads everything

        def refuse(*_: Any) -> None:
            raise PermissionError(13, "Permission denied", str(locked))

        monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(VideoNotReadable, match="Permission denied"):
        load_video(locked)


def whole(payload: VideoPayload) -> bytes:
    assert payload.pieces is not None
    assert payload.data == b""
    pieces = list(payload.pieces.read())
    assert all(0 < len(p) <= video_module.PIECE_BYTES for p in pieces)
    assert payload.pieces.size in (0, sum(map(len, pieces)))
    return b"".join(pieces)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_module, "INLINE_BYTES", 5)
    monkeypatch.setattr(video_module, "PIECE_BYTES", 4)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("size", [1, 5, 6, 8, 9, 17])
def test_beyond_a_limit_a_video_is_read_in_pieces(tmp_path: Path, size: int) -> None:
    data = bytes(range(1, size + 1))
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with path.open("rb") as file:
        payloads = [load_video(path), load_video(str(path)), load_video(data), load_video(file)]
        for payload in payloads:
            if size <= 5:
                assert (payload.data, payload.pieces) == (data, None)
            else:
                assert whole(payload) == data
                assert whole(payload) == data  # from the beginning, as often as one likes


@pytest.mark.usefixtures("small_limits")
def test_a_large_file_object_from_where_it_stands() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(2)
    payload = load_video(file, name="f")
    assert payload.pieces == Pieces(8, lambda: iter(()))
    assert whole(payload) == b"23456789"


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("size", [3, 5, 6, 30])
def test_a_pipe_of_any_length(size: int) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as end:
        end.write(b"x" * size)
    with os.fdopen(reader, "rb") as pipe:
        payload = load_video(pipe, name="stdin")
        assert (payload.data or whole(payload)) == b"x" * size
        assert payload.pieces is None or payload.pieces.size == 0


@pytest.mark.usefixtures("small_limits")
def test_a_file_that_fails_while_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789")
    payload = load_video(path)
    path.unlink()
    with pytest.raises(VideoNotFound, match=r"a\.mp4"):
        whole(payload)


def test_a_file_beyond_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no space
    payload = load_video(path)
    assert payload.pieces is not None
    assert payload.pieces.size == 1 << 40


def test_server_uri() -> None:
    uri = "https://media.example/a.mp4?token=secret"
    assert load_video(ServerUri(uri)) == VideoPayload(name="https://media.example/a.mp4", uri=uri)
    assert load_video(ServerUri("https://me:secret@media.example/a.mp4#t")).name == "https://media.example/a.mp4"
    assert load_video(ServerUri("file:/videos/a.mp4"), name="a").name == "a"
    assert str(ServerUri(uri)) == uri
    for bad in ("", "a.mp4", "https://a/\udcff.mp4"):
        with pytest.raises(InvalidRequest, match="ServerUri"):
            load_video(ServerUri(bad))


def test_names_that_are_no_utf8_can_be_sent(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(b"abc")
    assert load_video(path).name == rf"{tmp_path}/caf\xe9.mp4"
    assert load_video(b"abc", name="\udce9").name == r"\xe9"
