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

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray

from tenclip_api.errors import UndecodableVideo
from tenclip_video.droppable import droppable_packets, may_drop_frames
from tenclip_video.index import FrameIndex, build_index, demux, find_loss
from tenclip_video.orientation import frame_orientation
from tenclip_video.resize import FrameScaler
from tenclip_video.source import (
    Limits,
    Source,
    VideoSource,
    check_pixels,
    check_seconds,
    open_container,
    open_source,
    out_of_memory,
    video_stream,
)
from tenclip_video.spec import Resize

# A seek empties the decoder and costs about as much as decoding this many frames.
_SEEK_WORTH_FRAMES = 8
# Codecs of which a packet is one frame: once the packets that matter are in, the decoder can be emptied.
_DRAINING_CODECS = frozenset({"h264", "hevc"})
# Codecs that number their frames, so that missing ones can be told.
_NUMBERED_CODECS = frozenset({"h264", "hevc"})
# A frame that seeking did not give is looked for once more, from a keyframe this many before its own, and then from the
# beginning of the video.
_RETRY_KEYFRAMES = 2
# No decoder holds back more frames than this to reorder them.
_MAX_REORDERED_FRAMES = 16
# Videos of more pixels, all frames together, are not decoded only to be counted: 12 minutes of 640x480 at 30 a second.
_MAX_COUNTED_PIXELS = 7 * 10**9
# FFmpeg's picture types of frames that are decoded from others.
_PREDICTED = frozenset({2, 3})
# Later than any time of a stream, in ticks.
_NO_TIME = 1 << 62
_INTERLACED_WARNINGS = {
    "fields": "interlaced: the two fields of each frame are scaled apart (resize.interlaced is fields)",
    "progressive": "interlaced: frames are scaled as if they were progressive (resize.interlaced is progressive)",
}


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What was found, not what the header claims.

    Sizes are as shown, after turning the frames `rotation` degrees clockwise and mirroring them left to right if
    `mirrored`; `coded_*` are before. Times in seconds.
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
    mirrored: bool = False


