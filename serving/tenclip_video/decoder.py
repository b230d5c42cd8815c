"""Decoding one video: packets in, frames out, from its beginning or from any of its keyframes."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.codec.context import Flags2
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tenclip_video.droppable import droppable_packets, may_drop_frames
from tenclip_video.index import FrameIndex, demux
from tenclip_video.source import Limits, Source, open_container, video_stream

# Later than any time of a stream, in ticks.
NO_TIME = 1 << 62
# Codecs of which a packet is one frame: once the packets that matter are in, the decoder can be emptied.
_DRAINING_CODECS = frozenset({"h264", "hevc"})


class FrameDecoder:
    """The container and the decoder of one video.

    damage: times of damaged packets and frames, for the reader to clear. undecodable: (dts, position) of packets that
    could not be decoded; one may be tried more than once. out_of_memory: whether that was for lack of memory. A damaged
    packet may ask for absurd amounts, so this explains a failure only when no frame at all is decoded.
    """

    def __init__(self, source: Source, limits: Limits, threads: int) -> None:
        self.frames_decoded = self.seeks = 0
        self.damage: list[int] = []
        self.undecodable: set[tuple[int | None, int | None]] = set()
        self.out_of_memory = False
        self._source, self._limits, self._threads = source, limits, threads
        self._pending: Packet[VideoStream] | None = None
        self._container: InputContainer | None = None
        try:
            self.reopen()
        except BaseException:
            self.close()
            raise
        codec = self.stream.codec_context
        name, extradata = codec.codec.canonical_name, codec.extradata
        # Whether no other frame refers to that of a packet.
        self.is_droppable = droppable_packets(name, extradata)
        self._drains = name in _DRAINING_CODECS and may_drop_frames(name, extradata)

    @property
    def name(self) -> str:
        """Name of the video in messages."""
        return self._source.name

    @property
    def codec(self) -> str:
        """FFmpeg's canonical name of the codec."""
        return self.stream.codec_context.codec.canonical_name

    @property
    def container(self) -> InputContainer:
        """Raises ValueError once it is closed."""
        if self._container is None:
            raise ValueError(f"{self.name}: this video is closed")
        return self._container

    @property
    def closed(self) -> bool:
        """Whether there is no container any more."""
        return self._container is None

    def decode(self, needed: frozenset[int] | None) -> Iterator[VideoFrame]:
        """Decode from where the container stands. A damaged packet costs its own frames only.

        needed: times of the frames that matter, so that others are dropped where no frame refers to them; None: drop
        none.
        """
        codec = self.stream.codec_context
        codec.skip_frame = "DEFAULT"
        if needed is None:
            for packet in self.packets():
                yield from self.decode_packet(packet)
            return
        remaining = set(needed)
        dropping = False
        for packet in self.packets():
            matters = packet.pts is None or packet.size == 0 or packet.pts in remaining
            # Only where it may drop a frame: FFmpeg hides damage in others, too, when it is told to drop some.
            drops = not matters and self.is_droppable(packet)
            if dropping != drops:
                dropping = drops
                codec.skip_frame = "NONREF" if dropping else "DEFAULT"
            yield from self.decode_packet(packet)
            if self._drains and matters:
                remaining.discard(packet.pts or 0)
                if not remaining:
                    # Nothing that is still to come changes these frames; the next read begins with a seek.
                    yield from self.decode_packet(None)
                    return

    def decode_packet(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that come out for a packet; None empties the decoder, and the next read has to seek."""
        try:
            frames = self.stream.codec_context.decode(packet)
        except EOFError:
            return []  # emptied already
        except av.FFmpegError as err:
            self.out_of_memory |= isinstance(err, MemoryError)
            if packet is not None:
                self.undecodable.add((packet.dts, packet.pos))
                self.damage.append(-NO_TIME if packet.pts is None else packet.pts)
            return []
        self.frames_decoded += len(frames)
        self.damage += [frame.pts for frame in frames if frame.is_corrupt and frame.pts is not None]
        return frames

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets from where the container stands to the end, however it comes; the last one is empty and flushes."""
        if self._pending is not None:
            packet, self._pending = self._pending, None
            yield packet
        for packet, _ in demux(self.container, self.stream):
            yield packet

    def seek_before(self, frame: int, index: FrameIndex, *, keyframes_back: int = 0) -> int | None:
        """Stand at the last keyframe from which `frame` can be decoded, `keyframes_back` before it, or earlier.

        Returns the keyframe's time, None at the beginning of the file.
        """
        keyframes = index.keyframe_pts
        at = int(np.searchsorted(keyframes, index.pts[frame], side="right")) - 1 - keyframes_back
        self.seeks += at > 0
        if at < 0 or not len(keyframes):
            self.reopen()
            return None
        # Demuxers disagree on whether a seek compares presentation or decoding times.
        targets = [*keyframes[at : at + 1], *index.keyframe_dts[at : at + 1], *keyframes[at - 1 : at]]
        for target in targets:
            landing = self._seek(int(target))
            # A container without an index guesses where it is: only keyframes that the index knows are believed.
            if landing is not None and landing <= keyframes[at] and landing in index.keyframe_pts:
                return landing
        self.reopen()
        return None

    def _seek(self, target: int) -> int | None:
        """Seek to `target` (stream time); the time of the keyframe found there, None if there is none."""
        try:
            self.container.seek(target, stream=self.stream, backward=True)
            packets = demux(self.container, self.stream)
            self._pending = next((p for p, _ in packets if p.is_keyframe and p.pts is not None), None)
        except (av.FFmpegError, OSError):
            return None
        return None if self._pending is None else self._pending.pts

    def reopen(self, *, motion_vectors: bool = False) -> None:
        """Stand at the beginning, in a new container: not every format can seek back there.

        motion_vectors: frames carry those of the stream as side data, until it is reopened without.
        """
        self.close()
        self._pending = None
        self._container = open_container(self._source, self._limits)
        self.stream: VideoStream = video_stream(self._container, self._source, self._limits)
        self.stream.thread_count = self._threads
        self.stream.thread_type = "FRAME" if self._threads > 1 else "NONE"
        if motion_vectors:
            self.stream.codec_context.flags2 |= Flags2.export_mvs

    def close(self) -> None:
        """Close the container; closing twice does nothing."""
        if self._container is not None:
            self._container.close()
            self._container = None
