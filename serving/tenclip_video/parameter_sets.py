"""The few values of H.264 and HEVC parameter sets that reading single frames depends on, and a reader of bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_H264_SPS, _HEVC_VPS = 7, 32
# H.264 profiles whose sequence parameters begin with a chroma format (Rec. H.264, 7.3.2.1.1).
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


@dataclass(frozen=True)
class SequenceParameters:
    """Values of an H.264 sequence parameter set (Rec. H.264, 7.3.2.1.1).

    frame_mbs_only: every picture is a whole frame; otherwise one may be a single field.
    frame_num_bits: length of frame_num in slice headers. separate_planes: separate_colour_plane_flag.
    """

    frame_mbs_only: bool
    frame_num_bits: int
    separate_planes: bool


def h264_sequence_parameters(extradata: bytes) -> list[SequenceParameters]:
    """Of each sequence parameter set in an avcC record or behind start codes. Raises IndexError if one is cut off."""
    units = _avc_units(extradata) if extradata[:1] == b"\x01" else _start_code_units(extradata)
    return [_parse_sps(unit) for unit in _without_emulation(units) if unit[0] & 0x1F == _H264_SPS]


def hevc_temporal_layers(extradata: bytes) -> list[int]:
    """Number of temporal layers by each video parameter set of an hvcC record or behind start codes.

    Raises IndexError if one is cut off.
    """
    units = _hevc_units(extradata) if extradata[:1] == b"\x01" else _start_code_units(extradata)
    # vps_max_sub_layers_minus1: after the unit's header (16 bits), an id (4), flags (2) and layers (6).
    return [((unit[3] >> 1) & 7) + 1 for unit in _without_emulation(units) if (unit[0] >> 1) & 0x3F == _HEVC_VPS]


class BitReader:
    """Reads bits, the highest of a byte first. Raises IndexError beyond the end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> int:
        """An unsigned number of `count` bits."""
        value = 0
        for _ in range(count):
            value = 2 * value + (self._data[self._at >> 3] >> (7 - self._at % 8) & 1)
            self._at += 1
        return value

    def exp_golomb(self) -> int:
        """An unsigned Exp-Golomb code, ue(v). Signed codes have the same length."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


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
    bits.read(1)
    bits.exp_golomb()  # width
    bits.exp_golomb()  # height
    return SequenceParameters(bool(bits.read(1)), frame_num_bits, separate_planes)


def _read_high_profile(bits: BitReader) -> bool:
    """What the high profiles add to a sequence parameter set; separate_colour_plane_flag."""
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
