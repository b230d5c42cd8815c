"""MPEG-4 part 2: empty VOPs, and frames that DivX and XviD pack."""

from __future__ import annotations

import re
from typing import NamedTuple

from av.packet import Packet
from av.video.stream import VideoStream

from tenclip_video.parameter_sets import BitReader
from tenclip_video.shown_frames.counts import ONLY_DECODING_TELLS
from tenclip_video.shown_frames.start_codes import positions

_VOP_START, _VOL_STARTS, _USER_DATA, _GROUP_OF_VOPS = b"\0\0\1\xb6", range(0x20, 0x30), 0xB2, 0xB3
_I_VOP, _B_VOP = 0, 2
_PACKED_USER_DATA = re.compile(rb"DivX\d+(?:Build|b)\d+p")


class Mpeg4Counter:
    """VOPs of MPEG-4 part 2 (ISO/IEC 14496-2, 6.2.5): those that are coded, and those that packing moves.

    Packed: DivX and XviD write a P- and a B-frame into one packet, for players of AVI that know no reordering. FFmpeg
    holds the second one back and gives it for the next packet, whose own frame it holds back again; an empty VOP ends
    that.

    has_packed: whether a packet held two. repeats_last: the last packet held no coded VOP; if it ends the stream,
    FFmpeg shows the frame before once more, unless there are B-frames.
    """

    def __init__(self, extradata: bytes) -> None:
        self.has_packed = self.repeats_last = False
        self._may_pack = False  # what the stream says of itself
        self._ticks_per_second = 0
        self._held: _Vop | None = None  # the second VOP of a packet, which the decoder gives for the next packet
        self._times = _VopTimes()
        self._read_headers(extradata)

    def __call__(self, packet: Packet[VideoStream]) -> int:
        data = bytes(packet)
        if not data.startswith(_VOP_START):
            self._read_headers(data)
        starts = positions(data, _VOP_START)
        if not starts:
            return int(len(data) > 2 and data[:2] == b"\0\0" and data[2] & 0xFC == 0x80)  # a short header: H.263
        if not self._ticks_per_second:
            return ONLY_DECODING_TELLS
        return self._count([_parse_vop(data[at + 4 : at + 16], self._ticks_per_second) for at in starts])

    def _count(self, vops: list[_Vop]) -> int:
        if self._held is not None:
            decoded, following = self._held, vops
        else:
            decoded, following = vops[0], vops[1:]
        self._held = None
        shown = self._times.fits(decoded, self._ticks_per_second) and decoded.is_coded
        self.repeats_last = not decoded.is_coded
        coded = [vop for vop in following if vop.is_coded]
        if len(coded) > 1 or (coded and not (self._may_pack and coded[0].kind in (_I_VOP, _B_VOP))):
            return ONLY_DECODING_TELLS
        if coded:
            self._held = coded[0]
            self.has_packed = True
        return int(shown)

    def _read_headers(self, data: bytes) -> None:
        for at in positions(data[:1024], b"\0\0\1"):
            code = data[at + 3] if at + 3 < len(data) else 0
            if code in _VOL_STARTS:
                self._ticks_per_second = _ticks_per_second(data[at + 4 : at + 40]) or self._ticks_per_second
            elif code == _USER_DATA:
                self._may_pack |= _PACKED_USER_DATA.match(data, at + 4) is not None
            elif code == _GROUP_OF_VOPS and at + 7 <= len(data):
                bits = BitReader(data[at + 4 : at + 7])
                hours, minutes, _, seconds = bits.read(5), bits.read(6), bits.read(1), bits.read(6)
                self._times.seconds = 3600 * hours + 60 * minutes + seconds


class _Vop(NamedTuple):
    """Header of a VOP. seconds: since those of the last one that is no B-VOP; ticks: of a second."""

    kind: int
    seconds: int
    ticks: int
    is_coded: bool


def _parse_vop(header: bytes, ticks_per_second: int) -> _Vop:
    """By the first bytes behind a start code; bits beyond them are taken for 0."""
    size = 96
    bits = int.from_bytes(header.ljust(size // 8, b"\0"), "big")
    at = size - 3  # behind its type; each 1 from here on is a second
    while bits >> at & 1:
        at -= 1
    ticks_bits = max(1, (ticks_per_second - 1).bit_length())
    at -= 1 + ticks_bits  # a marker
    ticks = bits >> max(at, 0) & ((1 << ticks_bits) - 1)
    return _Vop(bits >> size - 2, size - 3 - at - 1 - ticks_bits, ticks, bool(bits >> max(at - 2, 0) & 1))


class _VopTimes:
    """Whether B-VOPs lie between the two VOPs that they are predicted from: FFmpeg leaves out those that do not."""

    def __init__(self) -> None:
        self.seconds = 0
        self._seconds_before = 0
        self._anchors: tuple[int, int] | None = None
        self._last: int | None = None

    def fits(self, vop: _Vop, ticks_per_second: int) -> bool:
        if vop.kind == _B_VOP:
            time = (self._seconds_before + vop.seconds) * ticks_per_second + vop.ticks
            return self._anchors is not None and self._anchors[0] < time < self._anchors[1]
        self._seconds_before = self.seconds
        self.seconds += vop.seconds
        time = self.seconds * ticks_per_second + vop.ticks
        self._anchors = None if self._last is None else (self._last, time)
        self._last = time
        return True


def _ticks_per_second(header: bytes) -> int:
    """vop_time_increment_resolution of a video object layer (ISO/IEC 14496-2, 6.2.3); 0 if it is cut off."""
    bits = BitReader(header)
    try:
        bits.read(1 + 8)
        version = 1
        if bits.read(1):
            version = bits.read(4)
            bits.read(3)
        if bits.read(4) == 15:  # extended pixel aspect ratio
            bits.read(16)
        if bits.read(1):  # control parameters
            bits.read(3)
            if bits.read(1):
                bits.read(79)
        if bits.read(2) == 3 and version != 1:
            bits.read(4)
        bits.read(1)
        return bits.read(16)
    except IndexError:
        return 0
