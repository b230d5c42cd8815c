"""Detects truncated files: the length that a container declares against the bytes that are there.

Frame counts in headers do not do: Matroska, WebM, FLV, WMV, GIF and MPEG-TS have none. A few reads at the beginning and
at the end of a file are enough for most containers. MPEG-PS, Ogg and raw streams declare no length.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MP4_FIRST_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof"})
_TS_PACKETS = {0: 188, 4: 192}  # offset of the first sync byte -> packet size
# Writers disagree on whether a RIFF's size counts its own header.
_RIFF_SLACK = 8


def count_missing_bytes(file: BinaryIO) -> int:
    """How many bytes a file is shorter than its container declares; 0 for a whole file or one that declares nothing.

    1 for a file that is cut off by an unknown number of bytes. Moves the position of `file`.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(512)
    return max(0, _expected_size(file, head, end) - end)


def is_mp4(head: bytes) -> bool:
    """Whether `head`, the first 8 bytes or more of a file, are those of an MP4 or QuickTime file."""
    return head[4:8] in _MP4_FIRST_BOXES


def is_short_mpegts(file: BinaryIO) -> bool:
    """Whether `file` is MPEG-TS of at most 20 packets, which are too few for FFmpeg to detect it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return 2 * 188 <= size <= 20 * 188 and set(file.read(size)[::188]) == {0x47}


def mp4_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(name, offset of its end) of each top-level box of an MP4; the last one may end beyond the end of the file."""
    end = file.seek(0, io.SEEK_END)
    position = 0
    while position + 8 <= end:
        file.seek(position)
        header = file.read(16)
        size, name = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:16], "big")
        if size == 0:  # to the end of the file
            size = end - position
        # Names are four printable characters; anything else is padding or damage.
        if size < 8 or not all(0x20 <= c < 0x7F or c == 0xA9 for c in name):
            return
        position += size
        yield name, position


def count_readable_bytes(file: BinaryIO) -> int | None:
    """Length of the whole fragments of a fragmented MP4 whose last fragment is cut off in its index; else None.

    FFmpeg refuses such a file, although it can read all the fragments before.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not is_mp4(file.read(16)):
        return None
    whole, fragments = 0, 0
    for name, box_end in mp4_boxes(file):
        if box_end > end:
            return whole if name == b"moof" and fragments else None
        whole = box_end
        fragments += name == b"moof"
    return None


def _expected_size(file: BinaryIO, head: bytes, end: int) -> int:
    if is_mp4(head):
        last = max((box_end for _, box_end in mp4_boxes(file)), default=0)
        return last + 8 if last < end < last + 8 else last  # cut off within the header of a box
    if head.startswith(_EBML):
        return _matroska_size(head)
    if head.startswith(b"RIFF"):
        return _riff_size(file, end)
    if head.startswith(b"FLV"):
        return _flv_size(file, end)
    if head.startswith(_ASF_HEADER):
        return _asf_size(file)
    if head.startswith(b"GIF8"):
        file.seek(max(0, end - 64))
        # The trailer is one semicolon, after the zero that ends a block; some writers pad it with more zeros.
        return end + (not file.read().rstrip(b"\0").endswith(b"\0;"))
    for offset, size in _TS_PACKETS.items():
        if head[offset::size][:2] == b"GG":
            return -(-end // size) * size
    return 0


def _matroska_size(head: bytes) -> int:
    """The EBML header's length and that of the segment behind it; a live stream leaves the latter unknown."""
    size, body = _vint(head, 4)
    segment = body + (size or 0)
    if size is None or head[segment : segment + 4] != _SEGMENT:
        return 0
    size, body = _vint(head, segment + 4)
    return 0 if size is None else body + size


def _vint(data: bytes, at: int) -> tuple[int | None, int]:
    """(value, offset behind it) of an EBML number of 1 to 8 bytes; None where it is cut off or means "unknown"."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8 or at + length > len(data):
        return None, len(data)
    bits = 7 * length
    value = int.from_bytes(data[at : at + length], "big") & ((1 << bits) - 1)
    return (None if value == (1 << bits) - 1 else value), at + length


def _riff_size(file: BinaryIO, end: int) -> int:
    """AVI files beyond 1 GiB are several RIFF chunks in a row."""
    position = 0
    while position + 12 <= end:
        file.seek(position)
        header = file.read(8)
        size = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or size in (0, 0xFFFFFFFF):
            break
        position += 8 + size + size % 2
    return position if position - end > _RIFF_SLACK else 0


def _flv_size(file: BinaryIO, end: int) -> int:
    """Each tag is followed by its size, which tells whether the last is whole; if not, tags are counted."""
    file.seek(max(0, end - 4))
    last = int.from_bytes(file.read(4), "big")
    if _flv_tag_size(file, end - 4 - last) == last:
        return end
    file.seek(5)
    position = int.from_bytes(file.read(4), "big") + 4
    while position < end:
        size = _flv_tag_size(file, position)
        if size is None:
            return end + 1
        position += size + 4
    return max(position, end)


def _flv_tag_size(file: BinaryIO, at: int) -> int | None:
    """Size of the tag at `at`, its header of 11 bytes included; None when there is none."""
    if at < 0:
        return None
    file.seek(at)
    header = file.read(4)
    if len(header) < 4 or header[0] & 0x1F not in (8, 9, 18):
        return None
    return 11 + int.from_bytes(header[1:4], "big")


def _asf_size(file: BinaryIO) -> int:
    file.seek(0)
    head = file.read(1 << 16)
    at = head.find(_ASF_FILE_PROPERTIES)
    # guid 16, object size 8, file id 16, file size 8, then 5 numbers of 8 before the flags; bit 0: live, size unknown.
    if at < 0 or at + 92 > len(head) or head[at + 88] & 1:
        return 0
    return int.from_bytes(head[at + 40 : at + 48], "little")
