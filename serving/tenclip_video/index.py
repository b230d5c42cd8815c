"""The frame index: when each frame of a video is shown.

One pass looks at every packet and decodes only the first frame. Headers lie about frame counts, and the index inside a
container holds decoding times where presentation times are needed. A few bits of each packet tell how many shown frames
it gives (`tenclip_video.shown_frames`). Where they do not tell, because packets are damaged or the stream begins
between keyframes, `FrameIndex.needs_decoding` says so, and `recount` makes the index exact from the frames that a full
decode gives.

The index costs 8 bytes a frame. `make bench ARGS=decode` measures the pass.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tenclip_api.errors import NoFrames, TruncatedVideo, UndecodableVideo, VideoTooLarge
from tenclip_video.shown_frames import ONLY_DECODING_TELLS, packet_counter
from tenclip_video.source import Limits, Source, out_of_memory

# Containers that store no presentation times. FFmpeg makes some up, which are wrong wherever frames are reordered.
_UNTIMED_FORMATS = frozenset(
    {"avi", "h263", "h264", "hevc", "m4v", "mpegvideo", "vc1", "obu", "av1", "mjpeg", "cavsvideo", "dirac"}
)
# Containers whose header says how long they are; of the others, FFmpeg estimates it from what is there.
_TIMED_HEADERS = frozenset({"matroska,webm", "flv", "asf", "mov,mp4,m4a,3gp,3g2,mj2"})
# Containers whose edit lists may show less than is there.
_EDITED_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2"})
# Beyond these, times are damage.
_LONGEST_SECONDS, _LONGEST_FRAME_SECONDS = 10**9, 86_400
# Codecs whose decoders start from a grey picture where there is no keyframe, and do not mark what comes of it.
_INVENTING_CODECS = frozenset({"mpeg4", "h263", "flv1", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2"})
_PREDICTED = frozenset({PictureType.P, PictureType.B})
# Sound may well end a little later than the pictures.
_SECONDS_SLACK = 0.5


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """When the frames of a video are shown.

    pts: int64 [N], ascending presentation times in units of `time_base`; one for each frame that decoding gives.
    keyframe_pts, keyframe_dts: where decoding can begin, keyframes that an edit list hides included.
    timed: a decoded frame can be recognised by its time, so seeking is exact. Otherwise frames are counted from the
    first, and `pts` only says about when they are shown.
    needs_decoding: only decoding all frames tells which there are; until `recount`, `pts` has one for each packet.
    damage_pts: time of the first packet that is damaged, or behind which one is missing; None: all seem sound.
    """

    pts: NDArray[np.int64]
    keyframe_pts: NDArray[np.int64]
    keyframe_dts: NDArray[np.int64]
    time_base: Fraction
    timed: bool
    end_pts: int
    needs_decoding: bool = False
    damage_pts: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def times(self) -> NDArray[np.float64]:
        """[N] seconds from the first frame."""
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base), np.float64)

    @property
    def duration(self) -> float:
        """Seconds from the first frame's beginning to the last frame's end."""
        return float((self.end_pts - int(self.pts[0])) * self.time_base)

    @property
    def has_holes(self) -> bool:
        """Whether a frame is shown for much longer than is usual: frames may be missing, or the rate is variable."""
        steps = np.diff(self.pts)
        return self.timed and len(steps) > 1 and bool(steps.max() > 1.5 * np.median(steps))

    def with_loss(self, pts: int) -> FrameIndex:
        """The same index, with a packet that is missing before this time."""
        return replace(self, needs_decoding=True, damage_pts=pts)

    def with_warning(self, warning: str) -> FrameIndex:
        """The same index with one warning more."""
        return replace(self, warnings=(*self.warnings, warning))

    def recount(self, pts: Sequence[int | None]) -> FrameIndex:
        """The exact index, given the presentation time of each frame that a full decode gives, in its order."""
        lost = len(self.pts) - len(pts)
        counted = replace(self, needs_decoding=False)
        if lost > 0:
            counted = counted.with_warning(f"{lost} of {len(self.pts)} frames cannot be decoded; they are not counted")
        times = np.sort(np.array([t for t in pts if t is not None], np.int64))
        if self.timed and len(times) == len(pts) > 0 and bool(np.all(np.diff(times) > 0)):
            return replace(counted, pts=times, end_pts=int(times[-1]) + self.end_pts - int(self.pts[-1]))
        step = self.end_pts - int(self.pts[-1])
        evenly = int(self.pts[0]) + step * np.arange(max(len(pts), 1), dtype=np.int64)
        kept = self.pts if len(self.pts) == len(evenly) else evenly
        return replace(counted, pts=kept, timed=False, end_pts=int(kept[-1]) + step)


@dataclass
class _Packets:
    """Facts that one pass over the packets collects, in decoding order."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    keyframe_pts: array[int] = field(default_factory=lambda: array("q"))
    keyframe_dts: array[int] = field(default_factory=lambda: array("q"))
    hidden: int = 0
    reordered: bool = False
    # Two frames in one packet, as DivX packs them: the times of packets are not those of frames.
    packed: bool = False
    # Times ran backwards by more than reordering explains: recordings joined end to end.
    restarted: bool = False
    # An edit list hides packets. If it also leaves out or repeats parts in between, a seek would end somewhere else.
    is_edited: bool = False
    jumps: bool = False
    missing_pts: bool = False
    # Packets that show a frame, before the first keyframe.
    before_keyframe: int = 0
    corrupt: int = 0
    # Earliest packet that is marked as damaged, or whose headers do not tell how many frames it gives.
    damage_pts: int | None = None
    undecodable: int = 0
    out_of_memory: bool = False
    last_pts: int | None = None
    last_duration: int = 0
    # Latest end of a packet that is shown no frame for: second fields, repeats.
    hidden_end: int = 0
    last_error: str = ""

    @property
    def count(self) -> int:
        return len(self.pts)

    def add(self, packet: Packet[VideoStream]) -> None:
        """A packet whose frame is shown."""
        self.corrupt += packet.is_corrupt
        self.missing_pts |= packet.pts is None
        self.reordered |= packet.pts != packet.dts
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            pts = self.pts[-1] + max(self.last_duration, 1) if self.pts else 0
        # A frame may come before the keyframe it follows in the file, but not before the keyframe before that one.
        if len(self.keyframe_pts) > 1 and pts < self.keyframe_pts[-2]:
            self._go_back()
        self.before_keyframe += not self.keyframe_pts and not packet.is_keyframe
        self.pts.append(pts)
        if self.last_pts is None or pts >= self.last_pts:
            self.last_pts, self.last_duration = pts, packet.duration or self.last_duration
        if packet.is_keyframe:
            self.add_keyframe(pts, packet.dts)

    def add_hidden(self, packet: Packet[VideoStream]) -> None:
        """A packet that others are decoded from and that is never shown itself: edit lists, alternate references."""
        self.hidden += 1
        self.is_edited |= packet.is_discard
        if not packet.is_discard:
            self.hidden_end = max(self.hidden_end, (packet.pts or packet.dts or 0) + (packet.duration or 0))
        if packet.is_keyframe and packet.pts is not None:
            self.add_keyframe(packet.pts, packet.dts)

    def add_damage(self, packet: Packet[VideoStream]) -> None:
        pts = packet.pts if packet.pts is not None else packet.dts
        pts = pts if pts is not None else min(self.pts, default=0)
        self.damage_pts = pts if self.damage_pts is None else min(pts, self.damage_pts)

    def add_keyframe(self, pts: int, dts: int | None) -> None:
        if self.keyframe_pts and pts <= self.keyframe_pts[-1]:
            self._go_back()
        self.keyframe_pts.append(pts)
        self.keyframe_dts.append(dts if dts is not None else pts)

    def _go_back(self) -> None:
        """Times run backwards."""
        if self.is_edited:
            self.jumps = True
        else:
            self.restarted = True


