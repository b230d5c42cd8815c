"""Opens a video from a path, bytes or a file object, and turns FFmpeg's errors into typed ones.

Only the container formats listed below are opened, so that a playlist, an image or a device cannot pass for a video.
FFmpeg may use no protocol but that of the local file that it was given, and none at all for bytes and file objects.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
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
    VideoError,
    VideoNotFound,
    VideoNotReadable,
    VideoTooLarge,
)
from tenclip_video.completeness import count_missing_bytes, count_readable_bytes, is_mp4, is_short_mpegts, mp4_boxes

VideoSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

_VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h263,h264,hevc,av1,obu,ivf,flv,live_flv,asf,ogg,"
    "gif,apng,webp_anim,mjpeg,nut,mxf,rm,wtv,dv,vc1,yuv4mpegpipe,swf,ea,gxf,nsv,cavsvideo,dirac"
)
# Audio formats are opened as well, so that the error can say "no video stream" instead of "not a video".
_AUDIO_FORMATS = "mp3,wav,aac,flac,w64,aiff,au,amr,ac3,eac3,ape,tta,caf"
# FFmpeg's names of every container that is opened.
FORMATS = f"{_VIDEO_FORMATS},{_AUDIO_FORMATS}"
# FFmpeg takes an empty whitelist for "all protocols".
_NO_PROTOCOL = "none"
_SPOOL_BYTES, _COPY_BYTES = 64 << 20, 1 << 20
# FFmpeg's own limits on pixels and streams are this many times the caller's. It decodes a few pictures and allocates
# its streams while it opens a file; with some headroom, a file that is a little too large is refused here, by its size.
_PROBE_HEADROOM = 4
# Where FFmpeg still reports no size, the file is opened once more with this limit on pixels, the default one.
_SECOND_LOOK_PIXELS = 40_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that are checked before any clip is decoded; None lifts one.

    max_bytes: size of the file. max_pixels: width times height of one picture. max_frames, max_seconds: of the frames
    that are there, whatever a header says. max_streams: video, sound, subtitles and data together.
    Error messages name them as a server's options: max_video_mb, max_pixels, max_frames, max_video_seconds,
    max_streams. The defaults admit 8K and a day of video at 24 frames a second.

    >>> Limits(max_seconds=60).max_seconds
    60
    """

    max_bytes: int | None = None
    max_pixels: int | None = 40_000_000
    max_frames: int | None = 2_100_000
    max_seconds: float | None = None
    max_streams: int | None = 100


@dataclass(frozen=True)
class Source:
    """A video's bytes: exactly one of `path` and `file` is set. Messages call it `name`.

    missing_bytes: how much shorter the file is than its container says; 0 where that cannot be told.
    format: FFmpeg's name of the container, where FFmpeg does not detect it itself.
    """

    name: str
    path: Path | None
    file: BinaryIO | None
    missing_bytes: int = 0
    format: str | None = None


@contextmanager
def open_source(source: VideoSource, *, name: str | None, limits: Limits) -> Iterator[Source]:
    """Check a source before FFmpeg sees it: it must exist, be readable, not empty and within `limits.max_bytes`.

    A file object is read from its beginning. One that cannot seek is copied to memory or a temporary file first.
    Raises VideoNotFound, NotAFile, VideoNotReadable, EmptyVideo or VideoTooLarge, each with the name of the video;
    TypeError for an object that is no path, bytes or binary file.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        name = name or "<bytes>"
        _check_size(len(source), name, limits)
        opened = Source(name, None, io.BytesIO(source))
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = name or os.fspath(source)
        if not os.fspath(source):
            raise VideoNotFound("the path of the video is empty")
        _check_size(_size_of_file(path, name), name, limits)
        opened = Source(name, path, None)
    elif not hasattr(source, "read") or isinstance(source, io.TextIOBase):
        raise TypeError(f"a video is a path, bytes or a binary file object, not {type(source).__name__}")
    else:
        name = name or str(getattr(source, "name", "<stream>"))
        if source.seekable():
            _check_size(source.seek(0, io.SEEK_END), name, limits)
            spool: AbstractContextManager[BinaryIO] = nullcontext(source)
        else:
            spool = _spooled(source, name, limits)
        with spool as file, _measured(Source(name, None, file)) as measured:
            yield measured
        return
    with _measured(opened) as measured:
        yield measured


@contextmanager
def _spooled(source: BinaryIO, name: str, limits: Limits) -> Iterator[BinaryIO]:
    """A copy of a stream that cannot seek: in memory, or in a temporary file if it is long."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
        while chunk := source.read(_COPY_BYTES):
            spool.write(chunk)
            _check_size(spool.tell(), name, limits)  # before a stream without an end fills the disk
        _check_size(spool.tell(), name, limits)
        yield spool  # type: ignore[misc]  # has all of BinaryIO that is used here


