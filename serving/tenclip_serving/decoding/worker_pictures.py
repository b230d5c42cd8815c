"""What a decode worker may send as the pictures of a video: JPEG files of the size that is written beside them.

They are not decoded here: their headers are read, so that a few bytes do not claim to be a picture of gigabytes for the
callers that they go on to. A worker that was taken over can still paint what it likes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenclip_video.filmstrip import MAX_PICTURE_BYTES, MAX_PICTURE_WIDTH, PICTURE_HEIGHT, Thumbnail

# A picture in a message, besides its bytes.
_FIELDS_BYTES = 64
_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
# The headers that hold a picture's size: baseline, extended and progressive (ITU-T T.81, table B.1).
_FRAMES = (0xC0, 0xC1, 0xC2)


def most_picture_bytes(count: int) -> int:
    """Size of `count` pictures in a message, at most."""
    return count * (MAX_PICTURE_BYTES + _FIELDS_BYTES)


def check_thumbnails(thumbnails: Sequence[Thumbnail], asked: int) -> tuple[Thumbnail, ...]:
    """The pictures. Raises ValueError for more than were asked for, for sizes that no picture has, for other files."""
    if len(thumbnails) > asked:
        raise ValueError(f"{len(thumbnails)} pictures where {asked} were asked for")
    before = -math.inf
    for picture in thumbnails:
        if not (math.isfinite(picture.seconds) and picture.seconds > before):
            raise ValueError(f"a picture of {picture.seconds} s after one of {before} s")
        if not (1 <= picture.width <= MAX_PICTURE_WIDTH and 1 <= picture.height <= PICTURE_HEIGHT):
            raise ValueError(f"a picture of {picture.width}x{picture.height} pixels")
        if len(picture.jpeg) > MAX_PICTURE_BYTES:
            raise ValueError(f"a picture of {len(picture.jpeg)} bytes")
        if jpeg_size(picture.jpeg) != (picture.width, picture.height):
            raise ValueError(f"a picture that is no JPEG file of {picture.width}x{picture.height} pixels")
        before = picture.seconds
    return tuple(thumbnails)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG file, by its one frame header; None for what is no such file."""
    if not (data.startswith(_START) and data.endswith(_END)):
        return None
    position, found = 2, None
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _SCAN:
            return found
        if marker in _FRAMES:
            if found is not None or length < 8:
                return None
            height, width = (int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7))
            found = width, height
        position += 2 + length
    return None