def build_index(
    container: InputContainer, stream: VideoStream, source: Source, limits: Limits
) -> tuple[FrameIndex, VideoFrame]:
    """Index every frame of a container that stands at its beginning, and decode the first one.

    Raises NoFrames, TruncatedVideo or UndecodableVideo when there is no first frame, VideoTooLarge for too many or for
    one that takes more memory than there is.
    """
    packets = _Packets()
    first, broken = _scan(container, stream, source, limits, packets)
    if first is None or not packets.count:
        raise _no_frame_error(stream, source, packets, broken)
    return _assemble(container, stream, source, packets, first, broken), first


def _scan(
    container: InputContainer, stream: VideoStream, source: Source, limits: Limits, packets: _Packets
) -> tuple[VideoFrame | None, str]:
    """Fill `packets`; return the first decoded frame, and why the container ended early ("" if it did not)."""
    first: VideoFrame | None = None
    count_shown = packet_counter(stream.codec_context.codec.canonical_name, stream.codec_context.extradata)
    last: Packet[VideoStream] | None = None
    why = ""
    for packet, broken in demux(container, stream):
        why = why or broken
        if packet.size:
            shown = 1 if count_shown is None else count_shown(packet)
            if shown == ONLY_DECODING_TELLS or packet.is_corrupt:
                packets.add_damage(packet)
            last = packet
            if packet.is_discard or not shown:
                packets.add_hidden(packet)
            else:
                packets.add(packet)
            if limits.max_frames is not None and packets.count > limits.max_frames:
                raise VideoTooLarge(
                    f"{source.name}: more than {limits.max_frames} frames, as many as are allowed (max_frames)",
                    source=source.name,
                )
        if first is None:
            try:
                first = next(iter(stream.codec_context.decode(packet)), None)
            except (av.FFmpegError, EOFError) as err:
                packets.undecodable += 1
                packets.out_of_memory |= isinstance(err, MemoryError)
                packets.last_error = str(getattr(err, "strerror", None) or err)
    packets.packed = getattr(count_shown, "has_packed", False)
    if last is not None and getattr(count_shown, "repeats_last", False) and not stream.codec_context.has_b_frames:
        packets.add(last)
    return first, why


