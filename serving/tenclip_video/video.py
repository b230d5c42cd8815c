"""One open video: what it is, and any of its frames by index.

    with open_video("run.mp4") as video:
        print(video.info.num_frames, video.info.frames_per_second)
        frames = video.read_frames([0, 10, 20], Resize(height=128, width=171))  # uint8 [3,128,171,3]

Only what the asked-for frames need is decoded: the reader jumps to the keyframe before the next frame whenever that
saves decoding, and on its way drops frames that no other frame refers to. Frames are recognised by presentation time,
so variable frame rates, edit lists and reordering need no care. Memory is that of the frames asked for, however long
the video is, or of one frame (`read_into`).

A plan costs what its frames are decoded from (`make bench ARGS=decode`). Ten clips of 8 frames from a minute are 7.0
and 4.7 times faster than all of it with a keyframe every 30 and 60 frames, and 2.3 to 2.6 times with one every 250,
x264's default: most clips then lie far behind their keyframe, and the frames between, to which others refer,
must be decoded.

Tried and left out: frame threads (they fill a pipeline that each seek empties again); skipping the loop filter or all
B-frames on the way to a target (faster, but later frames refer to them and change; of a B-pyramid's middle frames only
the macroblocks would tell whether any does); the decoder's `fast` flag and H.264's `enable_er=0` (no faster). The
decoder is emptied once the last packet that matters is in, rather than fed until the frame appears: fewer to decode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray

from tenclip_video.decoder import FrameDecoder
from tenclip_video.frame_reader import FrameReader, FrameSink, Outlet, ReadRequest
from tenclip_video.index import FrameIndex, build_index, find_loss
from tenclip_video.orientation import frame_orientation
from tenclip_video.resize import FrameScaler
from tenclip_video.source import (
    Limits,
    VideoSource,
    check_pixels,
    check_seconds,
    open_source,
)
from tenclip_video.spec import Resize

# Codecs that number their frames, so that missing ones can be told.
_NUMBERED_CODECS = frozenset({"h264", "hevc"})
# Codecs whose decoder withholds frames that refer to missing ones, instead of making those up.
_WITHHOLDING_CODECS = frozenset({"hevc"})
# Videos of more pixels, all frames together, are not decoded only to be counted: 12 minutes of 640x480 at 30 a second.
_MAX_COUNTED_PIXELS = 7 * 10**9
_INTERLACED_WARNINGS = {
    "fields": "interlaced: the two fields of each frame are scaled apart (resize.interlaced is fields)",
    "progressive": "interlaced: frames are scaled as if they were progressive (resize.interlaced is progressive)",
}


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video, by its frames and not by its header.

    width, height: in pixels, as shown: after turning the frames `rotation` degrees clockwise (0, 90, 180 or 270) and
    mirroring them left to right if `mirrored`. coded_width, coded_height: before that.
    num_frames: frames that are shown and can be decoded. declared_frames: the header's count, 0 when it gives none.
    frames_per_second: mean rate of the frames that are there. duration_seconds: from the first frame's beginning to the
    last frame's end.
    sample_aspect_ratio: reported and not applied, as in the loaders that public models were trained with.
    seekable: frames are recognised by their times; otherwise every read decodes from the beginning.
    """

    container: str
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    pixel_format: str
    sample_aspect_ratio: float
    frames_per_second: float
    num_frames: int
    declared_frames: int
    num_keyframes: int
    duration_seconds: float
    has_audio: bool
    variable_frame_rate: bool
    seekable: bool
    mirrored: bool = False


@dataclass(frozen=True, kw_only=True)
class DecodeReport:
    """Cost of reading frames, and every deviation from what the file promised. `warnings` say the same in words.

    frames_requested: distinct frames asked for. frames_decoded: all that came out of the decoder on the way.
    frames_substituted: those that could not be decoded; the nearest frame in time stands in for each.
    frames_corrupt: those that the decoder marked as damaged. It concealed what was missing, and they are used so.
    """

    frames_requested: int = 0
    frames_decoded: int = 0
    frames_substituted: int = 0
    frames_corrupt: int = 0
    seeks: int = 0
    warnings: tuple[str, ...] = ()


