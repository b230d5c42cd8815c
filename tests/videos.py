"""Small encoded videos made on the spot, whose every frame says which one it is.

A frame shows its own number in black and white blocks over a moving pattern, so a decoded frame can be identified
exactly however it was scaled or compressed: `frame_number(numbered_frame(n, 48, 64)) == n`.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

# A number is shown in 3 rows of 4 blocks, the highest bit first.
_ROWS, _COLUMNS = 3, 4
MAX_FRAMES = 1 << (_ROWS * _COLUMNS)

# What an encoder is given where its pixel format is not 4:2:0.
_PIXEL_FORMATS = {"gif": "rgb8", "mjpeg": "yuvj420p", "ffv1": "yuv420p", "png": "rgb24", "apng": "rgb24"}

Painter = Callable[[int, int, int], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a video is made. Times are in seconds unless they say ticks.

    ticks: [num_frames] presentation times in units of `time_base`, for variable frame rates; None: evenly at `fps`.
    rotation, mirrored: degrees clockwise that a player must turn the frames, and whether it mirrors them left to right
    after that. display_matrix: (a, b, c, d) that shows the pixel (x, y) at (ax + cy, bx + dy), instead of these two.
    audio: add a second stream of sound.
    """

    codec: str = "libx264"
    container: str = "mp4"
    num_frames: int = 40
    width: int = 64
    height: int = 48
    fps: Fraction = Fraction(25)
    ticks: tuple[int, ...] | None = None
    time_base: Fraction | None = None
    gop: int = 12
    b_frames: int = 2
    pixel_format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    muxer_options: dict[str, str] = field(default_factory=dict)
    rotation: int = 0
    mirrored: bool = False
    display_matrix: tuple[float, float, float, float] | None = None
    audio: bool = False