def find_loss(container: InputContainer, stream: VideoStream) -> int | None:
    """Time of the first packet before which one is missing, by the numbers that a stream gives its frames; else None.

    container: at its beginning; it is read to its end.
    """
    count = packet_counter(stream.codec_context.codec.canonical_name, stream.codec_context.extradata, finds_losses=True)
    lost = [p.pts for p, _ in demux(container, stream) if p.size and count and count(p) == ONLY_DECODING_TELLS]
    found = [pts for pts in (*lost, getattr(count, "loss_pts", None)) if pts is not None]
    return min(found, default=None)


def demux(container: InputContainer, stream: VideoStream) -> Iterator[tuple[Packet[VideoStream], str]]:
    """Every packet, then an empty one that flushes the decoder; with why the container ended early, "" if it did not.

    Packets without data on the way, which AVI has where a frame is shown again, are left out: they would flush the
    decoder. Containers that break off end without the empty packet, and would keep the decoder's last frames.
    """
    demuxer = container.demux(stream)
    while True:
        try:
            packet = next(demuxer)
        except (StopIteration, IndexError):
            # IndexError: PyAV stumbles over streams that appeared on the way, after it has flushed those it knows.
            return
        except (av.FFmpegError, OSError) as err:
            why = str(getattr(err, "strerror", None) or err)
            yield Packet(), why  # type: ignore[misc]  # belongs to no stream
            return
        if packet.size or (packet.pts is None and packet.dts is None):
            yield packet, ""


def _assemble(
    container: InputContainer,
    stream: VideoStream,
    source: Source,
    packets: _Packets,
    first: VideoFrame,
    broken: str,
) -> FrameIndex:
    pts = np.sort(np.frombuffer(packets.pts, np.int64))
    time_base = stream.time_base or Fraction(1, 1000)
    usable = not packets.restarted and _are_usable(pts, time_base)
    step = _usual_step(stream, packets, pts if usable else pts[:0], time_base)
    is_reordered = packets.reordered or stream.codec_context.has_b_frames
    untimed = packets.packed or packets.jumps or (container.format.name in _UNTIMED_FORMATS and is_reordered)
    timed = False
    if usable and first.pts is not None and not untimed and not packets.missing_pts:
        # What lies before the first decodable frame can never be shown: a stream that begins between keyframes.
        decodable = pts[pts >= first.pts]
        timed = len(decodable) > 0 and int(decodable[0]) == first.pts
        pts = decodable if timed else pts
    if not usable:
        pts = step * np.arange(len(pts), dtype=np.int64)
    damage_pts = packets.damage_pts
    if packets.undecodable or first.is_corrupt or packets.before_keyframe:
        damage_pts = int(pts[0])
    index = FrameIndex(
        pts=pts,
        keyframe_pts=np.array(packets.keyframe_pts, np.int64),
        keyframe_dts=np.array(packets.keyframe_dts, np.int64),
        time_base=time_base,
        timed=timed,
        end_pts=int(pts[-1]) + step,
        needs_decoding=not usable or damage_pts is not None,
        damage_pts=damage_pts,
    )
    warnings = _warnings(container, stream, source, packets, index, broken)
    if packets.before_keyframe and first.pict_type in _PREDICTED:
        warnings += _invented(stream.codec_context.codec.canonical_name, packets.before_keyframe)
    return replace(index, warnings=tuple(warnings))


