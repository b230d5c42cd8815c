"""Opening a video from a path, bytes or a file object: one place that knows FFmpeg's containers and errors.

Only containers on the list below are opened, so that a playlist, an image or a device cannot pass for a video, and
FFmpeg may use no protocol but the local file it was given.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from tenclip_api.errors import (
    EmptyVideo,
    NotAFile,
    NotAVideo,
    NoVideoStream,
    TruncatedVideo,
    UndecodableVideo,
    VideoNotFound,
    VideoNotReadable,
    VideoTooLarge,
)

VideoSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

_VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h263,h264,hevc,av1,obu,ivf,flv,live_flv,asf,ogg,"
    "gif,apng,webp_anim,mjpeg,nut,mxf,rm,wtv,dv,vc1,yuv4mpegpipe,swf,ea,gxf,nsv,cavsvideo,dirac"
)
# Opened too, so that they can be refused for what they are: audio without a picture.
_AUDIO_FORMATS = "mp3,wav,aac,flac,w64,aiff,au,amr,ac3,eac3,ape,tta,caf"
_FORMAT_OPTIONS = {
    "format_whitelist": f"{_VIDEO_FORMATS},{_AUDIO_FORMATS}",
    "protocol_whitelist": "file",
}
_SPOOL_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Ceilings that are checked before anything is decoded; None lifts one.

    The defaults admit 8K and a day of video at 24 frames a second, and keep a hostile header from allocating memory.
    """

    max_bytes: int | None = None
    max_pixels: int | None = 40_000_000
    max_frames: int | None = 2_100_000


@dataclass(frozen=True)
class Source:
    """Where a video comes from. `name` is what messages call it. Exactly one of `path` and `file` is set."""

    name: str
    path: Path | None
    file: BinaryIO | None


