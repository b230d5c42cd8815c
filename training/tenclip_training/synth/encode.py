"""Frames to an MP4 file, and a frame to a JPEG or PNG file, that appear whole or not at all."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Encoder = Literal["libx264", "mpeg4"]
PART_SUFFIX: Final = ".part"  # of a file that is still being written


def available_encoder() -> Encoder:
    """libx264 (H.264) where FFmpeg has it, mpeg4 (MPEG-4 part 2) otherwise."""
    return "libx264" if "libx264" in av.codecs_available else "mpeg4"


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    ticks: Sequence[int],
    time_base: Fraction,
    frame_rate: Fraction,
    encoder: Encoder,
    crf: int = 18,
    gop: int = 12,
) -> None:
    """Encode uint8 RGB [H, W, 3] frames; frame n is shown from `ticks[n]` to `ticks[n + 1]`, in units of `time_base`.

    `ticks` therefore holds one more than there are frames. One thread, so that the same frames make the same file.
    Raises OSError or av.FFmpegError, and leaves no file behind then.
    """
    options = _options(encoder, crf, gop)
    if time_base * frame_rate != 1:
        # The MP4 muxer derives a track's length from decoding times, which B-frames shift: exact only at equal
        # intervals. Phones, where most such files come from, write none either.
        options["bf"] = "0"
    with _part(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=frame_rate, options=options)
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = stream.time_base = time_base
        for packet in _packets(stream, frames, ticks, time_base):
            container.mux(packet)


def write_image(path: Path, frame: NDArray[np.uint8], *, quality: int = 90) -> None:
    """Encode a uint8 RGB [H, W, 3] frame as the suffix of `path` says: .jpg, at `quality` of 1-100, or .png.

    Raises OSError, and leaves no file behind then.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
    with _part(path) as part:
        part.write_bytes(encoded.tobytes())


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when the block ends, and goes when it raises."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=PART_SUFFIX)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)  # mkstemp's files are private
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _packets(
    stream: av.VideoStream, frames: Iterable[NDArray[np.uint8]], ticks: Sequence[int], time_base: Fraction
) -> Iterator[av.Packet[av.VideoStream]]:
    # Encoders only guess the last frame's duration, and the file's with it: say every frame's.
    durations = {start: end - start for start, end in itertools.pairwise(ticks)}
    for packet in _encode(stream, zip(ticks, frames, strict=False), time_base):
        packet.duration = durations.get(packet.pts or 0, packet.duration)
        yield packet


def _encode(
    stream: av.VideoStream, frames: Iterable[tuple[int, NDArray[np.uint8]]], time_base: Fraction
) -> Iterator[av.Packet[av.VideoStream]]:
    for tick, frame in frames:
        if not stream.codec_context.is_open:
            stream.height, stream.width = frame.shape[:2]
            stream.pix_fmt = _pixel_format(frame, stream.codec_context.name)
        picture = _picture(frame)
        picture.pts, picture.time_base = tick, time_base
        yield from stream.encode(picture)
    yield from stream.encode(None)


def _options(encoder: Encoder, crf: int, gop: int) -> dict[str, str]:
    if encoder == "libx264":
        # With macroblock-tree rate control, libx264's AVX code is not deterministic at sides that 32 does not divide:
        # the same frames made 4 to 14 different files in 30 attempts, and one without it.
        return {"preset": "veryfast", "crf": str(crf), "g": str(gop), "mbtree": "0"}
    # No constant rate factor here: a fixed quantiser of 1-31; 18 -> 5 looks alike.
    quantiser = str(min(31, max(1, round(crf / 3.6))))
    return {"qmin": quantiser, "qmax": quantiser, "g": str(gop)}


def _pixel_format(frame: NDArray[np.uint8], encoder: str) -> str:
    """4:2:0 halves the chroma planes: libx264 refuses odd sides then, mpeg4 pads them and knows nothing else."""
    return "yuv420p" if encoder == "mpeg4" or _even(frame) else "yuv444p"


def _picture(frame: NDArray[np.uint8]) -> av.VideoFrame:
    if not _even(frame):
        return av.VideoFrame.from_ndarray(frame, format="rgb24")  # the stream converts it
    planes = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420), np.uint8)
    return av.VideoFrame.from_numpy_buffer(planes, "yuv420p")  # not copied


def _even(frame: NDArray[np.uint8]) -> bool:
    return all(side % 2 == 0 for side in frame.shape[:2])
