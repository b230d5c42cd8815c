"""Frames that no other frame refers to: a decoder may leave them out without changing the others.

H.264 marks them (nal_ref_idc). Where a stream may code the two fields of a frame apart, a packet can be half a frame,
and the mark is not enough. HEVC marks frames that none of their own temporal layer refers to, so the stream must have a
single layer. In MPEG-1 and -2 they are the B-frames. Those of MPEG-4 are not left out: where one is damaged, FFmpeg
decodes the next one differently. VP8 and VP9 carry segmentation and probabilities from one frame to the next, whatever
refers to it; dav1d (AV1) returns the frame of an earlier packet than the one that it was given. All frames of these
are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from av.packet import Packet
from av.video.stream import VideoStream

from tenclip_video.parameter_sets import (
    h264_sequence_parameters,
    hevc_temporal_layers,
    is_single_unit,
    nal_length_bytes,
    nal_positions,
)

PacketTest: TypeAlias = "Callable[[Packet[VideoStream]], bool]"

_B_FRAME_CODECS = frozenset({"mpeg1video", "mpeg2video"})
_PICTURE_START, _B_PICTURE = b"\0\0\1\0", 3


def droppable_packets(codec: str, extradata: bytes | None) -> PacketTest:
    """A test of a stream's packets: whether the frame that one holds may be left out. Arguments as `may_drop_frames`.

    False for every packet of a stream whose headers do not prove it, and for damaged packets.
    """
    if not may_drop_frames(codec, extradata):
        return lambda packet: False
    if codec in _B_FRAME_CODECS:
        return _is_b_picture
    length_bytes = nal_length_bytes(codec, extradata or b"")
    is_unreferenced = _is_unreferenced_h264 if codec == "h264" else _is_unreferenced_hevc

    def test(packet: Packet[VideoStream]) -> bool:
        data = memoryview(packet)
        try:
            if length_bytes and is_single_unit(data, length_bytes):
                return bool(is_unreferenced(data[length_bytes]))
            marks = (is_unreferenced(data[at]) for at in nal_positions(data, length_bytes))
            return next((mark for mark in marks if mark is not None), False)
        except IndexError:
            return False

    return test


def may_drop_frames(codec: str, extradata: bytes | None) -> bool:
    """Whether frames that no other refers to may be left out in a stream (FFmpeg's skip_frame=noref).

    codec: FFmpeg's canonical name. extradata: the stream's parameter sets as FFmpeg has them (avcC, hvcC or start
    codes). False wherever they do not prove it.

    >>> may_drop_frames("vp9", None)
    False
    """
    if codec in _B_FRAME_CODECS:
        return True
    try:
        if codec == "h264":
            sequences = h264_sequence_parameters(extradata or b"")
            return bool(sequences) and all(s.frame_mbs_only for s in sequences)
        if codec == "hevc":
            layers = hevc_temporal_layers(extradata or b"")
            return bool(layers) and max(layers) == 1
    except IndexError:  # parameter sets that are cut off
        pass
    return False


def _is_unreferenced_h264(header: int) -> bool | None:
    """By the first byte of a NAL unit; None if it is no slice."""
    return not header & 0x60 if header & 0x1F in (1, 2, 5) else None


def _is_unreferenced_hevc(header: int) -> bool | None:
    """By the first byte of a NAL unit; None if it is no slice (Rec. H.265, table 7-1: even types below 16)."""
    unit_type = header >> 1 & 0x3F
    return unit_type < 16 and unit_type % 2 == 0 if unit_type < 32 else None


def _is_b_picture(packet: Packet[VideoStream]) -> bool:
    """picture_coding_type of the packet's only picture (ISO/IEC 13818-2, 6.2.3)."""
    data = bytes(packet)
    types = [data[at + 5] >> 3 & 7 for at in _picture_starts(data)]
    return bool(types) and set(types) == {_B_PICTURE}


def _picture_starts(data: bytes) -> Iterator[int]:
    at = data.find(_PICTURE_START)
    while 0 <= at < len(data) - 5:
        yield at
        at = data.find(_PICTURE_START, at + 4)