def open_container(source: Source, limits: Limits) -> InputContainer:
    """A new FFmpeg container that stands at its beginning.

    Raises NotAVideo, TruncatedVideo, UndecodableVideo or VideoTooLarge.
    """
    target: str | BinaryIO
    options = {"format_whitelist": FORMATS, "protocol_whitelist": _NO_PROTOCOL}
    if source.path is not None:
        # The explicit protocol keeps names such as "concat:a|b" or "pipe:0" what they are here: names of files.
        target = f"file:{source.path}"
        options["protocol_whitelist"] = "file"
    else:
        assert source.file is not None
        source.file.seek(0)
        target = source.file
    if limits.max_pixels is not None:
        options["max_pixels"] = str(_PROBE_HEADROOM * limits.max_pixels)
    if limits.max_streams is not None:
        options["max_streams"] = str(_PROBE_HEADROOM * limits.max_streams)
    try:
        container = av.open(target, "r", format=source.format, options=options, metadata_errors="ignore")
    except MemoryError as err:
        # FFmpeg reports too many streams, and absurd sizes in a damaged header, as a lack of memory, too.
        raise VideoTooLarge(
            f"{source.name}: opening it takes more memory than {_memory_there_is()}: its header is damaged, or it has "
            f"far more than the {limits.max_streams} streams that are allowed (max_streams)",
            source=source.name,
        ) from err
    except (av.FFmpegError, ValueError, OSError) as err:
        raise _open_error(source, err) from err
    try:
        _check_streams(len(container.streams), source.name, limits)
    except BaseException:
        container.close()
        raise
    return container


def video_stream(container: InputContainer, source: Source, limits: Limits) -> VideoStream:
    """The video stream that FFmpeg would play; cover art does not count.

    Raises NoVideoStream when there is none, UndecodableVideo for a codec without a decoder, TruncatedVideo where the
    stream's description is cut off, VideoTooLarge for its picture size.
    """
    streams = [s for s in container.streams.video if not is_cover_art(s)]
    if not streams:
        raise _no_stream_error(container, source)
    # A stream for which FFmpeg has no decoder has no codec context, although PyAV's types promise one.
    decodable = [s for s in streams if getattr(s, "codec_context", None) is not None]
    if not decodable and source.missing_bytes:
        raise TruncatedVideo(f"{source.name}: cut off within the description of its pictures", source=source.name)
    if not decodable:
        raise UndecodableVideo(
            f"{source.name}: its pictures are in a format for which there is no decoder, or its header is damaged",
            source=source.name,
        )
    best = container.streams.best("video")
    stream = next((s for s in decodable if best is not None and s.index == best.index), decodable[0])
    codec = stream.codec_context
    check_pixels(codec.width, codec.height, source.name, limits)
    if limits.max_pixels is not None and not codec.width * codec.height:
        further = replace(limits, max_pixels=max(limits.max_pixels, _SECOND_LOOK_PIXELS))
        check_pixels(*_size_at_second_look(source, stream.index, further), source.name, limits)
    if limits.max_pixels is not None:
        codec.options = {"max_pixels": str(limits.max_pixels)}  # for pictures that grow on the way
    return stream


def _size_at_second_look(source: Source, index: int, limits: Limits) -> tuple[int, int]:
    """(width, height) of a stream that FFmpeg opened without a size; (0, 0) if it has none.

    FFmpeg reports no size both for pictures beyond its own option max_pixels and for damaged headers.
    """
    # The first container stands somewhere in the same file object.
    position = None if source.file is None else source.file.tell()
    try:
        with open_container(source, limits) as container:
            stream = next((s for s in container.streams.video if s.index == index), None)
            codec = getattr(stream, "codec_context", None)
            return (0, 0) if codec is None else (codec.width, codec.height)
    except VideoError:
        return 0, 0  # it opened before: what is wrong with it comes out when it is decoded
    finally:
        if source.file is not None and position is not None:
            source.file.seek(position)


def _no_stream_error(container: InputContainer, source: Source) -> NoVideoStream | TruncatedVideo:
    kinds = sorted({s.type for s in container.streams if s.type})
    if "audio" not in kinds and source.missing_bytes:
        return TruncatedVideo(f"{source.name}: cut off before any stream is described", source=source.name)
    cover = " (its only picture is cover art)" if container.streams.video else ""
    found = f"its streams are: {', '.join(kinds)}{cover}" if kinds else "it holds no streams at all"
    return NoVideoStream(f"{source.name}: no video stream; {found}", source=source.name)


def out_of_memory(name: str, what: str = "decoding it") -> VideoTooLarge:
    """The error for a video for which memory ran out. what: was done for it."""
    return VideoTooLarge(f"{name}: {what} takes more memory than {_memory_there_is()}", source=name)


def _memory_there_is() -> str:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return "there is"
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return "there is" if limit == resource.RLIM_INFINITY else f"the {limit >> 20} MiB that this process may use"


