"""How many shown frames a packet gives, told from a few bits of its headers, without decoding it.

A packet is not a frame. VP8, VP9 and AV1 have frames that are only referred to and never shown; an AVI of DivX or XviD
packs two frames into one packet and an empty one ("N-VOP") into the next, or repeats a frame by an empty one; a packet
of H.264 or MPEG-2 may hold one field of a frame; HEVC has leading pictures that cannot be decoded after a cut. Only
`ONLY_DECODING_TELLS` is left to a decoder: packets that are damaged or that hold what these few bits do not explain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from av.packet import Packet
from av.video.stream import VideoStream

from tenclip_video.parameter_sets import (
    BitReader,
    HevcSliceLayout,
    SequenceParameters,
    h264_sequence_parameters,
    hevc_slice_layout,
    is_single_unit,
    nal_length_bytes,
    nal_positions,
)

# Returned for a packet whose number of frames its headers do not tell.
ONLY_DECODING_TELLS: Final = -1

# The packets of one stream, in decoding order, to the number of frames that the decoder gives for each.
PacketCounter: TypeAlias = "Callable[[Packet[VideoStream]], int]"

_VOP_START, _VOL_STARTS, _USER_DATA, _GROUP_OF_VOPS = b"\0\0\1\xb6", range(0x20, 0x30), 0xB2, 0xB3
_I_VOP, _B_VOP = 0, 2
_PACKED_USER_DATA = re.compile(rb"DivX\d+(?:Build|b)\d+p")
_PICTURE_START, _EXTENSION_START = b"\0\0\1\0", b"\0\0\1\xb5"
_CODING_EXTENSION, _WHOLE_FRAME = 8, 3
# H.264 NAL unit types of slices: non-IDR, data partition A, IDR. Their headers up to the field flags fit into these.
_SLICES, _IDR = frozenset({1, 2, 5}), 5
_SLICE_HEADER_BYTES = 24
# HEVC NAL unit types (Rec. H.265, table 7-1).
_HEVC_SKIPPED_LEADING, _HEVC_BROKEN_LINKS = frozenset({8, 9}), frozenset({16, 17, 18})
_HEVC_TRAILING = frozenset({0, 1})
_HEVC_IDR, _HEVC_RANDOM_ACCESS, _HEVC_NON_PICTURES, _HEVC_ENDS = (19, 20), range(16, 24), 32, (36, 37)


def packet_counter(codec: str, extradata: bytes | None, *, finds_losses: bool = False) -> PacketCounter | None:
    """The counter for a codec by FFmpeg's canonical name; None where each packet is one shown frame.

    extradata: the stream's parameter sets as FFmpeg has them (avcC, hvcC, av1C or start codes).
    finds_losses: read the numbers that H.264 and HEVC give their frames, too, which takes as long as demuxing does.
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
        return _Mpeg2()
    if codec == "h264" and len(extradata) > 6:
        return _H264(extradata, finds_losses=finds_losses)
    if codec == "hevc" and extradata[:1] == b"\x01" and len(extradata) > 22:
        return _Hevc(extradata, finds_losses=finds_losses)
    return None


def _count_vp8(packet: Packet[VideoStream]) -> int:
    """show_frame of a frame's tag (RFC 6386, section 9.1)."""
    return memoryview(packet)[0] >> 4 & 1 if packet.size >= 3 else 0


def _count_vp9(packet: Packet[VideoStream]) -> int:
    """Shown frames of a superframe (VP9 bitstream specification, annex B) or of the one frame that a packet is."""
    data = memoryview(packet)
    last = data[-1]
    if last & 0xE0 != 0xC0:
        return _is_shown_vp9(data)
    count, size_bytes = (last & 7) + 1, (last >> 3 & 3) + 1
    index = 2 + count * size_bytes
    if len(data) < index or data[-index] != last:
        return _is_shown_vp9(data)
    position = 0
    shown = []
    for i in range(count):
        at = len(data) - index + 1 + i * size_bytes
        size = int.from_bytes(data[at : at + size_bytes], "little")
        if position + size > len(data) - index:
            return ONLY_DECODING_TELLS
        if size:
            shown.append(_is_shown_vp9(data[position : position + size]))
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
            self._count(memoryview(extradata)[4:])

    def __call__(self, packet: Packet[VideoStream]) -> int:
        return self._count(memoryview(packet))

    def _count(self, data: memoryview) -> int:
        try:
            shown = sum(self._is_shown(*unit) for unit in _open_bitstream_units(data))
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
        starts = _positions(data, _VOP_START)
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
        for at in _positions(data[:1024], b"\0\0\1"):
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