def _are_usable(pts: NDArray[np.int64], time_base: Fraction) -> bool:
    """Whether sorted times tell frames apart, and lie within a lifetime."""
    span = (int(pts[-1]) - int(pts[0])) * time_base  # in Python's integers: these may overflow
    return span < _LONGEST_SECONDS and bool(np.all(np.diff(pts) > 0))


def _usual_step(stream: VideoStream, packets: _Packets, pts: NDArray[np.int64], time_base: Fraction) -> int:
    """Ticks that the last frame is shown for, as far as can be told; at least 1."""
    median = int(np.median(np.diff(pts))) if len(pts) > 1 else 0
    rate = stream.average_rate or Fraction(25)
    last = max(packets.last_duration, packets.hidden_end - packets.last_pts) if packets.last_pts is not None else 0
    for step in (last, median, round(1 / rate / time_base)):
        if 0 < step * time_base < _LONGEST_FRAME_SECONDS:
            return step
    return max(1, round(Fraction(1, 25) / time_base))


def _warnings(
    container: InputContainer, stream: VideoStream, source: Source, packets: _Packets, index: FrameIndex, broken: str
) -> list[str]:
    found = []
    there = packets.count + packets.hidden
    if stream.frames > there and not _shows_less(container, stream, index):
        lost = stream.frames - there
        found.append(f"the header promises {stream.frames} frames, {there} are there ({lost} lost)")
    promised = (container.duration or 0) / av.time_base
    # Pictures may begin later than the file does.
    is_short = promised > max(index.duration, float(index.end_pts * index.time_base)) + _SECONDS_SLACK
    seconds = f"{index.duration:.2f} of {promised:.2f} s are there"
    if source.missing_bytes:
        of_seconds = f"; {seconds}" if is_short else ""
        found.append(f"cut off: at least {source.missing_bytes} bytes are missing at its end{of_seconds}")
    elif broken:
        found.append(f"the file ends before its container does ({broken})")
    elif container.format.name in _TIMED_HEADERS and is_short:
        found.append(f"its pictures end before the header says that the file does: {seconds}")
    if packets.corrupt:
        found.append(f"{packets.corrupt} packets are marked as damaged")
    if packets.restarted:
        found.append("its times run backwards (recordings joined end to end?); frames are counted instead")
    if len(index.pts) < packets.count:
        found.append(f"the first {packets.count - len(index.pts)} frames cannot be decoded")
    return found


def _invented(codec: str, frames: int) -> list[str]:
    """The warning where frames are decoded from a keyframe that is not there."""
    if codec not in _INVENTING_CODECS:
        return []
    damaged = (
        "the first frame is damaged: what it refers to is missing"
        if frames == 1
        else f"the first {frames} frames are damaged: what they refer to is missing"
    )
    return [f"it begins between keyframes; {damaged}"]


def _shows_less(container: InputContainer, stream: VideoStream, index: FrameIndex) -> bool:
    """Whether the frames that are not there were never to be shown: an edit list ends before them."""
    if container.format.name not in _EDITED_FORMATS or stream.duration is None:
        return False
    frame = index.duration / len(index.pts)
    return float((stream.duration - index.end_pts) * index.time_base) < 1.5 * frame


def _no_frame_error(
    stream: VideoStream, source: Source, packets: _Packets, broken: str
) -> NoFrames | TruncatedVideo | UndecodableVideo | VideoTooLarge:
    name, codec = source.name, stream.codec_context.name
    if packets.out_of_memory:
        return out_of_memory(name)
    if packets.count == 0 and (broken or stream.frames or source.missing_bytes):
        promised = f"the header promises {stream.frames} frames" if stream.frames else "its data is missing"
        return TruncatedVideo(f"{name}: cut off before its first frame; {promised}", source=name)
    if packets.count == 0:
        return NoFrames(f"{name}: its {codec} stream holds no frames (zero duration)", source=name)
    if broken or source.missing_bytes or (stream.frames > packets.count and packets.count <= 2):
        return TruncatedVideo(f"{name}: cut off within its first frames; none of them decodes", source=name)
    why = f" ({packets.last_error})" if packets.last_error else ""
    count = packets.count + packets.hidden
    return UndecodableVideo(f"{name}: {count} {codec} frames, none of which can be decoded{why}", source=name)