def check_seconds(seconds: float, name: str, limits: Limits) -> None:
    """Raises VideoTooLarge when a video of this duration is beyond the limit."""
    if limits.max_seconds is not None and seconds > limits.max_seconds:
        raise VideoTooLarge(
            f"{name}: {seconds:.2f} seconds of video; at most {limits.max_seconds:g} are allowed (max_video_seconds)",
            source=name,
        )


def _check_streams(count: int, name: str, limits: Limits) -> None:
    if limits.max_streams is not None and count > limits.max_streams:
        raise VideoTooLarge(
            f"{name}: {count} streams; at most {limits.max_streams} are allowed (max_streams)", source=name
        )


def check_pixels(width: int, height: int, name: str, limits: Limits) -> None:
    """Raises VideoTooLarge when a picture of this size is beyond the limit."""
    if limits.max_pixels is not None and width * height > limits.max_pixels:
        raise VideoTooLarge(
            f"{name}: pictures of {width}x{height} = {width * height} pixels; at most {limits.max_pixels} are allowed "
            f"(max_pixels)",
            source=name,
        )


def check_scaled(size: tuple[int, int], scaled: tuple[int, int], name: str) -> None:
    """Raises VideoTooLarge for a picture so long and thin that scaling enlarges it beyond the default limit on pixels.

    size, scaled: (height, width), as it is shown and after a resize.
    """
    allowed = Limits().max_pixels
    pixels = scaled[0] * scaled[1]
    if allowed is not None and pixels > max(allowed, size[0] * size[1]):
        raise VideoTooLarge(
            f"{name}: {size[1]}x{size[0]} pixels would be scaled to {scaled[1]}x{scaled[0]}, and at most "
            f"{allowed} pixels are allowed",
            source=name,
        )


def is_cover_art(stream: VideoStream) -> bool:
    """A picture that comes with sound, and is no video."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _check_size(size: int, name: str, limits: Limits) -> None:
    if size == 0:
        raise EmptyVideo(f"{name}: is empty (0 bytes)", source=name)
    if limits.max_bytes is not None and size > limits.max_bytes:
        raise VideoTooLarge(f"{name}: {size} bytes; at most {limits.max_bytes} are allowed (max_video_mb)", source=name)


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


@contextmanager
def _measured(source: Source) -> Iterator[Source]:
    """`source` with its `missing_bytes`, and without an incomplete last fragment, which FFmpeg would refuse."""
    try:
        with _opened(source) as file:
            missing = count_missing_bytes(file)
            readable = count_readable_bytes(file) if missing else None
            short_mpegts = "mpegts" if is_short_mpegts(file) else None
    except OSError as err:
        raise VideoNotReadable(f"{source.name}: {err}", source=source.name) from err
    if readable is None:
        yield replace(source, missing_bytes=missing, format=short_mpegts)
        return
    with _opened(source) as file:
        yield Source(source.name, None, _Prefix(file, readable), missing)  # type: ignore[arg-type]  # what PyAV uses


class _Prefix(io.RawIOBase):
    """The first `size` bytes of a file that can seek."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            offset, whence = self._size + offset, io.SEEK_SET
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    """The bytes of a source from the beginning. Not for use while a container reads the same file object."""
    if source.path is not None:
        with source.path.open("rb") as file:
            yield file
    else:
        assert source.file is not None
        source.file.seek(0)
        yield source.file


def _open_error(source: Source, err: Exception) -> NotAVideo | TruncatedVideo | UndecodableVideo:
    """The error for a file that FFmpeg cannot open: no video at all, or a video that is cut off or damaged."""
    name = source.name
    reason = getattr(err, "strerror", None) or str(err)
    with _opened(source) as file:
        head = file.read(64)
        boxes = {box for box, _ in mp4_boxes(file)} if is_mp4(head) else set()
    kind = "an MP4" if boxes else _known_container(head)
    if boxes and b"moov" not in boxes:
        return TruncatedVideo(
            f"{name}: an MP4 without its index (no moov box): it was cut off before it was finished", source=name
        )
    if kind and source.missing_bytes:
        return TruncatedVideo(
            f"{name}: begins like {kind}, but is cut off: {source.missing_bytes} bytes are missing", source=name
        )
    if kind:
        return UndecodableVideo(f"{name}: begins like {kind}, but cannot be opened ({reason})", source=name)
    return NotAVideo(
        f"{name}: not a video that tenclip reads ({reason}); MP4, MOV, MKV, WebM, AVI, MPEG-TS, FLV, WMV and GIF work",
        source=name,
    )


def _known_container(head: bytes) -> str:
    if head.startswith(b"RIFF"):
        return "AVI" if head[8:12] == b"AVI " else ""
    signatures = {
        b"\x1aE\xdf\xa3": "Matroska or WebM",
        b"FLV": "FLV",
        b"0&\xb2u": "WMV",
        b"OggS": "Ogg",
        b"GIF8": "GIF",
        b"\x00\x00\x01\xba": "MPEG-PS",
    }
    return next((kind for magic, kind in signatures.items() if head.startswith(magic)), "")