def _positions(data: bytes, pattern: bytes) -> list[int]:
    found, at = [], data.find(pattern)
    while at >= 0:
        found.append(at)
        at = data.find(pattern, at + 3)
    return found


class _Mpeg2:
    """Pictures of MPEG-1 and -2; two fields are one frame (ISO/IEC 13818-2, 6.3.10: picture_structure)."""

    def __init__(self) -> None:
        # picture_structure of a field whose other one is still to come: 1 (top) or 2 (bottom).
        self._first_field: int | None = None

    def __call__(self, packet: Packet[VideoStream]) -> int:
        data = bytes(packet)
        frames = 0
        for at in _positions(data, _PICTURE_START):
            structure = _picture_structure(data, at)
            if structure == _WHOLE_FRAME:
                self._first_field = None
                frames += 1
            elif self._first_field == 3 - structure:
                self._first_field = None
            else:
                self._first_field = structure
                frames += 1
        return frames if frames < 2 else ONLY_DECODING_TELLS


def _picture_structure(data: bytes, picture: int) -> int:
    """Of the picture whose header begins there, by its coding extension; MPEG-1 has none, and whole frames only."""
    at = data.find(_EXTENSION_START, picture + 4, picture + 64)
    if at < 0 or len(data) <= at + 6 or data[at + 4] >> 4 != _CODING_EXTENSION:
        return _WHOLE_FRAME
    return data[at + 6] & 3 or _WHOLE_FRAME


class _H264:
    """Slices of an H.264 stream; the second field of a frame, in a packet of its own, gives no further frame.

    Left to a decoder: a packet whose units do not fill it, and one before which a reference frame is missing
    (finds_losses), which the decoder makes up from those before it.
    """

    def __init__(self, extradata: bytes, *, finds_losses: bool) -> None:
        self._length_bytes = nal_length_bytes("h264", extradata)
        try:
            sequences = set(h264_sequence_parameters(extradata))
        except IndexError:
            sequences = set()
        self._sequence = sequences.pop() if len(sequences) == 1 else None
        # Whole frames need no look at their slices.
        self._is_plain = not finds_losses and (self._sequence is None or self._sequence.frame_mbs_only)
        # frame_num of the last frame that others may refer to.
        self._reference_number: int | None = None
        # (frame_num, bottom_field_flag) of a field whose other one is still to come.
        self._first_field: tuple[int, int] | None = None

    def __call__(self, packet: Packet[VideoStream]) -> int:
        if self._is_plain and not self._length_bytes:
            return 1
        data = memoryview(packet)
        try:
            if (
                self._is_plain
                and is_single_unit(data, self._length_bytes)
                and data[self._length_bytes] & 0x1F in _SLICES
            ):
                return 1
            slices = self._slices(data)
            if not slices:
                return int(b"\0\0\1" in bytes(data))  # some writers put units with start codes into one with a length
            return 1 if self._is_plain or self._sequence is None else self._count(slices, self._sequence)
        except IndexError:
            return ONLY_DECODING_TELLS

    def _slices(self, data: memoryview) -> list[memoryview]:
        """The header of each slice; of the first one where the others cannot matter."""
        slices = []
        for at in nal_positions(data, self._length_bytes):
            if data[at] & 0x1F in _SLICES:
                slices.append(data[at : at + _SLICE_HEADER_BYTES])
                if not self._length_bytes and (self._sequence is None or self._sequence.frame_mbs_only):
                    break
        return slices

    def _count(self, slices: list[memoryview], sequence: SequenceParameters) -> int:
        number, parity = self._parse(slices[0], sequence)
        if parity is not None and self._first_field == (number, 1 - parity):
            self._first_field = None
            return 0
        self._first_field = None
        if parity is not None and {self._parse(header, sequence)[1] for header in slices} == {parity}:
            self._first_field = number, parity
        before, is_reference = self._reference_number, slices[0][0] & 0x60
        if is_reference:
            self._reference_number = number
        if before is None or sequence.allows_gaps or slices[0][0] & 0x1F == _IDR:
            return 1
        following = (before + 1) % (1 << sequence.frame_num_bits)
        is_next = number == following or (not is_reference and number == before)  # some encoders do not count those
        return 1 if is_next else ONLY_DECODING_TELLS

    def _parse(self, header: memoryview, sequence: SequenceParameters) -> tuple[int, int | None]:
        """(frame_num, bottom_field_flag of a field's slice or None of a frame's) (Rec. H.264, 7.3.3)."""
        bits = BitReader(bytes(header[1:]).replace(b"\0\0\3", b"\0\0"))
        bits.exp_golomb()  # first macroblock
        bits.exp_golomb()  # slice type
        bits.exp_golomb()  # picture parameter set
        if sequence.separate_planes:
            bits.read(2)
        number = bits.read(sequence.frame_num_bits)
        is_field = not sequence.frame_mbs_only and bits.read(1)
        return number, bits.read(1) if is_field else None


