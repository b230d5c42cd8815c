"""The parts of H.264 and HEVC streams that reading single frames needs: NAL units, parameters, a reader of bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_H264_SPS, _HEVC_VPS, _HEVC_SPS, _HEVC_PPS = 7, 32, 33, 34
# H.264 profiles whose sequence parameters begin with a chroma format (Rec. H.264, 7.3.2.1.1).
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


@dataclass(frozen=True)
class SequenceParameters:
    """Values of an H.264 sequence parameter set (Rec. H.264, 7.3.2.1.1).

    frame_mbs_only: every picture is a whole frame; otherwise one may be a single field.
    frame_num_bits: length of frame_num in slice headers. separate_planes: separate_colour_plane_flag.
    allows_gaps: gaps_in_frame_num_value_allowed_flag.
    """

    frame_mbs_only: bool
    frame_num_bits: int
    separate_planes: bool
    allows_gaps: bool


def h264_sequence_parameters(extradata: bytes) -> list[SequenceParameters]:
    """Each sequence parameter set of an avcC record or behind start codes. Raises IndexError if one is cut off."""
    units = _avc_units(extradata) if extradata[:1] == b"\x01" else _start_code_units(extradata)
    return [_parse_sps(unit) for unit in _without_emulation(units) if unit[0] & 0x1F == _H264_SPS]


def hevc_temporal_layers(extradata: bytes) -> list[int]:
    """Number of temporal layers by each video parameter set of an hvcC record or behind start codes.

    Raises IndexError if one is cut off.
    """
    # vps_max_sub_layers_minus1: after the unit's header (16 bits), an id (4), flags (2) and layers (6).
    return [((unit[3] >> 1) & 7) + 1 for kind, unit in _hevc_parameter_sets(extradata) if kind == _HEVC_VPS]


@dataclass(frozen=True)
class HevcSliceLayout:
    """Fields before slice_pic_order_cnt_lsb in a slice header (Rec. H.265, 7.3.6.1), and their length.

    order_count_bits: its length. extra_bits: num_extra_slice_header_bits. has_output_flag: output_flag_present_flag.
    separate_planes: separate_colour_plane_flag.
    """

    order_count_bits: int
    extra_bits: int
    has_output_flag: bool
    separate_planes: bool


def hevc_slice_layout(extradata: bytes) -> HevcSliceLayout | None:
    """The layout that all slices of a stream have; None where its parameter sets differ in it or are cut off."""
    try:
        sets = list(_hevc_parameter_sets(extradata))
        sequences = {_parse_hevc_sps(unit) for kind, unit in sets if kind == _HEVC_SPS}
        pictures = {_parse_hevc_pps(unit) for kind, unit in sets if kind == _HEVC_PPS}
    except IndexError:
        return None
    if len(sequences) != 1 or len(pictures) != 1:
        return None
    order_count_bits, separate_planes = sequences.pop()
    has_output_flag, extra_bits = pictures.pop()
    return HevcSliceLayout(order_count_bits, extra_bits, has_output_flag, separate_planes)


class BitReader:
    """Reads the bits of a few bytes, the highest of a byte first. Raises IndexError beyond the end.

    >>> bits = BitReader(bytes([0b101_00100]))
    >>> bits.read(3), bits.exp_golomb()
    (5, 3)
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._left = 8 * len(data)
        self._value = int.from_bytes(data, "big")  # of the bits that are left

    def read(self, count: int) -> int:
        """An unsigned number of `count` bits."""
        self._left -= count
        if self._left < 0:
            raise IndexError("no more bits")
        value = self._value >> self._left
        self._value &= (1 << self._left) - 1
        return value

    def exp_golomb(self) -> int:
        """An unsigned Exp-Golomb code, ue(v). Signed codes have the same length."""
        zeros = self._left - self._value.bit_length()
        return self.read(min(2 * zeros + 1, self._left + 1)) - 1


