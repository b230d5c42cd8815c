"""Which streams let a decoder drop the frames that no other refers to, and give the others unchanged.

H.264 marks such frames, but where it may code the two fields of a frame apart, a packet can be half a frame. HEVC marks
frames that none of their own temporal layer refers to, so there must be one layer only. In MPEG-1, -2 and -4 they are
the B-frames. VP8 and VP9 carry segmentation and probabilities from one frame to the next whatever refers to it, and
dav1d (AV1) answers for an earlier packet than the one it was handed: all frames of theirs are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator

_B_FRAME_CODECS = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})
_H264_SPS, _HEVC_VPS = 7, 32
# H.264 profiles whose sequence parameters begin with a chroma format (Rec. H.264, 7.3.2.1.1).
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


def may_drop_frames(codec: str, extradata: bytes | None) -> bool:
    """`codec`: its canonical name; `extradata`: its parameter sets, as FFmpeg has them (avcC, hvcC or start codes)."""
    if codec in _B_FRAME_CODECS:
        return True
    try:
        if codec == "h264":
            sequences = [n for n in _units(extradata or b"", codec) if n[0] & 0x1F == _H264_SPS]
            return bool(sequences) and all(_has_whole_frames_only(n) for n in sequences)
        if codec == "hevc":
            parameters = [n for n in _units(extradata or b"", codec) if (n[0] >> 1) & 0x3F == _HEVC_VPS]
            # vps_max_sub_layers_minus1: after the unit's header (16 bits), an id (4), flags (2) and layers (6).
            return bool(parameters) and all((n[3] >> 1) & 7 == 0 for n in parameters)
    except IndexError:  # parameter sets that are cut off
        pass
    return False


def _units(extradata: bytes, codec: str) -> Iterator[bytes]:
    """NAL units of the parameter sets, headers included, never empty."""
    units: Iterator[bytes]
    if extradata[:1] != b"\x01":
        units = (u.rstrip(b"\0") for u in extradata.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1"))
    elif codec == "h264":
        units = _avc_units(extradata)
    else:
        units = _hevc_units(extradata)
    yield from (u.replace(b"\0\0\3", b"\0\0") for u in units if u)


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


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = 2 * value + (self._data[self._at >> 3] >> (7 - self._at % 8) & 1)
            self._at += 1
        return value

    def golomb(self) -> int:
        """Exp-Golomb; signed codes have the same length, and their values do not matter here."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


def _has_whole_frames_only(unit: bytes) -> bool:
    """frame_mbs_only_flag of a sequence parameter set (Rec. H.264, 7.3.2.1.1)."""
    bits = _Bits(unit)
    bits.read(8)
    profile = bits.read(8)
    bits.read(16)
    bits.golomb()  # its id
    if profile in _HIGH_PROFILES:
        chroma_format = bits.golomb()
        if chroma_format == 3:
            bits.read(1)
        bits.golomb()
        bits.golomb()
        bits.read(1)
        if bits.read(1):
            for i in range(12 if chroma_format == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    bits.golomb()
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.read(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()  # reference frames
    bits.read(1)
    bits.golomb()  # width
    bits.golomb()  # height
    return bool(bits.read(1))


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            code = bits.golomb()
            delta = (code + 1) // 2 if code % 2 else -(code // 2)
            following = (last + delta) % 256
        last = following or last
