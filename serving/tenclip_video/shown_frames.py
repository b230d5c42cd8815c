"""How many shown frames a packet gives, told from a few bits of its headers, without decoding it.

A packet is not a frame. VP8, VP9 and AV1 have frames that are only referred to and never shown; an AVI of DivX or XviD
packs two frames into one packet and an empty one ("N-VOP") into the next, or repeats a frame by an empty one; a packet
of H.264 or MPEG-2 may hold one field of a frame; HEVC has leading pictures that cannot be decoded after a cut. Only
`ONLY_DECODING_TELLS` is left to a decoder: packets that are damaged or that hold what these few bits do not explain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from tenclip_video.parameter_sets import BitReader, h264_sequence_parameters

# Returned for a packet whose number of frames its headers do not tell.
ONLY_DECODING_TELLS: Final = -1

# The packets of one stream, in decoding order, to the number of frames that the decoder gives for each.
PacketCounter: TypeAlias = Callable[[memoryview], int]

_VOP_START, _VOL_STARTS = b"\0\0\1\xb6", range(0x20, 0x30)
_PACKED_USER_DATA = re.compile(rb"DivX\d+(?:Build|b)\d+p")
_PICTURE_START, _EXTENSION_START = b"\0\0\1\0", b"\0\0\1\xb5"
_CODING_EXTENSION, _WHOLE_FRAME = 8, 3
# H.264 NAL unit types of slices: non-IDR, data partition A, IDR. Their headers up to the field flags fit into these.
_SLICES = frozenset({1, 2, 5})
_SLICE_HEADER_BYTES = 24
# HEVC NAL unit types (Rec. H.265, table 7-1).
_HEVC_SKIPPED_LEADING, _HEVC_BROKEN_LINKS = frozenset({8, 9}), frozenset({16, 17, 18})
_HEVC_RANDOM_ACCESS, _HEVC_NON_PICTURES, _HEVC_ENDS = range(16, 24), 32, frozenset({36, 37})


def packet_counter(codec: str, extradata: bytes | None) -> PacketCounter | None:
    """The counter for a codec by FFmpeg's canonical name; None where each packet is one shown frame.

    extradata: the stream's parameter sets as FFmpeg has them (avcC, hvcC, av1C or start codes).
    """
    extradata = extradata or b""
    if codec == "vp8":
        return _count_vp8
    if codec == "vp9":
        return _count_vp9
    if codec == "av1":
        return _Av1(extradata)
    if codec == "mpeg4":
        return _Mpeg4(extradata)
    if codec in ("mpeg1video", "mpeg2video"):
        return _count_mpeg2
    # With start codes, FFmpeg's parser has already cut the stream into whole frames.
    if codec == "h264" and extradata[:1] == b"\x01" and len(extradata) > 6:
        return _H264(extradata)
    if codec == "hevc" and extradata[:1] == b"\x01" and len(extradata) > 22:
        return _Hevc(extradata)
    return None


def _count_vp8(packet: memoryview) -> int:
    """show_frame of a frame's tag (RFC 6386, section 9.1)."""
    return packet[0] >> 4 & 1 if len(packet) >= 3 else 0


def _count_vp9(packet: memoryview) -> int:
    """Shown frames of a superframe (VP9 bitstream specification, annex B) or of the one frame that a packet is."""
    last = packet[-1]
    if last & 0xE0 != 0xC0:
        return _is_shown_vp9(packet)
    count, size_bytes = (last & 7) + 1, (last >> 3 & 3) + 1
    index = 2 + count * size_bytes
    if len(packet) < index or packet[-index] != last:
        return _is_shown_vp9(packet)
    position = 0
    shown = []
    for i in range(count):
        at = len(packet) - index + 1 + i * size_bytes
        size = int.from_bytes(packet[at : at + size_bytes], "little")
        if position + size > len(packet) - index:
            return ONLY_DECODING_TELLS
        if size:
            shown.append(_is_shown_vp9(packet[position : position + size]))
        position += size
    if ONLY_DECODING_TELLS in shown or sum(shown) > 1:  # more than one: layers of one picture
        return ONLY_DECODING_TELLS
    return sum(shown)


def _is_shown_vp9(frame: memoryview) -> int:
    """show_existing_frame or show_frame of an uncompressed header (VP9 bitstream specification, 6.2)."""
    first = frame[0]
    if first >> 6 != 2:
        return ONLY_DECODING_TELLS
    # In profile 3 a reserved bit comes before them.
    bits = first << 1 if first & 0x30 == 0x30 else first
    return int(bool(bits & 0x08) or bool(bits & 0x02))