@dataclass(frozen=True, kw_only=True)
class DecodeReport:
    """What reading frames has cost, and what did not go as the file promised. `warnings` say the same in words.

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


class FrameSink(Protocol):
    """Where frames go as they are decoded. They come in any order, and each of them is put or repeated at least once:
    what is put last counts, since a frame that turns out to be wrong is decoded again.
    """

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        """frame: uint8 RGB [H,W,3], the slot-th of those asked for. The sink copies what it keeps."""
        ...

    def repeat(self, slot: int, of: int) -> None:
        """The slot-th cannot be had: another one, which was put, stands in for it."""
        ...


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
        self._frames_corrupt = 0
        self._interlaced: str | None = None
        self._preprocess_seconds = 0.0
        self._unknown_colorspace: int | None = None
        # Damaged packets may ask for absurd amounts, so this tells what went wrong only when no frame is had at all.
        self._out_of_memory = False
        # (dts, position) of packets that could not be decoded; one may be tried more than once.
        self._undecodable: set[tuple[int | None, int | None]] = set()
        # Times of damaged packets and frames since the last seek.
        self._damage: list[int] = []
        # Nothing is damaged before this time; what follows is decoded from the beginning, as players do.
        self._sound_until = _NO_TIME
        # Frames that even a decode from the beginning does not give.
        self._lost: set[int] = set()
        self._pending: Packet[VideoStream] | None = None
        self._container: InputContainer | None = None
        self._resources = ExitStack()
        try:
            self._source: Source = self._resources.enter_context(open_source(source, name=name, limits=limits))
            self._resources.callback(self._close_container)
            self._reopen()
            self.index, self._first = build_index(self._open, self._stream, self._source, limits)
            check_pixels(self._first.width, self._first.height, self.name, limits)
            check_seconds(self.index.duration, self.name, limits)
            self._keyframe_times = frozenset(self.index.keyframe_pts.tolist())
            codec = self._stream.codec_context
            self._is_droppable = droppable_packets(codec.codec.canonical_name, codec.extradata)
            self._drains = codec.codec.canonical_name in _DRAINING_CODECS and may_drop_frames(
                codec.codec.canonical_name, codec.extradata
            )
            self._find_losses()
            if self.index.damage_pts is not None:
                self._doubt(self.index.damage_pts)
            if self.index.needs_decoding:
                self._count_by_decoding()
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
        if orientation := frame_orientation(self._first).warning:
            warnings.append(orientation)
        if self._undecodable:
            warnings.append(f"packets that could not be decoded: {len(self._undecodable)}")
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
            frames_decoded=self._frames_decoded,
            frames_substituted=self._frames_substituted,
            frames_corrupt=self._frames_corrupt,
            seeks=self._seeks,
            warnings=tuple(warnings),
        )

    @property
    def preprocess_seconds(self) -> float:
        """What scaling the frames of all reads so far has taken, with converting them to RGB and what sinks do."""
        return self._preprocess_seconds

    def frame_size(self, resize: Resize) -> tuple[int, int]:
        """(height, width) of what `read_frames` returns."""
        scaler = FrameScaler(resize, self._first)
        return scaler.height, scaler.width

    def read_frames(self, indices: ArrayLike, resize: Resize) -> NDArray[np.uint8]:
        """Frames by index in presentation order: uint8 RGB [M,H,W,3], upright, scaled by `resize`.

        indices: [M] integers, strictly ascending, each below `info.num_frames`. A frame that cannot be decoded is
        replaced by its nearest neighbour and counted in `report`. Raises UndecodableVideo when none can be had,
        VideoTooLarge when that is for lack of memory.
        """
        wanted = _checked(indices, len(self.index.pts))
        out = np.empty((len(wanted), *self.frame_size(resize), 3), np.uint8)
        self.read_into(_Stack(out), wanted, resize)
        return out

    def read_into(self, sink: FrameSink, indices: ArrayLike, resize: Resize) -> None:
        """As `read_frames`, handing over each frame as it comes."""
        request = _Request(_checked(indices, len(self.index.pts)), FrameScaler(resize, self._first), sink)
        self._frames_requested += len(request.wanted)
        if self.index.timed:
            self._read_by_seeking(request, keyframes_back=0)
            self._read_by_seeking(request, keyframes_back=_RETRY_KEYFRAMES)
        if self._missing(request).any():
            # No usable times, or seeks that did not give what the index promises.
            self._read_from_start(request)
        self._note(request.scaler, resize)
        self._preprocess_seconds += request.preprocess_seconds
        self._frames_corrupt += int(request.corrupt.sum())
        self._frames_substituted += self._substitute(request)

    def iter_frames(self, resize: Resize) -> Iterator[NDArray[np.uint8]]:
        """Every frame that decodes, in order, one at a time: uint8 RGB [H,W,3], upright, scaled by `resize`.

        Memory is that of one frame. One iteration, or one `read_frames`, at a time.
        """
        scaler = FrameScaler(resize, self._first)
        if self.index.timed:
            self._seek_before(0, 0)
        else:
            self._reopen()
        for frame in self._decode(None):
            scaled = scaler.scaled(frame)
            self._frames_corrupt += frame.is_corrupt
            self._note(scaler, resize)
            yield scaled

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find_losses(self) -> None:
        """Look for missing packets where times have holes: frames that refer to them may never be shown."""
        codec = self._stream.codec_context.codec.canonical_name
        if self.index.needs_decoding or codec not in _NUMBERED_CODECS or not self.index.has_holes:
            return
        self._reopen()
        loss_pts = find_loss(self._open, self._stream)
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
        self._reopen()
        self.index = self.index.recount([frame.pts for frame in self._decode(None)])

    # -- reading ------------------------------------------------------------------------------------------------------

    def _note(self, scaler: FrameScaler, resize: Resize) -> None:
        """Keep for the report what a scaler met."""
        if scaler.unknown_colorspace is not None:
            self._unknown_colorspace = scaler.unknown_colorspace
        if scaler.has_interlaced:
            self._interlaced = resize.interlaced

    def _missing(self, request: _Request) -> NDArray[np.bool_]:
        """[M] frames that are not found yet and may still be."""
        missing = ~request.found
        if self._lost:
            missing[[slot for slot, index in enumerate(request.wanted.tolist()) if index in self._lost]] = False
        return missing

    def _doubt(self, pts: int) -> None:
        """Something at this time is damaged: the frames from its keyframe on may differ from those of a full decode."""
        keyframes = self.index.keyframe_pts
        at = int(np.searchsorted(keyframes, pts, side="right")) - 1
        self._sound_until = min(self._sound_until, int(keyframes[at]) if at >= 0 else -_NO_TIME)

    def _read_by_seeking(self, request: _Request, *, keyframes_back: int) -> None:
        """Fill what can be had from the nearest keyframes, before the first damage.

        keyframes_back: begin so many keyframes earlier, and drop no frames on the way.
        """
        is_sound = self.index.pts[request.wanted] < self._sound_until
        slots = np.flatnonzero(self._missing(request) & is_sound)
        for first, last in _runs(request.wanted[slots], self.index):
            if self.index.pts[request.wanted[slots[first]]] < self._sound_until:
                landing = self._seek_before(int(request.wanted[slots[first]]), keyframes_back)
                self._collect(request, slots[first:last], landing=landing, drop=not keyframes_back)

    def _read_from_start(self, request: _Request) -> None:
        """Fill all that a decode from the beginning gives, damaged frames included; remember what it does not give."""
        self._reopen()
        if self.index.timed:
            missing = np.flatnonzero(self._missing(request))
            self._put_all_frames(request, missing)
            self._lost.update(request.wanted[~request.found].tolist())
            return
        slots = {int(index): slot for slot, index in enumerate(request.wanted)}
        last = int(request.wanted[-1])
        for position, frame in enumerate(self._decode(None)):
            if position in slots:
                request.put(slots[position], frame)
            if position >= last:
                return

    def _collect(self, request: _Request, slots: NDArray[np.int64], *, landing: int | None, drop: bool) -> None:
        """Keep the frames of `slots` that a seek leads to, as far as they are sure to be those of a full decode.

        landing: time of the keyframe that the seek has found; None at the beginning of the file. The keyframe must be
        a true one, and nothing may be damaged from there on: damage is concealed from whatever was decoded before, or
        even from what memory held. `_doubt` keeps where that ends.
        """
        self._damage.clear()
        self._put_frames(request, slots, landing=landing, drop=drop)
        self._decode_packet(None)  # a frame that comes out later than those that refer to it may be damaged
        if self._is_damaged_since(landing):
            request.forget(slots[self.index.pts[request.wanted[slots]] >= self._sound_until])

    def _put_frames(self, request: _Request, slots: NDArray[np.int64], *, landing: int | None, drop: bool) -> None:
        """As `_collect`, for what is known when each frame comes out; stops after the last of them."""
        slot_at, give_up_pts = self._slots_by_time(request, slots)
        has_landed = landing is None
        for frame in self._decode(frozenset(slot_at) if drop else None):
            if self._damage and self._is_damaged_since(landing):
                return
            if frame.pts is None:
                continue
            if landing is not None and not has_landed and frame.pts >= landing:
                if frame.pts == landing and _is_predicted(frame):
                    self._doubt(-_NO_TIME)  # what it calls keyframes are none
                    return
                has_landed = True
            slot = slot_at.pop(frame.pts, None)
            if slot is not None:
                request.put(slot, frame)
            if not slot_at or frame.pts > give_up_pts:
                return

    def _put_all_frames(self, request: _Request, slots: NDArray[np.int64]) -> None:
        """Keep the frames of `slots`, decoded from the beginning as a player does, damaged ones included."""
        slot_at, give_up_pts = self._slots_by_time(request, slots)
        for frame in self._decode(None):
            if frame.pts is None:
                continue
            slot = slot_at.pop(frame.pts, None)
            if slot is not None:
                request.put(slot, frame)
            if not slot_at or frame.pts > give_up_pts:
                return

    def _slots_by_time(self, request: _Request, slots: NDArray[np.int64]) -> tuple[dict[int, int], int]:
        """(slot by presentation time, time after which none of them is to be expected)."""
        times = self.index.pts[request.wanted[slots]]
        # Damaged streams may give frames in another order than that of their times.
        last = min(int(request.wanted[slots[-1]]) + _MAX_REORDERED_FRAMES, len(self.index.pts) - 1)
        return dict(zip(times.tolist(), slots.tolist(), strict=True)), int(self.index.pts[last])

    def _is_damaged_since(self, landing: int | None) -> bool:
        """Whether something was damaged at or after a time: leading frames of a keyframe need what lies before it."""
        damage = [pts for pts in self._damage if landing is None or pts >= landing]
        if damage:
            self._doubt(min(damage))
        return bool(damage)

    def _substitute(self, request: _Request) -> int:
        """Stand in for what is missing with its nearest neighbours; how many."""
        missing, have = np.flatnonzero(~request.found), np.flatnonzero(request.found)
        if len(missing) and not len(have) and (self._out_of_memory or request.out_of_memory):
            raise out_of_memory(self.name)
        if len(missing) and not len(have):
            raise UndecodableVideo(
                f"{self.name}: none of the {len(missing)} frames asked for can be decoded", source=self.name
            )
        for slot in missing:
            nearest = have[np.argmin(np.abs(request.wanted[have] - request.wanted[slot]))]
            request.sink.repeat(int(slot), int(nearest))
        return len(missing)

    # -- decoding -----------------------------------------------------------------------------------------------------

    def _decode(self, needed: frozenset[int] | None) -> Iterator[VideoFrame]:
        """Decode from where the container stands. A damaged packet costs its own frames only.

        needed: times of the frames that matter, so that others are dropped where no frame refers to them; None: drop
        none.
        """
        codec = self._stream.codec_context
        codec.skip_frame = "DEFAULT"
        if needed is None:
            for packet in self._packets():
                yield from self._decode_packet(packet)
            return
        remaining = set(needed)
        dropping = False
        for packet in self._packets():
            matters = packet.pts is None or packet.size == 0 or packet.pts in remaining
            # Only where it may drop a frame: FFmpeg hides damage in others, too, when it is told to drop some.
            drops = not matters and self._is_droppable(packet)
            if dropping != drops:
                dropping = drops
                codec.skip_frame = "NONREF" if dropping else "DEFAULT"
            yield from self._decode_packet(packet)
            if self._drains and matters:
                remaining.discard(packet.pts or 0)
                if not remaining:
                    # Nothing that is still to come changes these frames; the next read begins with a seek.
                    yield from self._decode_packet(None)
                    return

    def _decode_packet(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except EOFError:
            return []  # emptied already
        except av.FFmpegError as err:
            self._out_of_memory |= isinstance(err, MemoryError)
            if packet is not None:
                self._undecodable.add((packet.dts, packet.pos))
                self._damage.append(-_NO_TIME if packet.pts is None else packet.pts)
            return []
        self._frames_decoded += len(frames)
        self._damage += [frame.pts for frame in frames if frame.is_corrupt and frame.pts is not None]
        return frames

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets from where the container stands to the end, however it comes; the last one is empty and flushes."""
        if self._pending is not None:
            packet, self._pending = self._pending, None
            yield packet
        for packet, _ in demux(self._open, self._stream):
            yield packet

    def _seek_before(self, frame: int, keyframes_back: int) -> int | None:
        """Stand at the last keyframe from which `frame` can be decoded, `keyframes_back` before it, or earlier.

        Returns the keyframe's time, None at the beginning of the file.
        """
        keyframes = self.index.keyframe_pts
        at = int(np.searchsorted(keyframes, self.index.pts[frame], side="right")) - 1 - keyframes_back
        self._seeks += at > 0
        if at < 0 or not len(keyframes):
            self._reopen()
            return None
        # Demuxers disagree on whether a seek compares presentation or decoding times.
        targets = [*keyframes[at : at + 1], *self.index.keyframe_dts[at : at + 1], *keyframes[at - 1 : at]]
        if not any(self._seek(int(target), not_after=int(keyframes[at])) for target in targets):
            self._reopen()
            return None
        return None if self._pending is None else self._pending.pts

    def _seek(self, target: int, *, not_after: int) -> bool:
        """Seek to `target` (stream time); whether the keyframe found there is early enough."""
        try:
            self._open.seek(target, stream=self._stream, backward=True)
            packets = demux(self._open, self._stream)
            packet = next((p for p, _ in packets if p.is_keyframe and p.pts is not None), None)
        except (av.FFmpegError, OSError):
            return False
        self._pending = packet
        # A container without an index guesses where it is: only keyframes that the index knows are believed.
        is_known = packet is not None and packet.pts in self._keyframe_times
        return is_known and packet is not None and (packet.pts or 0) <= not_after

    def _reopen(self) -> None:
        """A fresh container at its beginning: not every format can seek back there."""
        self._close_container()
        self._pending = None
        self._container = open_container(self._source, self._limits)
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