def numbered_frame(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """uint8 RGB [height, width, 3] that shows `number` in blocks over a pattern that moves with it."""
    if not 0 <= number < MAX_FRAMES:
        raise ValueError(f"a frame can show 0..{MAX_FRAMES - 1}, not {number}")
    rows = np.minimum(np.arange(height) * _ROWS // height, _ROWS - 1)
    columns = np.minimum(np.arange(width) * _COLUMNS // width, _COLUMNS - 1)
    bit = _ROWS * _COLUMNS - 1 - (rows[:, None] * _COLUMNS + columns[None, :])  # [H, W]
    base = np.where((number >> bit) & 1, 215.0, 40.0)
    wave = 25 * np.sin((np.arange(width)[None, :] + 2 * np.arange(height)[:, None] + 3 * number) / 5)
    tint = np.array([0, 8, -8])
    return np.asarray(np.clip((base + wave)[..., None] + tint, 0, 255), np.uint8)


def frame_number(frame: NDArray[np.uint8]) -> int:
    """The number that a decoded frame [H, W, 3] shows."""
    height, width = frame.shape[:2]
    luma = frame.astype(np.float64).mean(axis=2)
    number = 0
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            # The middle half of the block: its edges are where compression and scaling smear.
            top, left = height * (4 * row + 1) / (4 * _ROWS), width * (4 * column + 1) / (4 * _COLUMNS)
            block = luma[
                int(top) : int(top + height / (2 * _ROWS)) + 1, int(left) : int(left + width / (2 * _COLUMNS)) + 1
            ]
            number = 2 * number + int(block.mean() > 128)
    return number


def frame_numbers(frames: NDArray[np.uint8]) -> list[int]:
    """The number that each of [M,H,W,3] shows."""
    return [frame_number(f) for f in frames]


def make_video(recipe: Recipe | None = None, *, paint: Painter = numbered_frame) -> bytes:
    """Encode a video as `recipe` says; `paint(number, height, width)` makes its frames, uint8 RGB [H,W,3]."""
    recipe = recipe or Recipe()
    with tempfile.TemporaryDirectory() as folder, _scheduling_kept():
        path = Path(folder) / "video"
        with av.open(str(path), "w", format=recipe.container, options=dict(recipe.muxer_options)) as container:
            stream = _add_video(container, recipe)
            sound = _add_sound(container, "aac") if recipe.audio else None
            for packet in _encode(stream, recipe, paint):
                container.mux(packet)
            if sound is not None:
                for audio_packet in _encode_sound(sound, recipe.num_frames / float(recipe.fps)):
                    container.mux(audio_packet)
        return path.read_bytes()


@contextlib.contextmanager
def _scheduling_kept() -> Iterator[None]:
    """SVT-AV1 gives the thread that opens it, where that is root's, SCHED_FIFO at priority 99.

    All that this thread starts afterwards would have that too, and keep every other process off its core.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


def make_sound(container: str = "mp4", seconds: float = 1.0, *, codec: str = "aac") -> bytes:
    """A file that holds sound and no pictures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        with av.open(str(path), "w", format=container) as out:
            for packet in _encode_sound(_add_sound(out, codec), seconds):
                out.mux(packet)
        return path.read_bytes()


def make_cover_art(container: str, *, codec: str) -> bytes:
    """Sound with a picture attached, as music players show: it has a video stream and is no video."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "song"
        with av.open(str(path), "w", format=container) as out:
            sound = _add_sound(out, codec, rate=44100)
            cover = out.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(numbered_frame(5, 48, 64), format="rgb24")
            for packet in [*cover.encode(picture), *cover.encode(None)]:
                out.mux(packet)
            for audio_packet in _encode_sound(sound, 1.0, rate=44100):
                out.mux(audio_packet)
        return path.read_bytes()


def remux(
    data: bytes,
    container: str,
    *,
    payload: Callable[[int, bytes], bytes] = lambda number, packet: packet,
    is_keyframe: Callable[[int, bool], bool] = lambda number, flag: flag,
) -> bytes:
    """The packets of a video in another container; `payload` and `is_keyframe` may change each, by number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        with av.open(io.BytesIO(data), "r") as source, av.open(str(path), "w", format=container) as out:
            template = source.streams.video[0]
            stream = out.add_stream_from_template(template)
            for number, packet in enumerate(p for p in source.demux(template) if p.size):
                copy = av.Packet(payload(number, bytes(packet)))
                copy.stream, copy.time_base = stream, template.time_base or Fraction(1, 1000)
                copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration or 0
                copy.is_keyframe = is_keyframe(number, packet.is_keyframe)
                out.mux(copy)
        return path.read_bytes()


def repeat_packets(data: bytes, times: int, *, container: str = "mp4") -> bytes:
    """The packets of a video `times` over, one after the other: hours of video in the time it takes to copy them."""
    with tempfile.TemporaryDirectory() as folder:
        source_path, path = Path(folder) / "source", Path(folder) / "long"
        source_path.write_bytes(data)
        with av.open(str(source_path)) as source, av.open(str(path), "w", format=container) as out:
            template = source.streams.video[0]
            stream = out.add_stream_from_template(template)
            packets = [
                (bytes(p), p.pts or 0, p.dts or 0, p.duration or 0, p.is_keyframe)
                for p in source.demux(template)
                if p.size
            ]
            length = sum(duration for _, _, _, duration, _ in packets)
            for turn in range(times):
                for payload, pts, dts, duration, is_keyframe in packets:
                    packet = av.Packet(payload)
                    packet.stream, packet.time_base = stream, template.time_base or Fraction(1, 1000)
                    packet.pts, packet.dts, packet.duration = pts + turn * length, dts + turn * length, duration
                    packet.is_keyframe = is_keyframe
                    out.mux(packet)
        return path.read_bytes()


def mp4_boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset, size) of each top-level box of an MP4."""
    position = 0
    while position + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[position : position + 8])
        if size == 1:
            (size,) = struct.unpack(">Q", data[position + 8 : position + 16])
        size = size or len(data) - position
        yield name, position, size
        position += size


def with_edit_list(data: bytes, *, skip_ticks: int) -> bytes:
    """An MP4 of one track whose edit list starts it `skip_ticks` (of the track's time base) later than it did."""
    at = data.index(b"elst")
    version, entries = data[at + 4], struct.unpack(">I", data[at + 8 : at + 12])[0]
    if version != 0 or entries != 1:
        raise ValueError(f"an edit list of version {version} with {entries} entries; this knows version 0 with 1")
    duration, start = struct.unpack(">Ii", data[at + 12 : at + 20])
    return data[: at + 12] + struct.pack(">Ii", duration, start + skip_ticks) + data[at + 20 :]


def decode_all(data: bytes | Path) -> Iterator[av.VideoFrame]:
    """Every frame, decoded in sequence by FFmpeg alone: what our own reader is held against."""
    with av.open(io.BytesIO(data) if isinstance(data, bytes) else str(data), "r") as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        stream.thread_type, stream.thread_count = "NONE", 1
        for packet in container.demux(stream):
            try:
                yield from stream.codec_context.decode(packet)
            except (av.FFmpegError, EOFError):
                continue


def _add_video(container: av.container.OutputContainer, recipe: Recipe) -> av.VideoStream:
    if recipe.codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes to standard error past FFmpeg's logging
    options = dict(recipe.options)
    stream = container.add_stream(recipe.codec, rate=recipe.fps, options=options)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height = recipe.width, recipe.height
    stream.pix_fmt = recipe.pixel_format or _PIXEL_FORMATS.get(recipe.codec, "yuv420p")
    context = stream.codec_context
    context.thread_count = 1
    context.gop_size = recipe.gop
    if recipe.codec in ("libx264", "libx265", "mpeg4", "mpeg2video", "mpeg1video"):
        context.max_b_frames = recipe.b_frames
    if recipe.codec == "libx265":
        options["x265-params"] = ":".join(filter(None, ["log-level=none:pools=1", options.get("x265-params")]))
        context.options = options
    context.time_base = stream.time_base = recipe.time_base or 1 / recipe.fps
    if recipe.display_matrix:
        a, b, c, d = (round(value * 65536) for value in recipe.display_matrix)
        stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
    elif recipe.rotation or recipe.mirrored:
        stream.set_display_rotation(-recipe.rotation, hflip=recipe.mirrored)
    return stream


def _add_sound(container: av.container.OutputContainer, codec: str, *, rate: int = 8000) -> av.AudioStream:
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, av.AudioStream)
    stream.codec_context.layout = "mono"
    return stream


def _encode(stream: av.VideoStream, recipe: Recipe, paint: Painter) -> Iterator[av.Packet[av.VideoStream]]:
    time_base = recipe.time_base or 1 / recipe.fps
    ticks: Sequence[int] = recipe.ticks or [round(i / recipe.fps / time_base) for i in range(recipe.num_frames)]
    if len(ticks) != recipe.num_frames:
        raise ValueError(f"{len(ticks)} times for {recipe.num_frames} frames")
    pixel_format = stream.pix_fmt or "yuv420p"
    for number, tick in enumerate(ticks):
        frame = av.VideoFrame.from_ndarray(paint(number, recipe.height, recipe.width), format="rgb24")
        frame = frame.reformat(format=pixel_format, threads=1)
        frame.pts, frame.time_base = tick, time_base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _encode_sound(stream: av.AudioStream, seconds: float, *, rate: int = 8000) -> Iterable[av.Packet[av.AudioStream]]:
    count = 1024
    for start in range(0, max(count, int(seconds * rate)), count):
        wave = 8000 * np.sin(2 * np.pi * 440 * np.arange(start, start + count) / rate)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def with_edits(data: bytes, edits: Sequence[tuple[int, int]]) -> bytes:
    """An MP4 of one track, its index at the end, with this edit list: (duration in ticks of the movie, first tick of
    the track) of each part that is shown; a first tick of -1 shows nothing for so long.
    """
    path = []
    start, end = 0, len(data)
    for name in (b"moov", b"trak", b"edts", b"elst"):
        at = next(start + offset for box, offset, _ in mp4_boxes(data[start:end]) if box == name)
        path.append(at)
        start, end = at + 8, at + struct.unpack(">I", data[at : at + 4])[0]
    entries = b"".join(struct.pack(">IiHH", duration, first, 1, 0) for duration, first in edits)
    body = struct.pack(">II", 0, len(edits)) + entries
    grown = bytearray(data[: path[-1] + 8] + body + data[end:])
    for at in path:
        size = struct.unpack(">I", data[at : at + 4])[0] + 8 + len(body) - (end - path[-1])
        grown[at : at + 4] = struct.pack(">I", size)
    return bytes(grown)
