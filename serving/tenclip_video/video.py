"""One open video: what it is, and any of its frames by index.

    with open_video("run.mp4") as video:
        print(video.info.num_frames, video.info.frames_per_second)
        frames = video.read_frames([0, 10, 20], Resize(height=128, width=171))  # uint8 [3,128,171,3]

Only what the asked-for frames need is decoded: the reader jumps to the keyframe before the next frame whenever that
saves decoding, and on its way drops frames that no other frame refers to. Frames are recognised by presentation time,
so variable frame rates, edit lists and reordering need no care. Memory is that of the frames asked for, however long
the video is.

Tried and left out: frame threads (they fill a pipeline that each seek empties again), skipping the loop filter or
all B-frames on the way to a target (faster, but later frames refer to them and change).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray

from tenclip_api.errors import UndecodableVideo
from tenclip_video.index import FrameIndex, build_index
from tenclip_video.resize import FrameScaler, clockwise_rotation
from tenclip_video.source import Limits, Source, VideoSource, check_pixels, open_container, open_source, video_stream
from tenclip_video.spec import Resize

# A seek empties the decoder and costs about as much as decoding this many frames.
_SEEK_WORTH_FRAMES = 8
# Decoders that drop a frame no other refers to, packet by packet, and give the others unchanged (tests compare them).
# dav1d is not among them: it answers for an earlier packet than the one it was handed.
_SKIPPING_CODECS = frozenset({"h264", "hevc", "mpeg4", "vp8", "vp9"})


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What was found, not what the header claims.

    Sizes are as shown, after turning the frames `rotation` degrees clockwise; `coded_*` are before. Times in seconds.
    `declared_frames` is the header's count, 0 when it gives none. `sample_aspect_ratio` is reported and not applied:
    neither do the loaders that public models were trained with.
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


@dataclass(frozen=True, kw_only=True)
class DecodeReport:
    """What reading frames has cost and what did not go as the file promised.

    `frames_requested` counts distinct frames asked for, `frames_decoded` every frame that came out of the decoder on
    the way, `frames_substituted` those that could not be had and are stood in for by their nearest neighbour in time.
    """

    frames_requested: int = 0
    frames_decoded: int = 0
    frames_substituted: int = 0
    seeks: int = 0
    warnings: tuple[str, ...] = ()


def open_video(
    source: VideoSource, *, name: str | None = None, limits: Limits | None = None, threads: int = 1
) -> Video:
    """Open and index a video from a path, bytes or a binary file object; use it as a context manager.

    `name` is what messages call it. `threads` are the decoder's.
    Raises a VideoError of `tenclip_api.errors` that says what is wrong with it.
    """
    return Video(source, name=name, limits=limits or Limits(), threads=threads)


def probe(source: VideoSource, *, name: str | None = None, limits: Limits | None = None) -> VideoInfo:
    """What a video is: every packet is counted, one frame decoded. Raises as `open_video` does."""
    with open_video(source, name=name, limits=limits) as video:
        return video.info


class Video:
    """See the module's docstring. Not for use from several threads at once."""

    def __init__(self, source: VideoSource, *, name: str | None, limits: Limits, threads: int) -> None:
        self._limits, self._threads = limits, threads
        self._frames_requested = self._frames_decoded = self._frames_substituted = self._seeks = 0
        self._decode_errors = 0
        self._pending: Packet[VideoStream] | None = None
        self._container: InputContainer | None = None
        self._resources = ExitStack()
        try:
            self._source: Source = self._resources.enter_context(open_source(source, name=name, limits=limits))
            self._resources.callback(self._close_container)
            self._reopen()
            self.index, self._first = build_index(self._open, self._stream, self._source, limits)
            check_pixels(self._first.width, self._first.height, self.name, limits)
            self.info = _describe(self._open, self._stream, self.index, self._first)
        except BaseException:
            self._resources.close()
            raise

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def times(self) -> NDArray[np.float64]:
        """[N] presentation time of each frame, seconds from the first."""
        return self.index.times

    @property
    def report(self) -> DecodeReport:
        """Totals of all reads so far."""
        warnings = list(self.index.warnings)
        if self._decode_errors:
            warnings.append(f"{self._decode_errors} packets could not be decoded")
        return DecodeReport(
            frames_requested=self._frames_requested,
            frames_decoded=self._frames_decoded,
            frames_substituted=self._frames_substituted,
            seeks=self._seeks,
            warnings=tuple(warnings),
        )

    def frame_size(self, resize: Resize) -> tuple[int, int]:
        """(height, width) of what `read_frames` returns."""
        scaler = FrameScaler(resize, self._first)
        return scaler.height, scaler.width

    def read_frames(self, indices: ArrayLike, resize: Resize) -> NDArray[np.uint8]:
        """Frames by index in presentation order: uint8 RGB [M,H,W,3], upright, scaled by `resize`.

        indices: [M] integers, strictly ascending, each below `info.num_frames`. A frame that cannot be decoded is
        replaced by its nearest neighbour and counted in `report`. Raises UndecodableVideo when none can be had.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.ndim != 1 or (len(wanted) and (wanted[0] < 0 or wanted[-1] >= len(self.index.pts))):
            raise ValueError(f"frame indices must be a list within 0..{len(self.index.pts) - 1}, got {indices!r}")
        if np.any(np.diff(wanted) <= 0):
            raise ValueError("frame indices must be strictly ascending")
        scaler = FrameScaler(resize, self._first)
        out = np.empty((len(wanted), scaler.height, scaler.width, 3), np.uint8)
        self._frames_requested += len(wanted)
        found = np.zeros(len(wanted), bool)
        if self.index.timed:
            self._read_by_seeking(wanted, scaler, out, found)
        if not found.all():
            # No usable times, or a seek that did not give what the index promises: decode from the beginning.
            self._read_from_start(wanted, scaler, out, found)
        self._substitute(wanted, out, found)
        return out

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read_by_seeking(
        self, wanted: NDArray[np.int64], scaler: FrameScaler, out: NDArray[np.uint8], found: NDArray[np.bool_]
    ) -> None:
        """Fill what can be had from the nearest keyframes; leave the rest unfound."""
        for first, last in _runs(wanted, self.index):
            self._seek_before(int(wanted[first]))
            self._collect(self._decode_run(wanted[first:last]), wanted, first, last, scaler, out, found)

    def _read_from_start(
        self, wanted: NDArray[np.int64], scaler: FrameScaler, out: NDArray[np.uint8], found: NDArray[np.bool_]
    ) -> None:
        self._reopen()
        if self.index.timed:
            missing = np.flatnonzero(~found)
            frames = self._decode_run(wanted[missing])
            self._collect(frames, wanted, int(missing[0]), len(wanted), scaler, out, found)
            return
        slots = {int(index): slot for slot, index in enumerate(wanted)}
        last = int(wanted[-1])
        for position, frame in enumerate(self._decode(None)):
            if position in slots:
                scaler(frame, out[slots[position]])
                found[slots[position]] = True
            if position >= last:
                break

    def _collect(
        self,
        frames: Iterator[VideoFrame],
        wanted: NDArray[np.int64],
        first: int,
        last: int,
        scaler: FrameScaler,
        out: NDArray[np.uint8],
        found: NDArray[np.bool_],
    ) -> None:
        """Scale the frames of one run that are wanted into their places; stop after the last of them."""
        slots = {int(self.index.pts[wanted[slot]]): slot for slot in range(first, last)}
        end = int(self.index.pts[wanted[last - 1]])
        for frame in frames:
            slot = slots.get(frame.pts) if frame.pts is not None else None
            if slot is not None and not found[slot]:
                scaler(frame, out[slot])
                found[slot] = True
            if frame.pts is not None and frame.pts >= end:
                return

    def _substitute(self, wanted: NDArray[np.int64], out: NDArray[np.uint8], found: NDArray[np.bool_]) -> None:
        if found.all():
            return
        have = np.flatnonzero(found)
        if not len(have):
            raise UndecodableVideo(
                f"{self.name}: none of the {len(wanted)} frames asked for can be decoded", source=self.name
            )
        missing = np.flatnonzero(~found)
        for slot in missing:
            out[slot] = out[have[np.argmin(np.abs(wanted[have] - wanted[slot]))]]
        self._frames_substituted += len(missing)

    # -- decoding -----------------------------------------------------------------------------------------------------

    def _decode_run(self, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        return self._decode(frozenset(self.index.pts[wanted].tolist()))

    def _decode(self, needed: frozenset[int] | None) -> Iterator[VideoFrame]:
        """Decode from where the container stands. `needed`: times of the frames that matter; None: all of them.

        A damaged packet costs its own frames only.
        """
        codec = self._stream.codec_context
        if codec.codec.canonical_name not in _SKIPPING_CODECS:
            needed = None
        skipping = False
        codec.skip_frame = "DEFAULT"
        for packet in self._packets():
            skip = needed is not None and packet.pts is not None and packet.size > 0 and packet.pts not in needed
            if skip != skipping:
                codec.skip_frame = "NONREF" if skip else "DEFAULT"
                skipping = skip
            try:
                frames = codec.decode(packet)
            except EOFError:
                return
            except av.FFmpegError:
                self._decode_errors += 1
                continue
            self._frames_decoded += len(frames)
            yield from frames

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets from where the container stands to the end, however it comes; the last one is empty and flushes."""
        if self._pending is not None:
            packet, self._pending = self._pending, None
            yield packet
        demuxer = self._open.demux(self._stream)
        while True:
            try:
                yield next(demuxer)
            except StopIteration:
                return
            except (av.FFmpegError, OSError):
                break  # a truncated file; the index has said so
        yield Packet()  # type: ignore[misc]  # belongs to no stream

    def _seek_before(self, frame: int) -> None:
        """Stand at the last keyframe from which `frame` can be decoded, or before it."""
        index = self.index
        pts = int(index.pts[frame])
        at = int(np.searchsorted(index.keyframe_pts, pts, side="right")) - 1
        self._seeks += at > 0
        # Demuxers disagree on whether a seek compares presentation or decoding times.
        earlier = [int(index.keyframe_dts[at]), int(index.keyframe_pts[at - 1])] if at > 0 else []
        for target in (int(index.keyframe_pts[max(at, 0)]), *earlier):
            if self._seek(target, not_after=max(pts, int(index.keyframe_pts[0]))):
                return
        self._reopen()

    def _seek(self, target: int, *, not_after: int) -> bool:
        """Seek to `target` (stream time); whether the keyframe found there is early enough."""
        try:
            self._open.seek(target, stream=self._stream, backward=True)
            packet = next((p for p in self._open.demux(self._stream) if p.is_keyframe and p.pts is not None), None)
        except (av.FFmpegError, OSError):
            return False
        self._pending = packet
        return packet is not None and packet.pts is not None and packet.pts <= not_after

    def _reopen(self) -> None:
        """A fresh container at its beginning: not every format can seek back there."""
        self._close_container()
        self._pending = None
        self._container = open_container(self._source)
        self._stream: VideoStream = video_stream(self._container, self._source, self._limits)
        self._stream.thread_count = self._threads
        self._stream.thread_type = "FRAME" if self._threads > 1 else "NONE"

    def _close_container(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def _open(self) -> InputContainer:
        if self._container is None:
            raise ValueError(f"{self.name}: this video is closed")
        return self._container


def _runs(wanted: NDArray[np.int64], index: FrameIndex) -> list[tuple[int, int]]:
    """Split [0, M) so that each run is decoded from one keyframe: a seek where it saves decoding."""
    keyframes = np.sort(index.keyframe_pts)
    # The keyframe from which each wanted frame is decoded, as a frame index.
    at = np.maximum(np.searchsorted(keyframes, index.pts[wanted], side="right") - 1, 0)
    start = np.searchsorted(index.pts, keyframes[at]) if len(keyframes) else np.zeros(len(wanted), np.int64)
    cuts = [0]
    cuts += [i for i in range(1, len(wanted)) if start[i] > wanted[i - 1] + _SEEK_WORTH_FRAMES]
    return list(zip(cuts, [*cuts[1:], len(wanted)], strict=True)) if len(wanted) else []


def _describe(container: InputContainer, stream: VideoStream, index: FrameIndex, first: VideoFrame) -> VideoInfo:
    rotation = clockwise_rotation(first)
    turned = rotation % 180 == 90
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
        rotation=rotation,
        pixel_format=first.format.name,
        sample_aspect_ratio=float(stream.sample_aspect_ratio or 1),
        frames_per_second=rate,
        num_frames=num_frames,
        declared_frames=stream.frames,
        num_keyframes=len(index.keyframe_pts),
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