@dataclass
class _Request:
    """One read: `sink` has frame `wanted[i]` as its i-th once `found[i]`."""

    wanted: NDArray[np.int64]
    scaler: FrameScaler
    sink: FrameSink
    found: NDArray[np.bool_] = field(init=False)
    corrupt: NDArray[np.bool_] = field(init=False)
    out_of_memory: bool = False
    preprocess_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.found = np.zeros(len(self.wanted), bool)
        self.corrupt = np.zeros(len(self.wanted), bool)

    def put(self, slot: int, frame: VideoFrame) -> None:
        started = time.perf_counter()
        try:
            self.sink.put(int(slot), self.scaler.scaled(frame))
        except av.FFmpegError as err:
            self.out_of_memory |= isinstance(err, MemoryError)
            return  # damage beyond what can be scaled: as good as not there
        finally:
            self.preprocess_seconds += time.perf_counter() - started
        self.found[slot] = True
        self.corrupt[slot] = frame.is_corrupt

    def forget(self, slots: NDArray[np.int64]) -> None:
        """Look for these again: they may be wrong."""
        self.found[slots] = self.corrupt[slots] = False


class _Stack:
    """Frames side by side: [M,H,W,3]."""

    def __init__(self, out: NDArray[np.uint8]) -> None:
        self._out = out

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        np.copyto(self._out[slot], frame)

    def repeat(self, slot: int, of: int) -> None:
        self._out[slot] = self._out[of]


def _counted(count: int, one: str, many: str) -> str:
    return one if count == 1 else many.format(count)


def _is_predicted(frame: VideoFrame) -> bool:
    return not frame.key_frame and frame.pict_type in _PREDICTED


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


def _runs(wanted: NDArray[np.int64], index: FrameIndex) -> list[tuple[int, int]]:
    """Split [0, M) so that each run is decoded from one keyframe: a seek where it saves decoding."""
    keyframes = index.keyframe_pts
    # The keyframe from which each wanted frame is decoded, as a frame index.
    at = np.maximum(np.searchsorted(keyframes, index.pts[wanted], side="right") - 1, 0)
    start = np.searchsorted(index.pts, keyframes[at]) if len(keyframes) else np.zeros(len(wanted), np.int64)
    cuts = [0]
    cuts += [i for i in range(1, len(wanted)) if start[i] > wanted[i - 1] + _SEEK_WORTH_FRAMES]
    return list(zip(cuts, [*cuts[1:], len(wanted)], strict=True)) if len(wanted) else []


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
