"""What is refused before, or by, opening a container: each with its own error, and with the name of the file."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

from tenclip_api.errors import (
    EmptyVideo,
    NoFrames,
    NotAFile,
    NotAVideo,
    NoVideoStream,
    TruncatedVideo,
    UndecodableVideo,
    VideoError,
    VideoNotFound,
    VideoNotReadable,
)
from tenclip_video.source import Limits, Source, check_pixels, open_source
from tenclip_video.spec import Resize
from tenclip_video.video import open_video
from tests.videos import Recipe, frame_numbers, make_cover_art, make_sound, make_video, mp4_boxes, numbered_frame


def refused(source: Path | bytes | str, error: type[VideoError], message: str) -> VideoError:
    with pytest.raises(error, match=message) as caught:
        open_video(source)
    assert type(caught.value) is error
    expected = "<bytes>" if isinstance(source, bytes) else str(source)
    assert caught.value.source == expected
    return caught.value


# -- paths ------------------------------------------------------------------------------------------------------------


def test_missing_files(tmp_path: Path, mp4_path: Path) -> None:
    refused(tmp_path / "none.mp4", VideoNotFound, r"none\.mp4: no such file")
    refused(tmp_path / "none" / "none.mp4", VideoNotFound, "no such file")
    refused(mp4_path / "below.mp4", VideoNotFound, "no such file")
    refused("", VideoNotFound, "the path of the video is empty")


def test_directories(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    refused(tmp_path / "folder.mp4", NotAFile, r"folder\.mp4: is a directory; name a video file in it")


def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    refused(tmp_path / "fifo.mp4", NotAFile, r"fifo\.mp4: is not a regular file")
    refused("/dev/zero", NotAFile, "is not a regular file")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        refused(tmp_path / "s", NotAFile, "is not a regular file")


def test_links(tmp_path: Path, mp4_path: Path) -> None:
    (tmp_path / "good.mp4").symlink_to(mp4_path)
    with open_video(tmp_path / "good.mp4") as video:
        assert video.info.num_frames == 40
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "none")
    refused(tmp_path / "dangling.mp4", VideoNotFound, "no such file")
    (tmp_path / "a.mp4").symlink_to(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    refused(tmp_path / "a.mp4", VideoNotReadable, "[Tt]oo many levels of symbolic links|[Ss]ymlink loop")


def test_permission_denied(mp4_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who reads everything
    refused(mp4_path, VideoNotReadable, r"video\.mp4: permission denied")


def test_files_that_vanish_or_fail_while_they_are_read(mp4_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    refused(mp4_path, VideoNotReadable, "Input/output error")


@pytest.mark.parametrize("name", ["a\0b.mp4", "x" * 300 + ".mp4"], ids=["NUL", "too long"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    refused(f"{tmp_path}/{name}", VideoNotReadable, "null|too long")


@pytest.mark.parametrize(
    "name",
    [
        "a b.mp4",
        "two\nlines.mp4",
        "100%.mp4",
        "%03d.mp4",
        "seven?*[x].mp4",
        "völund Ωмега 動画 🎬.mp4",
        "http:example.mp4",
        "concat:a.mp4|b.mp4",
        "pipe:0",
        "-i.mp4",
        "'quoted'.mp4",
        os.fsdecode(b"latin-\xe9.mp4"),
        "a%2Fb.mp4",
        "no extension",
        "wrong.txt",
    ],
)
def test_any_name_is_a_name(tmp_path: Path, mp4: bytes, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(mp4)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name), name):
        with open_video(path) as video:
            assert frame_numbers(video.read_frames([17], Resize(mode="none"))) == [17]


@pytest.mark.parametrize("name", ["concat:a.mp4|b.mp4", "pipe:0", "http://127.0.0.1:9/x.mp4", "lavfi:testsrc", "data:"])
def test_protocols_are_names_of_files_that_are_not_there(name: str) -> None:
    refused(name, VideoNotFound, "no such file")


# -- contents ---------------------------------------------------------------------------------------------------------


def test_empty_files(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    refused(tmp_path / "empty.mp4", EmptyVideo, r"empty\.mp4: is empty \(0 bytes\)")
    refused(b"", EmptyVideo, "is empty")
    with pytest.raises(EmptyVideo):
        open_video(io.BytesIO())


@pytest.mark.parametrize(
    "content",
    [
        b"Kept for the record.\n" * 200,
        b"a",
        b"\0",
        bytes(100_000),
        bytes(range(256)) * 50,
        b"<html><body>404 Not Found</body></html>",
        b'{"error": "expired"}',
        b"PK\x03\x04" + bytes(500),
        b"%PDF-1.7\n" + bytes(500),
        b"\x7fELF" + bytes(500),
    ],
)
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.mp4").write_bytes(content)
    error = refused(tmp_path / "text.mp4", NotAVideo, "not a video that tenclip reads")
    assert "MP4, MOV, MKV" in str(error)
    refused(content, NotAVideo, "not a video")


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".ppm"])
def test_pictures_are_no_videos(tmp_path: Path, extension: str) -> None:
    _, encoded = cv2.imencode(extension, numbered_frame(3, 64, 64))
    (tmp_path / "picture.mp4").write_bytes(encoded.tobytes())
    refused(tmp_path / "picture.mp4", NotAVideo, "not a video")


def playlists(target: Path) -> dict[str, str]:
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
        "master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000\n{target}\n",
        "concat": f"ffconcat version 1.0\nfile '{target}'\n",
        "concat without version": f"file '{target}'\nfile '{target}'\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{target}</BaseURL></MPD>',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "asx": f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
        "mjpeg list": f"--myboundary\nContent-Location: {target}\n",
        "subtitles": "1\n00:00:00,000 --> 00:00:10,000\nhello\n",
    }


@pytest.mark.parametrize("kind", playlists(Path()))
@pytest.mark.parametrize("extension", ["mp4", "m3u8", "ffconcat"])
def test_lists_that_name_other_files_are_not_followed(mp4_path: Path, kind: str, extension: str) -> None:
    """Nothing but the file that was named is read, though FFmpeg could."""
    path = mp4_path.with_name(f"list.{extension}")
    path.write_text(playlists(mp4_path)[kind])
    refused(path, NotAVideo, "not a video")
    refused(path.read_bytes(), NotAVideo, "not a video")


def test_quicktime_references_to_other_files_are_not_followed(mp4: bytes, mp4_path: Path) -> None:
    """A track may say that its frames lie in another file (data reference without the self-contained flag)."""
    moov = next(mp4[at : at + size] for name, at, size in mp4_boxes(mp4) if name == b"moov")
    at = moov.index(b"dref") + 12
    assert moov[at + 4 : at + 12] == b"url \0\0\0\1"
    other = mp4[: mp4.index(b"mdat") - 4] + moov.replace(b"url \0\0\0\1", b"url \0\0\0\0")
    path = mp4_path.with_name("reference.mp4")
    path.write_bytes(other)
    with pytest.raises(VideoError):
        open_video(path)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "adts", "flv"])
def test_sound_alone(container: str) -> None:
    refused(make_sound(container), NoVideoStream, "no video stream; its streams are: audio")


@pytest.mark.parametrize(("container", "codec"), [("mp3", "libmp3lame"), ("wav", "pcm_s16le"), ("flac", "flac")])
def test_sound_files(container: str, codec: str) -> None:
    refused(make_sound(container, codec=codec), NoVideoStream, "its streams are: audio")


@pytest.mark.parametrize(("container", "codec"), [("mp3", "libmp3lame"), ("mp4", "aac")])
def test_cover_art_is_no_video(container: str, codec: str) -> None:
    refused(make_cover_art(container, codec=codec), NoVideoStream, "its only picture is cover art")


def test_a_header_and_nothing_else() -> None:
    whole = make_video(Recipe(muxer_options={"movflags": "frag_keyframe+empty_moov"}))
    boxes = list(mp4_boxes(whole))
    refused(whole[: boxes[2][1]], NoFrames, r"its h264 stream holds no frames \(zero duration\)")
    refused(whole[: boxes[1][1]], TruncatedVideo, r"an MP4 without its index \(no moov box\)")


def test_mp4s_that_were_cut_off(mp4: bytes) -> None:
    refused(mp4[: len(mp4) // 2], TruncatedVideo, r"no moov box\): it was cut off before it was finished")
    refused(mp4[:-100], TruncatedVideo, "cut off")
    fast = make_video(Recipe(muxer_options={"movflags": "faststart"}))
    refused(fast[:400], TruncatedVideo, "cut off")


def test_indices_that_are_damaged(mp4: bytes) -> None:
    at = mp4.index(b"stsd")
    refused(
        mp4[:at] + bytes(40) + mp4[at + 40 :], UndecodableVideo, "no decoder, or its header is damaged|cannot be op"
    )


def test_codecs_that_no_one_knows(mp4: bytes) -> None:
    refused(mp4.replace(b"avc1", b"zzz9").replace(b"avcC", b"zzzC"), UndecodableVideo, "no decoder")


def test_frames_of_noise(mp4: bytes) -> None:
    start, size = next((at, size) for name, at, size in mp4_boxes(mp4) if name == b"mdat")
    noise = np.random.default_rng(0).bytes(size - 8)
    error = refused(mp4[: start + 8] + noise + mp4[start + size :], UndecodableVideo, "40 h264 frames, none of which")
    assert error.reason == "UNDECODABLE_VIDEO"


# -- what is no source at all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [None, 7, 1.5, ["a.mp4"], io.StringIO("text"), object()])
def test_other_types_are_the_callers_mistake(source: object) -> None:
    with pytest.raises(TypeError, match="a video is a path, bytes or a binary file object, not"):
        open_video(source)  # type: ignore[arg-type]


def test_check_pixels() -> None:
    check_pixels(0, 0, "x", Limits())
    check_pixels(10**6, 10**6, "x", Limits(max_pixels=None))
    with pytest.raises(VideoError, match=r"x: pictures of 100x101 = 10100 pixels; at most 10000 are allowed"):
        check_pixels(100, 101, "x", Limits(max_pixels=10_000))


def test_sources_by_kind(mp4_path: Path) -> None:
    with open_source(mp4_path, name=None, limits=Limits()) as source:
        assert source == Source(str(mp4_path), mp4_path, None)
    with open_source(b"\0\0\0\x10ftyp1234", name="upload", limits=Limits()) as source:
        assert (source.name, source.path, source.missing_bytes) == ("upload", None, 4)
