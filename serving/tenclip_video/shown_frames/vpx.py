"""VP8 and VP9: frames that are decoded for later ones to refer to, and never shown."""

from __future__ import annotations

from av.packet import Packet
from av.video.stream import VideoStream

from tenclip_video.shown_frames.counts import ONLY_DECODING_TELLS


def count_vp8(packet: Packet[VideoStream]) -> int:
    """show_frame of a frame's tag (RFC 6386, section 9.1)."""
    return memoryview(packet)[0] >> 4 & 1 if packet.size >= 3 else 0


def count_vp9(packet: Packet[VideoStream]) -> int:
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
