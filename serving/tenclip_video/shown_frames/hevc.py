"""HEVC: leading pictures behind a cut, and lost pictures."""

from __future__ import annotations

from itertools import pairwise

from av.packet import Packet
from av.video.stream import VideoStream

from tenclip_video.parameter_sets import (
    BitReader,
    HevcSliceLayout,
    hevc_slice_layout,
    is_single_unit,
    nal_length_bytes,
    nal_positions,
)
from tenclip_video.shown_frames.counts import ONLY_DECODING_TELLS

# HEVC NAL unit types (Rec. H.265, table 7-1).
_HEVC_SKIPPED_LEADING, _HEVC_BROKEN_LINKS = frozenset({8, 9}), frozenset({16, 17, 18})
_HEVC_TRAILING = frozenset({0, 1})
_HEVC_IDR, _HEVC_RANDOM_ACCESS, _HEVC_NON_PICTURES, _HEVC_ENDS = (19, 20), range(16, 24), 32, (36, 37)
_SLICE_HEADER_BYTES = 24


class HevcCounter:
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
