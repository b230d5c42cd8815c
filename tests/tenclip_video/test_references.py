"""Files that name other files and addresses: nothing but the file itself is opened, and no one is called."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from tenclip_api.errors import NotAVideo, VideoError
from tenclip_video.video import open_video
from tests.hostile import CONTROLS, Witness, hostile_files, witness
from tests.videos import make_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
KINDS = tuple(hostile_files(make_video(), Path("/x"), 1))
EXTENSIONS = {"hls": "m3u8", "ffconcat": "ffconcat", "dash": "mpd", "sdp": "sdp", "mov": "mov", "asx": "asx"}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "target.mp4"
    path.parent.mkdir()
    path.write_bytes(make_video())
    return path


@pytest.fixture
def seen(target: Path) -> Iterator[Witness]:
    with witness(target) as watching:
        yield watching


def write(tmp_path: Path, kind: str, target: Path, seen: Witness, extension: str = "") -> Path:
    path = tmp_path / f"hostile.{extension or EXTENSIONS.get(kind.split()[0], 'txt')}"
    path.write_bytes(hostile_files(target.read_bytes(), target, seen.port)[kind])
    seen.touched()
    return path


@pytest.mark.parametrize("kind", CONTROLS)
def test_ffmpeg_alone_would_follow_it(tmp_path: Path, target: Path, seen: Witness, kind: str) -> None:
    path = write(tmp_path, kind, target, seen)
    with contextlib.suppress(av.FFmpegError), av.open(str(path), options=CONTROLS[kind], timeout=5) as container:
        for _ in container.decode(video=0):
            break
    assert seen.touched()


@pytest.mark.parametrize("extension", ["", "mp4", "avi"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is_opened(tmp_path: Path, target: Path, seen: Witness, kind: str, extension: str) -> None:
    path = write(tmp_path, kind, target, seen, extension)
    data = path.read_bytes()
    for source in (path, data):
        with pytest.raises(VideoError) as caught:
            open_video(source)
        assert seen.touched() == []
        if kind != "mov alias":
            assert type(caught.value) is NotAVideo


def test_bytes_may_use_no_protocol_at_all(mp4: bytes, mp4_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    real: Any = av.open

    def record(*args: Any, **options: Any) -> Any:
        given.append(options["options"])
        return real(*args, **options)

    monkeypatch.setattr(av, "open", record)
    for source in (mp4, mp4_path):
        with open_video(source) as video:
            assert video.info.num_frames == 40
    protocols = [options["protocol_whitelist"] for options in given]
    assert protocols == ["none", "file"]
    assert all("hls" not in options["format_whitelist"].split(",") for options in given)