class _Av1:
    """Frame headers of a temporal unit (AV1 bitstream specification, 5.3 to 5.9.2)."""

    _SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6

    def __init__(self, extradata: bytes) -> None:
        self._is_still = False
        if len(extradata) > 4:  # the four bytes of an av1C record, then open bitstream units
            self(memoryview(extradata)[4:])

    def __call__(self, packet: memoryview) -> int:
        try:
            shown = sum(self._is_shown(*unit) for unit in _open_bitstream_units(packet))
        except (IndexError, _LayeredError):
            return ONLY_DECODING_TELLS
        return shown if shown < 2 else ONLY_DECODING_TELLS

    def _is_shown(self, unit_type: int, payload: memoryview) -> bool:
        if unit_type == self._SEQUENCE_HEADER:
            self._is_still = bool(payload[0] & 0x08)  # reduced_still_picture_header
        if unit_type not in (self._FRAME_HEADER, self._FRAME):
            return False
        # show_existing_frame (1 bit), frame_type (2), show_frame (1)
        return self._is_still or bool(payload[0] & 0x90)


class _LayeredError(Exception):
    """A unit of a spatial layer: the decoder gives one picture for several."""


def _open_bitstream_units(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(type, payload) of each unit (AV1 bitstream specification, 5.3). Raises IndexError for damaged ones."""
    position = 0
    while position < len(data):
        header = data[position]
        position += 1
        if header & 0x04:
            if data[position] >> 3 & 3:
                raise _LayeredError
            position += 1
        size = len(data) - position
        if header & 0x02:
            size, position = _leb128(data, position)
        if header & 0x80 or position + size > len(data):
            raise IndexError("a unit that ends beyond its packet")
        yield header >> 3 & 15, data[position : position + size]
        position += size


def _leb128(data: memoryview, position: int) -> tuple[int, int]:
    """(value, position behind it) of a number in groups of seven bits, the lowest first."""
    value = 0
    for i in range(8):
        byte = data[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if not byte & 0x80:
            return value, position + i + 1
    raise IndexError("a number of more than 8 bytes")


class _Mpeg4:
    """VOPs of MPEG-4 part 2 that are coded (ISO/IEC 14496-2, 6.2.5), and the frames that packing moves between packets.

    Packed: DivX and XviD write a P- and a B-frame into one packet and an empty VOP into the next, for players of AVI
    that know no reordering. FFmpeg gives the second frame for the next packet.
    """

    def __init__(self, extradata: bytes) -> None:
        self.is_packed = False
        self._time_bits = 0
        self._owed = False
        self._read_headers(extradata)

    def __call__(self, packet: memoryview) -> int:
        data = bytes(packet)
        self._read_headers(data)
        starts = _positions(data, _VOP_START)
        if not starts:
            return int(len(data) > 2 and data[:2] == b"\0\0" and data[2] & 0xFC == 0x80)  # a short header: H.263
        if not self._time_bits:
            return ONLY_DECODING_TELLS
        try:
            coded = [at for at in starts if self._is_coded(data[at + 4 : at + 16])]
        except IndexError:
            return ONLY_DECODING_TELLS
        if self._owed:
            self._owed = False
            return 1 if not coded else ONLY_DECODING_TELLS
        if len(coded) < 2:
            return len(coded)
        is_reference = data[coded[1] + 4] & 0x40
        if len(coded) > 2 or not self.is_packed or is_reference:
            return ONLY_DECODING_TELLS
        self._owed = True
        return 1

    def _read_headers(self, data: bytes) -> None:
        for at in _positions(data[:1024], b"\0\0\1"):
            code = data[at + 3 : at + 4]
            if code and code[0] in _VOL_STARTS:
                self._time_bits = _time_increment_bits(data[at + 4 : at + 40]) or self._time_bits
            elif code == b"\xb2":
                self.is_packed |= _PACKED_USER_DATA.match(data, at + 4) is not None

    def _is_coded(self, header: bytes) -> bool:
        bits = BitReader(header)
        bits.read(2)  # its type
        while bits.read(1):  # whole seconds
            pass
        bits.read(1 + self._time_bits + 1)
        return bool(bits.read(1))


def _time_increment_bits(header: bytes) -> int:
    """Length of vop_time_increment by a video object layer (ISO/IEC 14496-2, 6.2.3); 0 if it is cut off."""
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
        return max(1, (bits.read(16) - 1).bit_length())
    except IndexError:
        return 0


def _positions(data: bytes, pattern: bytes) -> list[int]:
    found, at = [], data.find(pattern)
    while at >= 0:
        found.append(at)
        at = data.find(pattern, at + 3)
    return found


def _count_mpeg2(packet: memoryview) -> int:
    """Pictures of MPEG-1 and -2; two fields are one frame (ISO/IEC 13818-2, 6.2.3.1: picture_structure)."""
    data = bytes(packet)
    frames = fields = 0
    for at in _positions(data, _PICTURE_START):
        extension = data.find(_EXTENSION_START, at + 4, at + 64)
        is_coding = extension >= 0 and len(data) > extension + 6 and data[extension + 4] >> 4 == _CODING_EXTENSION
        is_field = is_coding and data[extension + 6] & 3 != _WHOLE_FRAME
        fields += is_field
        frames += not is_field
    count = frames + fields // 2
    return count if fields % 2 == 0 and count < 2 else ONLY_DECODING_TELLS


class _H264:
    """Slices of an avcC stream. A packet of a single field, or one whose units do not fill it, is left to a decoder."""

    def __init__(self, extradata: bytes) -> None:
        self._length_bytes = (extradata[4] & 3) + 1
        try:
            sequences = h264_sequence_parameters(extradata)
        except IndexError:
            sequences = []
        self._fields_of = next((s for s in sequences if not s.frame_mbs_only), None)

    def __call__(self, packet: memoryview) -> int:
        parities = set()
        try:
            for at in _unit_positions(packet, self._length_bytes):
                if packet[at] & 0x1F in _SLICES:
                    parities.add(self._parity(packet[at : at + _SLICE_HEADER_BYTES]) if self._fields_of else None)
        except IndexError:
            return ONLY_DECODING_TELLS
        if not parities:
            return int(b"\0\0\1" in bytes(packet))  # some writers put units with start codes into one with a length
        return 1 if parities in ({None}, {0, 1}) else ONLY_DECODING_TELLS

    def _parity(self, slice_header: memoryview) -> int | None:
        """bottom_field_flag of a field's slice, None of a frame's (Rec. H.264, 7.3.3)."""
        assert self._fields_of is not None
        bits = BitReader(bytes(slice_header).replace(b"\0\0\3", b"\0\0"))
        bits.read(8)
        bits.exp_golomb()  # first macroblock
        bits.exp_golomb()  # slice type
        bits.exp_golomb()  # picture parameter set
        bits.read(2 * self._fields_of.separate_planes + self._fields_of.frame_num_bits)
        return bits.read(1) if bits.read(1) else None


class _Hevc:
    """Pictures of an hvcC stream, without leading ones that refer to what was cut away (RASL, Rec. H.265, 8.1.3)."""

    def __init__(self, extradata: bytes) -> None:
        self._length_bytes = (extradata[21] & 3) + 1
        self._after_cut = True  # at the beginning, and behind an end of sequence
        self._skips_leading = False

    def __call__(self, packet: memoryview) -> int:
        shown = 0
        try:
            for at in _unit_positions(packet, self._length_bytes):
                unit_type = packet[at] >> 1 & 0x3F
                if unit_type in _HEVC_ENDS:
                    self._after_cut = True
                elif unit_type in _HEVC_RANDOM_ACCESS:
                    self._skips_leading = self._after_cut or unit_type in _HEVC_BROKEN_LINKS
                    self._after_cut = False
                    shown = 1
                elif unit_type < _HEVC_NON_PICTURES:
                    shown = int(not (self._skips_leading and unit_type in _HEVC_SKIPPED_LEADING))
        except IndexError:
            return ONLY_DECODING_TELLS
        return shown


def _unit_positions(packet: memoryview, length_bytes: int) -> Iterator[int]:
    """Where each NAL unit of a packet begins; its length comes before it. Raises IndexError if one ends beyond it."""
    position = 0
    while position + length_bytes < len(packet):
        length = int.from_bytes(packet[position : position + length_bytes], "big")
        position += length_bytes
        if position + length > len(packet):
            raise IndexError("a unit that ends beyond its packet")
        if length:
            yield position
        position += length