def nal_length_bytes(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each NAL unit of a stream's packets, by its avcC or hvcC record; 0: start codes."""
    if extradata[:1] != b"\x01":
        return 0
    at = 4 if codec == "h264" else 21
    return (extradata[at] & 3) + 1 if len(extradata) > at else 0


def is_single_unit(packet: memoryview, length_bytes: int) -> bool:
    """Whether a packet is one NAL unit behind its length, as most are."""
    return int.from_bytes(packet[:length_bytes], "big") == len(packet) - length_bytes > 0


def nal_positions(packet: memoryview, length_bytes: int) -> Iterator[int]:
    """Where each NAL unit of a packet begins, behind its length or (length_bytes: 0) its start code.

    Raises IndexError for a unit that ends beyond the packet.
    """
    if not length_bytes:
        yield from _start_code_positions(bytes(packet))
        return
    position = 0
    while position + length_bytes < len(packet):
        length = int.from_bytes(packet[position : position + length_bytes], "big")
        position += length_bytes
        if position + length > len(packet):
            raise IndexError("a unit that ends beyond its packet")
        if length:
            yield position
        position += length


def _start_code_positions(data: bytes) -> Iterator[int]:
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        yield at + 3
        at = data.find(b"\0\0\1", at + 3)


def _without_emulation(units: Iterator[bytes]) -> Iterator[bytes]:
    """Units that are not empty, without the bytes that keep start codes out of their payload."""
    yield from (unit.replace(b"\0\0\3", b"\0\0") for unit in units if unit)


def _start_code_units(extradata: bytes) -> Iterator[bytes]:
    yield from (unit.rstrip(b"\0") for unit in extradata.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1"))


def _avc_units(extradata: bytes) -> Iterator[bytes]:
    """The sequence parameter sets of an avcC record (ISO/IEC 14496-15, 5.3.3.1)."""
    position = 6
    for _ in range(extradata[5] & 0x1F):
        size = int.from_bytes(extradata[position : position + 2], "big")
        yield extradata[position + 2 : position + 2 + size]
        position += 2 + size


def _hevc_units(extradata: bytes) -> Iterator[bytes]:
    """All parameter sets of an hvcC record (ISO/IEC 14496-15, 8.3.3.1)."""
    position = 23
    for _ in range(extradata[22]):
        count = int.from_bytes(extradata[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            size = int.from_bytes(extradata[position : position + 2], "big")
            yield extradata[position + 2 : position + 2 + size]
            position += 2 + size


def _hevc_parameter_sets(extradata: bytes) -> Iterator[tuple[int, bytes]]:
    """(NAL unit type, unit) of each."""
    units = _hevc_units(extradata) if extradata[:1] == b"\x01" else _start_code_units(extradata)
    yield from (((unit[0] >> 1) & 0x3F, unit) for unit in _without_emulation(units))


def _parse_hevc_sps(unit: bytes) -> tuple[int, bool]:
    """(length of slice_pic_order_cnt_lsb, separate_colour_plane_flag) (Rec. H.265, 7.3.2.2)."""
    bits = BitReader(unit)
    bits.read(16 + 4)
    sub_layers = bits.read(3)
    bits.read(1 + 88 + 8)  # the general profile, tier and level
    present = [(bits.read(1), bits.read(1)) for _ in range(sub_layers)]
    if sub_layers:
        bits.read(2 * (8 - sub_layers))
    for has_profile, has_level in present:
        bits.read(88 * has_profile + 8 * has_level)
    bits.exp_golomb()  # its id
    separate_planes = bits.exp_golomb() == 3 and bool(bits.read(1))
    bits.exp_golomb()  # width
    bits.exp_golomb()  # height
    if bits.read(1):  # conformance window
        for _ in range(4):
            bits.exp_golomb()
    bits.exp_golomb()  # bit depths
    bits.exp_golomb()
    return bits.exp_golomb() + 4, separate_planes


def _parse_hevc_pps(unit: bytes) -> tuple[bool, int]:
    """(output_flag_present_flag, num_extra_slice_header_bits) (Rec. H.265, 7.3.2.3)."""
    bits = BitReader(unit)
    bits.read(16)
    bits.exp_golomb()  # its id
    bits.exp_golomb()  # that of its sequence
    bits.read(1)
    return bool(bits.read(1)), bits.read(3)


def _parse_sps(unit: bytes) -> SequenceParameters:
    bits = BitReader(unit)
    bits.read(8)
    profile = bits.read(8)
    bits.read(16)
    bits.exp_golomb()  # its id
    separate_planes = profile in _HIGH_PROFILES and _read_high_profile(bits)
    frame_num_bits = bits.exp_golomb() + 4
    order = bits.exp_golomb()
    if order == 0:
        bits.exp_golomb()
    elif order == 1:
        bits.read(1)
        bits.exp_golomb()
        bits.exp_golomb()
        for _ in range(bits.exp_golomb()):
            bits.exp_golomb()
    bits.exp_golomb()  # reference frames
    allows_gaps = bool(bits.read(1))
    bits.exp_golomb()  # width
    bits.exp_golomb()  # height
    return SequenceParameters(bool(bits.read(1)), frame_num_bits, separate_planes, allows_gaps)


def _read_high_profile(bits: BitReader) -> bool:
    """Skips the fields that high profiles add to a sequence parameter set; returns separate_colour_plane_flag."""
    chroma_format = bits.exp_golomb()
    separate_planes = chroma_format == 3 and bool(bits.read(1))
    bits.exp_golomb()
    bits.exp_golomb()
    bits.read(1)
    if bits.read(1):
        for i in range(12 if chroma_format == 3 else 8):
            if bits.read(1):
                _skip_scaling_list(bits, 16 if i < 6 else 64)
    return separate_planes


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            code = bits.exp_golomb()
            delta = (code + 1) // 2 if code % 2 else -(code // 2)
            following = (last + delta) % 256
        last = following or last
