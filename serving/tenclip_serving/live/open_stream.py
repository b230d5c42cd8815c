"""Opens the container of a stream in the process of `child`, and turns FFmpeg's errors into typed ones.

FFmpeg connects to nothing by itself but the relay of an RTSP session, on this machine: bytes come through a descriptor.
"""

from __future__ import annotations

import errno
import time
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from tenclip_api.errors import (
    FetchFailed,
    InvalidRequest,
    NotAVideo,
    NoVideoStream,
    TenclipError,
    UndecodableVideo,
    VideoNotFound,
    VideoNotReadable,
)
from tenclip_serving.live.descriptor_file import DescriptorFile
from tenclip_serving.live.messages import OpenStream
from tenclip_video.source import FORMATS, check_pixels, is_cover_art

# Multipart JPEG, as cameras send it over HTTP.
_STREAM_FORMATS = f"{FORMATS},mpjpeg"
# How long FFmpeg looks at a stream before it believes to know what is in it, where headers do not tell.
_ANALYSE_MICROSECONDS = 1_000_000
# Of FFmpeg's statuses of HTTP, which RTSP has too.
_UNAUTHORIZED, _NOT_FOUND = ("Unauthorized", "Forbidden"), ("Not Found",)


def open_stream(request: OpenStream, file: DescriptorFile | None) -> tuple[InputContainer, VideoStream]:
    """The container, and the stream in it that FFmpeg would play.

    file: its bytes, where they come through a descriptor. Raises FetchFailed where a later attempt may succeed, and
    NotAVideo, NoVideoStream, UndecodableVideo, VideoNotFound, VideoNotReadable.
    """
    options = {"analyzeduration": str(_ANALYSE_MICROSECONDS)}
    started = time.monotonic()
    try:
        container = _open(request, file, options)
    except TenclipError:
        raise
    except (av.FFmpegError, ValueError, OSError, MemoryError) as err:
        raise _open_error(request, file, err, time.monotonic() - started) from err
    try:
        return container, _video_stream(container, request)
    except BaseException:
        container.close()
        raise


def _open(request: OpenStream, file: DescriptorFile | None, options: dict[str, str]) -> InputContainer:
    if file is not None:
        options |= {"format_whitelist": _STREAM_FORMATS, "protocol_whitelist": "none"}
        target: Any = file  # has all that PyAV uses
        opened: InputContainer = av.open(target, "r", format=request.format, options=options, metadata_errors="ignore")
        return opened
    assert request.target is not None
    if request.format == "rtsp":
        # Interleaved in the one connection that was judged: no other ports, and nothing is lost on the way.
        options |= {"rtsp_transport": "tcp", "protocol_whitelist": "tcp,rtp", "format_whitelist": "rtsp"}
    return av.open(
        request.target,
        "r",
        format=request.format,
        options=options,
        timeout=(request.open_seconds, request.idle_seconds),
        metadata_errors="ignore",
    )


def _video_stream(container: InputContainer, request: OpenStream) -> VideoStream:
    name = request.name
    streams = [s for s in container.streams.video if not is_cover_art(s)]
    if not streams:
        kinds = sorted({s.type for s in container.streams if s.type})
        found = f"its streams are: {', '.join(kinds)}" if kinds else "it holds no streams at all"
        raise NoVideoStream(f"{name}: no video stream; {found}", source=name)
    decodable = [s for s in streams if getattr(s, "codec_context", None) is not None]
    if not decodable:
        raise UndecodableVideo(f"{name}: its pictures are in a format for which there is no decoder", source=name)
    best = container.streams.best("video")
    stream = next((s for s in decodable if best is not None and s.index == best.index), decodable[0])
    codec = stream.codec_context
    check_pixels(codec.width, codec.height, name, request.limits)
    if request.limits.max_pixels is not None:
        codec.options = {"max_pixels": str(request.limits.max_pixels)}  # for pictures that grow on the way
    stream.thread_count = 1
    stream.thread_type = "NONE"
    return stream


def _open_error(request: OpenStream, file: DescriptorFile | None, err: Exception, seconds: float) -> TenclipError:
    name, why = request.name, what_failed(err)
    if any(word in str(err) for word in _UNAUTHORIZED):
        return VideoNotReadable(f"{name}: it wants another user and password ({why})", source=name)
    if any(word in str(err) for word in _NOT_FOUND):
        return VideoNotFound(f"{name}: there is no such stream ({why})", source=name)
    if file is None and request.format != "rtsp":
        return _device_error(request, err)
    if file is None:
        return FetchFailed(f"{name}: cannot be opened: {why}", source=name)
    if file.head.startswith(b"#EXTM3U"):
        return InvalidRequest(f"{name}: is a playlist (HLS); name a stream itself, e.g. MPEG-TS over HTTP, or RTSP")
    if file.timed_out:
        return FetchFailed(f"{name}: it sent nothing for {request.idle_seconds:g} seconds", source=name)
    if not file.num_bytes and not request.live:
        return NotAVideo(f"{name}: is empty (0 bytes)", source=name)
    if file.num_bytes < 1024 and request.live:
        return FetchFailed(f"{name}: ended after {file.num_bytes} bytes", source=name)
    return NotAVideo(
        f"{name}: not a stream that tenclip reads ({why}); MPEG-TS, FLV, Matroska, fragmented MP4 and motion JPEG work",
        source=name,
    )


def _device_error(request: OpenStream, err: Exception) -> TenclipError:
    name, number = request.name, getattr(err, "errno", None)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return VideoNotFound(f"{name}: no such device", source=name)
    if number in (errno.EACCES, errno.EPERM):
        return VideoNotReadable(f"{name}: permission denied; is this user in the group video?", source=name)
    if number == errno.EBUSY:
        return FetchFailed(f"{name}: another program is using it", source=name)
    return NotAVideo(f"{name}: is no webcam that can be opened ({what_failed(err)})", source=name)


def what_failed(err: BaseException) -> str:
    """In a few words."""
    if isinstance(err, av.error.ExitError):
        return "it does not answer in time"
    return str(getattr(err, "strerror", None) or err) or type(err).__name__
