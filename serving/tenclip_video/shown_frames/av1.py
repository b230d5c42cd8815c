"""AV1: shown frames of a temporal unit."""

from __future__ import annotations

from collections.abc import Iterator

from av.packet import Packet
from av.video.stream import VideoStream

from tenclip_video.shown_frames.counts import ONLY_DECODING_TELLS


class Av1Counter:
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