@contextmanager
def open_source(source: VideoSource, *, name: str | None, limits: Limits) -> Iterator[Source]:
    """Check that there is something to read, before FFmpeg sees it.

    Raises VideoNotFound, NotAFile, VideoNotReadable, EmptyVideo or VideoTooLarge, each with the name of the video.
    A file object is read from its beginning; one that cannot seek is spooled to a temporary file first.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        name = name or "<bytes>"
        _check_size(len(source), name, limits)
        yield Source(name, None, io.BytesIO(source))
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = name or str(path)
        _check_size(_size_of_file(path, name), name, limits)
        yield Source(name, path, None)
    elif source.seekable():
        name = name or str(getattr(source, "name", "<file>"))
        _check_size(source.seek(0, io.SEEK_END), name, limits)
        yield Source(name, None, source)
    else:
        name = name or str(getattr(source, "name", "<stream>"))
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            shutil.copyfileobj(source, spool)
            _check_size(spool.tell(), name, limits)
            yield Source(name, None, spool)  # type: ignore[arg-type]  # has all of BinaryIO that PyAV uses


def open_container(source: Source) -> InputContainer:
    """A fresh FFmpeg container at its beginning. Raises NotAVideo, TruncatedVideo or UndecodableVideo."""
    target: str | BinaryIO
    if source.path is not None:
        # The explicit protocol keeps names such as "concat:a|b" or "pipe:0" what they are here: names of files.
        target = f"file:{source.path}"
    else:
        assert source.file is not None
        source.file.seek(0)
        target = source.file
    try:
        return av.open(target, "r", options=dict(_FORMAT_OPTIONS), metadata_errors="ignore")
    except (av.FFmpegError, ValueError, OSError) as err:
        raise _open_error(source, err) from err


def video_stream(container: InputContainer, source: Source, limits: Limits) -> VideoStream:
    """The first stream of moving pictures. Raises NoVideoStream, or VideoTooLarge for its picture size."""
    streams = [s for s in container.streams.video if not _is_cover_art(s)]
    if not streams:
        kinds = sorted({s.type for s in container.streams if s.type})
        cover = " (its only picture is cover art)" if container.streams.video else ""
        found = f"its streams are: {', '.join(kinds)}{cover}" if kinds else "it holds no streams at all"
        raise NoVideoStream(f"{source.name}: no video stream; {found}", source=source.name)
    stream = streams[0]
    check_pixels(stream.codec_context.width, stream.codec_context.height, source.name, limits)
    return stream


def check_pixels(width: int, height: int, name: str, limits: Limits) -> None:
    """Raises VideoTooLarge when a picture of this size is beyond the limit."""
    if limits.max_pixels is not None and width * height > limits.max_pixels:
        raise VideoTooLarge(
            f"{name}: pictures of {width}x{height} = {width * height} pixels; at most {limits.max_pixels} are allowed",
            source=name,
        )


def _is_cover_art(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _check_size(size: int, name: str, limits: Limits) -> None:
    if size == 0:
        raise EmptyVideo(f"{name}: is empty (0 bytes)", source=name)
    if limits.max_bytes is not None and size > limits.max_bytes:
        raise VideoTooLarge(f"{name}: {size} bytes; at most {limits.max_bytes} are allowed", source=name)


def _size_of_file(path: Path, name: str) -> int:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise VideoNotFound(f"{name}: no such file", source=name) from None
    except (OSError, ValueError) as err:
        # ValueError: a NUL byte in the name; OSError: too long a name, no permission on a folder above.
        raise VideoNotReadable(f"{name!r}: {err}", source=name) from err
    if stat.S_ISDIR(status.st_mode):
        raise NotAFile(f"{name}: is a directory; name a video file in it", source=name)
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(f"{name}: is not a regular file", source=name)
    if not os.access(path, os.R_OK):
        raise VideoNotReadable(f"{name}: permission denied", source=name)
    return status.st_size


def _open_error(source: Source, err: Exception) -> NotAVideo | TruncatedVideo | UndecodableVideo:
    """Tell a file that is no video from one that was a video before it was cut off or damaged."""
    name = source.name
    reason = getattr(err, "strerror", None) or str(err)
    with source.path.open("rb") if source.path is not None else _rewound(source) as file:
        head = file.read(64)
        if _is_mp4(head):
            if b"moov" not in _mp4_boxes(file):
                return TruncatedVideo(
                    f"{name}: an MP4 without its index (no moov box): it was cut off before it was finished",
                    source=name,
                )
            return UndecodableVideo(f"{name}: an MP4 whose index is damaged ({reason})", source=name)
    if kind := _known_container(head):
        return UndecodableVideo(f"{name}: begins like {kind}, but cannot be opened ({reason})", source=name)
    return NotAVideo(
        f"{name}: not a video that tenclip reads ({reason}); MP4, MOV, MKV, WebM, AVI, MPEG-TS, FLV, WMV and GIF work",
        source=name,
    )


@contextmanager
def _rewound(source: Source) -> Iterator[BinaryIO]:
    assert source.file is not None
    source.file.seek(0)
    yield source.file


def _is_mp4(head: bytes) -> bool:
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def _known_container(head: bytes) -> str:
    signatures = {
        b"\x1aE\xdf\xa3": "Matroska or WebM",
        b"RIFF": "AVI",
        b"FLV": "FLV",
        b"0&\xb2u": "WMV",
        b"OggS": "Ogg",
        b"GIF8": "GIF",
        b"\x00\x00\x01\xba": "MPEG-PS",
    }
    return next((kind for magic, kind in signatures.items() if head.startswith(magic)), "")


def _mp4_boxes(file: BinaryIO) -> set[bytes]:
    """Names of the top-level boxes, as far as the file goes."""
    end = file.seek(0, io.SEEK_END)
    position, names = 0, set()
    while position + 8 <= end:
        file.seek(position)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        names.add(header[4:8])
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:  # 0: to the end of the file; 2..7: damaged
            break
        position += size
    return names