def open_video(
    source: VideoSource, *, name: str | None = None, limits: Limits | None = None, threads: int = 1
) -> Video:
    """Open and index a video from a path, bytes or a binary file object; use it as a context manager.

    name: what messages call the video. threads: of the decoder.
    Raises a VideoError of `tenclip_api.errors`, which names the video and says what is wrong with it.

    >>> with open_video("run.mp4") as video:  # doctest: +SKIP
    ...     video.read_frames([0, 10], Resize(height=128, width=171)).shape
    (2, 128, 171, 3)
    """
    return Video(source, name=name, limits=limits or Limits(), threads=threads)


def probe(source: VideoSource, *, name: str | None = None, limits: Limits | None = None) -> VideoInfo:
    """The properties of a video, for which every packet is looked at and one frame decoded. Raises as `open_video`."""
    with open_video(source, name=name, limits=limits) as video:
        return video.info


class Video:
    """An open video, made by `open_video`. Not for use from several threads at once.

    info: what it is. index: when each of its frames is shown.
    """

    def __init__(self, source: VideoSource, *, name: str | None, limits: Limits, threads: int) -> None:
        self._frames_requested = self._frames_substituted = self._frames_corrupt = 0
        self._interlaced: str | None = None
        self._preprocess_seconds = 0.0
        self._unknown_colorspace: int | None = None
        self._resources = ExitStack()
        try:
            opened = self._resources.enter_context(open_source(source, name=name, limits=limits))
            self._decoder = FrameDecoder(opened, limits, threads)
            self._resources.callback(self._decoder.close)
            self.index, self._first = build_index(self._decoder.container, self._decoder.stream, opened, limits)
            check_pixels(self._first.width, self._first.height, self.name, limits)
            check_seconds(self.index.duration, self.name, limits)
            self._find_losses()
            if self.index.needs_decoding:
                self._count_by_decoding()
            self._reader = FrameReader(self._decoder, self.index)
            self.info = _describe(self._decoder.container, self._decoder.stream, self.index, self._first)
        except BaseException:
            self._resources.close()
            raise

    @property
    def name(self) -> str:
        """Name of the video in messages."""
        return self._decoder.name

    @property
    def decoder(self) -> FrameDecoder:
        """Its packets and its sound, for the readers of `tenclip_video.salience`.

        One reader at a time; a reader that stops leaves it anywhere, and the next one seeks or reopens.
        """
        return self._decoder

    @property
    def first_frame(self) -> VideoFrame:
        """The first frame as it was decoded: its size before turning, its display matrix."""
        return self._first

    @property
    def times(self) -> NDArray[np.float64]:
        """[N] presentation time of each frame, seconds from the first."""
        return self.index.times

    @property
    def report(self) -> DecodeReport:
        """Totals of all reads so far."""
        warnings = list(self.index.warnings)
        if orientation := frame_orientation(self._first).warning:
            warnings.append(orientation)
        if self._decoder.undecodable:
            warnings.append(f"packets that could not be decoded: {len(self._decoder.undecodable)}")
        if self._frames_substituted:
            warnings.append(
                _counted(
                    self._frames_substituted,
                    "1 frame cannot be decoded; the nearest one stands in for it",
                    "{} frames cannot be decoded; the nearest ones stand in for them",
                )
            )
        if self._frames_corrupt:
            warnings.append(
                _counted(
                    self._frames_corrupt,
                    "1 frame is damaged; the decoder concealed what is missing in it",
                    "{} frames are damaged; the decoder concealed what is missing in them",
                )
            )
        if self._interlaced is not None:
            warnings.append(_INTERLACED_WARNINGS[self._interlaced])
        if self._unknown_colorspace is not None:
            warnings.append(f"its colour space (H.273 number {self._unknown_colorspace}) is taken for BT.601")
        return DecodeReport(
            frames_requested=self._frames_requested,
            frames_decoded=self._decoder.frames_decoded,
            frames_substituted=self._frames_substituted,
            frames_corrupt=self._frames_corrupt,
            seeks=self._decoder.seeks,
            warnings=tuple(warnings),
        )

    @property
    def preprocess_seconds(self) -> float:
        """Seconds that all reads so far took to convert frames to RGB, to scale them and to hand them to sinks."""
        return self._preprocess_seconds

    def frame_size(self, resize: Resize) -> tuple[int, int]:
        """(height, width) in pixels of the frames that `read_frames` returns."""
        scaler = FrameScaler(resize, self._first)
        return scaler.height, scaler.width

    def read_frames(self, indices: ArrayLike, resize: Resize) -> NDArray[np.uint8]:
        """Frames by index in presentation order: uint8 RGB [M,H,W,3], upright, scaled by `resize`.

        indices: [M] integers, strictly ascending, each below `info.num_frames`; ValueError otherwise. A frame that
        cannot be decoded is replaced by its nearest neighbour and counted in `report`. Raises UndecodableVideo when
        none of the frames can be decoded, VideoTooLarge when that is for lack of memory.
        """
        wanted = _checked(indices, len(self.index.pts))
        out = np.empty((len(wanted), *self.frame_size(resize), 3), np.uint8)
        self.read_into(_Stack(out), wanted, resize)
        return out

    def read_into(self, sink: FrameSink, indices: ArrayLike, resize: Resize) -> None:
        """Like `read_frames`, but hands each frame to `sink` when it is decoded: memory is that of one frame."""
        self._read(_checked(indices, len(self.index.pts)), [(Outlet(sink, FrameScaler(resize, self._first)), resize)])

    def read_two_sizes(
        self, indices: ArrayLike, resize: Resize, some: ArrayLike, other: Resize
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """What `read_frames(indices, resize)` and `read_frames(some, other)` give, with each frame decoded once.

        some: of `indices`, ascending. The second is None where a frame of it cannot be decoded: then `read_frames`
        knows what stands in for it. Raises as `read_frames`.
        """
        wanted, part = (_checked(i, len(self.index.pts)) for i in (indices, some))
        slots = np.searchsorted(wanted, part)
        if len(part) and (slots[-1] >= len(wanted) or np.any(wanted[slots] != part)):
            raise ValueError(f"frames {part.tolist()} at another size must be among those asked for, {wanted.tolist()}")
        out = np.empty((len(wanted), *self.frame_size(resize), 3), np.uint8)
        others = _Some(slots, np.empty((len(part), *self.frame_size(other), 3), np.uint8))
        scalers = FrameScaler(resize, self._first), FrameScaler(other, self._first)
        second = Outlet(others, scalers[1], frozenset(slots.tolist()))
        self._read(wanted, [(Outlet(_Stack(out), scalers[0]), resize), (second, other)])
        return out, others.out if others.is_whole else None

    def _read(self, wanted: NDArray[np.int64], outlets: Sequence[tuple[Outlet, Resize]]) -> None:
        request = ReadRequest(wanted, tuple(outlet for outlet, _ in outlets))
        self._frames_requested += len(request.wanted)
        self._frames_substituted += self._reader.read(request)
        for outlet, resize in outlets:
            self._note(outlet.scaler, resize)
        self._preprocess_seconds += request.preprocess_seconds
        self._frames_corrupt += int(request.corrupt.sum())

    def iter_frames(self, resize: Resize) -> Iterator[NDArray[np.uint8]]:
        """Every frame that decodes, in order, one at a time: uint8 RGB [H,W,3], upright, scaled by `resize`.

        Memory is that of one frame. One iteration, or one `read_frames`, at a time.
        """
        scaler = FrameScaler(resize, self._first)
        if self.index.timed:
            self._decoder.seek_before(0, self.index)
        else:
            self._decoder.reopen()
        for frame in self._decoder.decode(None):
            scaled = scaler.scaled(frame)
            self._frames_corrupt += frame.is_corrupt
            self._note(scaler, resize)
            yield scaled

    def close(self) -> None:
        """Close the file; later reads raise ValueError."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find_losses(self) -> None:
        """Look for missing packets where times have holes: frames that refer to them may never be shown."""
        if self.index.needs_decoding or self._decoder.codec not in _NUMBERED_CODECS or not self.index.has_holes:
            return
        self._decoder.reopen()
        loss_pts = find_loss(self._decoder.container, self._decoder.stream)
        if loss_pts is not None:
            self.index = self.index.with_loss(loss_pts)

    def _count_by_decoding(self) -> None:
        """Make the index exact by decoding the whole video once, unless that would take minutes."""
        pixels = len(self.index.pts) * self._first.width * self._first.height
        if pixels > _MAX_COUNTED_PIXELS:
            self.index = self.index.with_warning(
                "its frames are counted without decoding: some may turn out to be lost"
            )
            return
        promised = len(self.index.pts)
        self._decoder.reopen()
        self._decoder.damage.clear()
        self.index = self.index.recount([frame.pts for frame in self._decoder.decode(None)])
        is_whole = len(self.index.pts) == promised and not self._decoder.damage
        if is_whole and self._decoder.codec in _WITHHOLDING_CODECS:
            self.index = replace(self.index, damage_pts=None)  # what is missing was referred to by no frame

    def _note(self, scaler: FrameScaler, resize: Resize) -> None:
        """Keep for the report what a scaler met."""
        if scaler.unknown_colorspace is not None:
            self._unknown_colorspace = scaler.unknown_colorspace
        if scaler.has_interlaced:
            self._interlaced = resize.interlaced


class _Stack:
    """Frames side by side: [M,H,W,3]."""

    def __init__(self, out: NDArray[np.uint8]) -> None:
        self._out = out

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        np.copyto(self._out[slot], frame)

    def repeat(self, slot: int, of: int) -> None:
        self._out[slot] = self._out[of]


class _Some:
    """Frames of some slots, side by side. is_whole: none of them had to be stood in for."""

    def __init__(self, slots: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        self._places = {slot: place for place, slot in enumerate(slots.tolist())}
        self.out, self.is_whole = out, True

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        np.copyto(self.out[self._places[slot]], frame)

    def repeat(self, slot: int, of: int) -> None:
        self.is_whole = False


def _counted(count: int, one: str, many: str) -> str:
    return one if count == 1 else many.format(count)


def _checked(indices: ArrayLike, num_frames: int) -> NDArray[np.int64]:
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
        raise ValueError(f"frame indices must be a list of integers, got {indices!r}")
    wanted = wanted.astype(np.int64)
    if np.any(np.diff(wanted) <= 0):
        raise ValueError(f"frame indices must be strictly ascending, got {indices!r}")
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= num_frames):
        raise ValueError(f"frame indices must lie within 0..{num_frames - 1}, got {wanted[0]}..{wanted[-1]}")
    return wanted


def _describe(container: InputContainer, stream: VideoStream, index: FrameIndex, first: VideoFrame) -> VideoInfo:
    orientation = frame_orientation(first)
    turned = orientation.is_transposed
    deltas = np.diff(index.pts)
    num_frames = len(index.pts)
    rate = float(stream.average_rate or 0)
    if num_frames > 1:
        rate = (num_frames - 1) / float((int(index.pts[-1]) - int(index.pts[0])) * index.time_base)
    return VideoInfo(
        container=container.format.name.split(",")[0],
        codec=stream.codec_context.codec.canonical_name,
        width=first.height if turned else first.width,
        height=first.width if turned else first.height,
        coded_width=first.width,
        coded_height=first.height,
        rotation=orientation.rotation,
        mirrored=orientation.mirrored,
        pixel_format=first.format.name,
        sample_aspect_ratio=float(stream.sample_aspect_ratio or 1),
        frames_per_second=rate,
        num_frames=num_frames,
        declared_frames=stream.frames,
        num_keyframes=int(np.count_nonzero(index.keyframe_pts >= index.pts[0])),
        duration_seconds=index.duration,
        has_audio=len(container.streams.audio) > 0,
        variable_frame_rate=_varies(deltas),
        seekable=index.timed,
    )


def _varies(deltas: NDArray[np.int64]) -> bool:
    """More than rounding to the container's ticks explains (Matroska: 33, 33, 34 ms at 30 frames a second)."""
    if len(deltas) < 2:
        return False
    spread, usual = int(deltas.max() - deltas.min()), float(np.median(deltas))
    return spread > max(2, 0.1 * usual)
