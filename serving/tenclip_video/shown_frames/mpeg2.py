"""MPEG-1 and -2: frames whose two fields are pictures of their own."""

from __future__ import annotations

from av.packet import Packet
from av.video.stream import VideoStream

from tenclip_video.shown_frames.counts import ONLY_DECODING_TELLS
from tenclip_video.shown_frames.start_codes import positions

_PICTURE_START, _EXTENSION_START = b"\0\0\1\0", b"\0\0\1\xb5"
_CODING_EXTENSION, _WHOLE_FRAME = 8, 3


class Mpeg2Counter:
    """Pictures of MPEG-1 and -2; two fields are one frame (ISO/IEC 13818-2, 6.3.10: picture_structure)."""

    def __init__(self) -> None:
        # picture_structure of a field whose other one is still to come: 1 (top) or 2 (bottom).
        self._first_field: int | None = None

    def __call__(self, packet: Packet[VideoStream]) -> int:
        data = bytes(packet)
        frames = 0
        for at in positions(data, _PICTURE_START):
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
    """Structure of the picture whose header begins there, by its coding extension (MPEG-1 has whole frames only)."""
    at = data.find(_EXTENSION_START, picture + 4, picture + 64)
    if at < 0 or len(data) <= at + 6 or data[at + 4] >> 4 != _CODING_EXTENSION:
        return _WHOLE_FRAME
    return data[at + 6] & 3 or _WHOLE_FRAME