class _Hevc:
    """Pictures of an hvcC stream, without leading pictures that refer to what was cut away (RASL, Rec. H.265, 8.1.3).

    loss_pts: beginning of the first coded video sequence in which picture order counts are missing (finds_losses), None
    if none is. FFmpeg withholds the pictures that refer to missing ones: only decoding tells which are left.
    """

    def __init__(self, extradata: bytes, *, finds_losses: bool) -> None:
        self._length_bytes = nal_length_bytes("hevc", extradata)
        self._layout = hevc_slice_layout(extradata) if finds_losses else None
        self._after_cut = True  # at the beginning, and behind an end of sequence
        self._skips_leading = False
        self._counts = _OrderCounts(0)
        self._loss_pts: int | None = None

    def __call__(self, packet: Packet[VideoStream]) -> int:
        data = memoryview(packet)
        shown = 0
        try:
            is_single = self._layout is None and is_single_unit(data, self._length_bytes)
            if is_single and data[self._length_bytes] >> 1 & 0x3F in _HEVC_TRAILING:
                return 1
            for at in nal_positions(data, self._length_bytes):
                unit_type = data[at] >> 1 & 0x3F
                if unit_type in _HEVC_ENDS:
                    self._after_cut = True
                elif unit_type < _HEVC_NON_PICTURES and data[at + 2] & 0x80:  # the first slice of a picture
                    shown = int(self._is_shown(unit_type))
                    if shown and self._layout is not None:
                        self._count(packet, unit_type, data[at : at + _SLICE_HEADER_BYTES], self._layout)
        except IndexError:
            return ONLY_DECODING_TELLS
        return shown

    @property
    def loss_pts(self) -> int | None:
        if self._loss_pts is None and not self._counts.are_complete():
            self._loss_pts = self._counts.start_pts
        return self._loss_pts

    def _is_shown(self, unit_type: int) -> bool:
        if unit_type in _HEVC_RANDOM_ACCESS:
            self._skips_leading = self._after_cut or unit_type in _HEVC_BROKEN_LINKS
            self._after_cut = False
        return not (self._skips_leading and unit_type in _HEVC_SKIPPED_LEADING)

    def _count(self, packet: Packet[VideoStream], unit_type: int, header: memoryview, layout: HevcSliceLayout) -> None:
        low_bits = 0
        if unit_type not in _HEVC_IDR:
            bits = BitReader(bytes(header[2:]).replace(b"\0\0\3", b"\0\0"))
            bits.read(2 if unit_type in _HEVC_RANDOM_ACCESS else 1)
            bits.exp_golomb()  # picture parameter set
            bits.read(layout.extra_bits)
            bits.exp_golomb()  # slice type
            bits.read(layout.has_output_flag + 2 * layout.separate_planes)
            low_bits = bits.read(layout.order_count_bits)
        if unit_type in _HEVC_RANDOM_ACCESS and (unit_type in _HEVC_IDR or self._skips_leading):
            self._loss_pts = self.loss_pts
            self._counts = _OrderCounts(packet.pts or 0)
        # Rec. H.265, 8.3.1: what prevTid0Pic may be.
        is_reference = header[1] & 7 == 1 and (unit_type >= 16 or (unit_type % 2 == 1 and unit_type not in (7, 9)))
        self._counts.add(low_bits, 1 << layout.order_count_bits, is_reference=is_reference)


class _OrderCounts:
    """Picture order counts of one coded video sequence (Rec. H.265, 8.3.1), which encoders number without gaps."""

    def __init__(self, start_pts: int) -> None:
        self.start_pts = start_pts
        self._counts: list[int] = []
        self._previous = 0

    def add(self, low_bits: int, modulus: int, *, is_reference: bool) -> None:
        if not self._counts:
            self._previous = low_bits
        half = modulus // 2
        count = self._previous + (low_bits - self._previous + half) % modulus - half
        self._counts.append(count)
        if is_reference:
            self._previous = count

    def are_complete(self) -> bool:
        ordered = sorted(self._counts)
        return len({b - a for a, b in pairwise(ordered)}) < 2
