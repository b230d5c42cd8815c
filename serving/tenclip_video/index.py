"""The frame index: when each frame of a video is shown, from one pass over its packets that decodes only the first.

Headers lie about frame counts, and a container's own index has decoding times where presentation times are needed, so
every packet is looked at once (about 290,000 packets a second on the reference machine; two hours take under a second).
The index costs 8 bytes a frame.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tenclip_api.errors import NoFrames, TruncatedVideo, UndecodableVideo, VideoTooLarge
from tenclip_video.source import Limits, Source

# Containers that store no presentation times. FFmpeg makes some up, which are wrong wherever frames are reordered.
_UNTIMED_FORMATS = frozenset(
    {"avi", "h263", "h264", "hevc", "m4v", "mpegvideo", "vc1", "obu", "av1", "mjpeg", "cavsvideo", "dirac"}
)


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """pts: int64 [N], ascending, in units of `time_base`; one for each frame that decoding can yield.

    `timed`: a decoded frame can be recognised by its time, so seeking is exact. Otherwise frames are counted from the
    first, and `pts` is only where they lie in time.
    """

    pts: NDArray[np.int64]
    keyframe_pts: NDArray[np.int64]
    keyframe_dts: NDArray[np.int64]
    time_base: Fraction
    timed: bool
    end_pts: int
    warnings: tuple[str, ...] = ()

    @property
    def times(self) -> NDArray[np.float64]:
        """[N] seconds from the first frame."""
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base), np.float64)

    @property
    def duration(self) -> float:
        """Seconds from the first frame's beginning to the last frame's end."""
        return float((self.end_pts - int(self.pts[0])) * self.time_base)


@dataclass
class _Packets:
    """What one pass over the packets has seen, in decoding order."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    keyframe_pts: array[int] = field(default_factory=lambda: array("q"))
    keyframe_dts: array[int] = field(default_factory=lambda: array("q"))
    count: int = 0
    discarded: int = 0
    reordered: bool = False
    missing_pts: bool = False
    corrupt: int = 0
    undecodable: int = 0
    last_duration: int = 0
    last_error: str = ""

    def add(self, packet: Packet[VideoStream]) -> None:
        self.count += 1
        self.corrupt += packet.is_corrupt
        self.missing_pts |= packet.pts is None
        self.reordered |= packet.pts != packet.dts
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            pts = self.pts[-1] + max(self.last_duration, 1) if self.pts else 0
        self.last_duration = packet.duration or self.last_duration
        self.pts.append(pts)
        if packet.is_keyframe:
            self.keyframe_pts.append(pts)
            self.keyframe_dts.append(packet.dts if packet.dts is not None else pts)


def build_index(
    container: InputContainer, stream: VideoStream, source: Source, limits: Limits
) -> tuple[FrameIndex, VideoFrame]:
    """Index every frame, and decode the first one.

    Raises NoFrames, TruncatedVideo or UndecodableVideo when there is no first frame, VideoTooLarge for too many.
    """
    packets = _Packets()
    first, broken = _scan(container, stream, source, limits, packets)
    if first is None:
        raise _no_frame_error(stream, source, packets, broken)
    return _assemble(container, stream, packets, first, broken), first


def _scan(
    container: InputContainer, stream: VideoStream, source: Source, limits: Limits, packets: _Packets
) -> tuple[VideoFrame | None, str]:
    """Fill `packets`; return the first decoded frame, and why the container ended early ("" if it did not)."""
    first: VideoFrame | None = None
    demuxer = container.demux(stream)
    while True:
        try:
            packet = next(demuxer)
        except StopIteration:
            return first, ""
        except (av.FFmpegError, OSError) as err:
            return first, str(getattr(err, "strerror", None) or err)
        # Discarded packets (edit lists) are needed to decode others and are never shown.
        if packet.size and packet.is_discard:
            packets.discarded += 1
        elif packet.size:
            packets.add(packet)
            if limits.max_frames is not None and packets.count > limits.max_frames:
                raise VideoTooLarge(f"{source.name}: more than {limits.max_frames} frames", source=source.name)
        if first is None:
            try:
                first = next(iter(stream.codec_context.decode(packet)), None)
            except (av.FFmpegError, EOFError) as err:
                packets.undecodable += 1
                packets.last_error = str(getattr(err, "strerror", None) or err)


def _assemble(
    container: InputContainer, stream: VideoStream, packets: _Packets, first: VideoFrame, broken: str
) -> FrameIndex:
    pts = np.frombuffer(packets.pts, np.int64)
    pts = np.sort(pts)
    untimed = container.format.name in _UNTIMED_FORMATS and (packets.reordered or stream.codec_context.has_b_frames)
    timed = not (untimed or packets.missing_pts or first.pts is None) and bool(np.all(np.diff(pts) > 0))
    if timed and first.pts is not None:
        # What lies before the first decodable frame can never be shown: a stream that begins between keyframes.
        pts = pts[pts >= first.pts]
        timed = len(pts) > 0 and int(pts[0]) == first.pts
    if not timed:
        pts = _spread(np.sort(np.frombuffer(packets.pts, np.int64)), packets.last_duration)
    time_base = stream.time_base or Fraction(1, 1000)
    step = packets.last_duration or (int(np.median(np.diff(pts))) if len(pts) > 1 else 0)
    if step <= 0:
        step = int(1 / (stream.average_rate or 25) / time_base)
    return FrameIndex(
        pts=pts,
        keyframe_pts=np.array(packets.keyframe_pts, np.int64),
        keyframe_dts=np.array(packets.keyframe_dts, np.int64),
        time_base=time_base,
        timed=timed,
        end_pts=int(pts[-1]) + step,
        warnings=tuple(_warnings(stream, packets, len(pts), broken)),
    )


def _spread(pts: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Times that never stand still or run backwards, for frames that are only counted."""
    if len(pts) > 1 and not np.all(np.diff(pts) > 0):
        step = step or max(1, int((pts[-1] - pts[0]) // (len(pts) - 1)))
        return np.asarray(pts[0] + step * np.arange(len(pts)), np.int64)
    return pts


def _warnings(stream: VideoStream, packets: _Packets, num_frames: int, broken: str) -> list[str]:
    found = []
    there = packets.count + packets.discarded
    if stream.frames > there:
        lost = stream.frames - there
        found.append(f"the header promises {stream.frames} frames, {there} are there ({lost} lost)")
    if broken:
        found.append(f"the file ends before its container does ({broken})")
    if packets.corrupt:
        found.append(f"{packets.corrupt} packets are marked as damaged")
    if num_frames < packets.count:
        found.append(f"the first {packets.count - num_frames} frames cannot be decoded: no keyframe before them")
    return found


def _no_frame_error(
    stream: VideoStream, source: Source, packets: _Packets, broken: str
) -> NoFrames | TruncatedVideo | UndecodableVideo:
    name, codec = source.name, stream.codec_context.name
    if packets.count == 0 and (broken or stream.frames):
        promised = f"the header promises {stream.frames} frames" if stream.frames else "its data is missing"
        return TruncatedVideo(f"{name}: cut off before its first frame; {promised}", source=name)
    if packets.count == 0:
        return NoFrames(f"{name}: its {codec} stream holds no frames (zero duration)", source=name)
    if broken or (stream.frames > packets.count and packets.count <= 2):
        return TruncatedVideo(f"{name}: cut off within its first frames; none of them decodes", source=name)
    why = f" ({packets.last_error})" if packets.last_error else ""
    return UndecodableVideo(f"{name}: {packets.count} {codec} frames, none of which can be decoded{why}", source=name)
