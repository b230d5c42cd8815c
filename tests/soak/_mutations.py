"""Damage that is done on purpose: bytes of a video or of a message, changed at random and reproducibly.

Every kind takes (data, other, rng) and gives the damaged bytes; `other` is another file of the same set.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Mutation = Callable[[bytes, bytes, np.random.Generator], bytes]

# At the edges of what fields of 8 to 64 bits hold, signed and unsigned.
_EDGES = (
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
)
_HEADER_BYTES = 2048
# MP4 boxes that hold others.
_PARENTS = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta", b"mvex", b"moof", b"traf"}
)


@dataclass(frozen=True)
class Box:
    """Of an MP4: `size` bytes from `start`, its header of 8 included."""

    kind: bytes
    start: int
    size: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Every box of 32-bit size, parents before their children."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if size < 8 or start + size > end:
            return
        yield Box(kind, start, size)
        if kind in _PARENTS:
            yield from boxes(data, start + 8, start + size)
        start += size


def flip_bytes(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    count = int(rng.choice([1, 2, 8, 64]))
    return _overwrite(data, rng.integers(0, len(data), count), rng)


def flip_header(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Where containers keep their index: at the beginning or at the end."""
    places = rng.integers(0, min(_HEADER_BYTES, len(data)), int(rng.choice([1, 3, 10])))
    return _overwrite(data, len(data) - 1 - places if rng.random() < 0.4 else places, rng)


def flip_bits(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, len(data), int(rng.choice([1, 4, 16]))):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def edge_numbers(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.choice([1, 2, 4, 8]))
        at = _place(len(data), rng)
        order = "big" if rng.random() < 0.5 else "little"
        number = int(_EDGES[int(rng.integers(len(_EDGES)))]) % 2 ** (8 * width)
        changed[at : at + width] = number.to_bytes(width, order)
    return bytes(changed)


def truncate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, len(data)))] if len(data) > 1 else data


def zero_stretch(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def drop_stretch(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(data, rng)
    return data[:start] + data[end:]


def repeat_stretch(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 4)) + data[end:]


def splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of one file and the end of another, or a piece of it in the middle."""
    start, end = _stretch(other, rng)
    at = int(rng.integers(len(data)))
    return data[:at] + (other[start:] if rng.random() < 0.5 else other[start:end] + data[at:])


def lie_about_sizes(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Sizes of MP4 boxes that are not so; numbers at the edges elsewhere."""
    found = list(boxes(data))
    if not found:
        return edge_numbers(data, other, rng)
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        box = found[int(rng.integers(len(found)))]
        near = box.size + int(rng.integers(-16, 17))
        size = near if rng.random() < 0.4 else int(_EDGES[int(rng.integers(14))])
        struct.pack_into(">I", changed, box.start, size % 2**32)
    return bytes(changed)


def shuffle_boxes(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """An MP4 box twice, missing, renamed, or in another's place; a stretch twice elsewhere."""
    found = list(boxes(data))
    if len(found) < 2:
        return repeat_stretch(data, other, rng)
    one, two = (found[int(i)] for i in rng.integers(0, len(found), 2))
    content = data[one.start : one.start + one.size]
    what = int(rng.integers(4))
    if what == 0:
        return data[: two.start] + content + data[two.start :]
    if what == 1:
        return data[: one.start] + data[one.start + one.size :]
    if what == 2:
        return data[: one.start + 4] + two.kind + data[one.start + 8 :]
    return data[: two.start] + content + data[two.start + two.size :]


def change_box_content(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Numbers at the edges within one box of an MP4's index, where counts and offsets are."""
    found = [b for b in boxes(data) if b.kind not in _PARENTS and b.kind != b"mdat" and b.size > 8]
    if not found:
        return flip_header(data, other, rng)
    box = found[int(rng.integers(len(found)))]
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = box.start + 8 + int(rng.integers(min(box.size - 8, 64)))
        number = int(_EDGES[int(rng.integers(14))])
        changed[at : at + 4] = number.to_bytes(4, "big")
    return bytes(changed)


def twice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Two kinds of damage at once."""
    for _ in range(2):
        data = SINGLE[int(rng.integers(len(SINGLE)))](data, other, rng) or data
    return data


SINGLE: tuple[Mutation, ...] = (
    flip_bytes,
    flip_header,
    flip_bits,
    edge_numbers,
    truncate,
    zero_stretch,
    drop_stretch,
    repeat_stretch,
    splice,
    lie_about_sizes,
    shuffle_boxes,
    change_box_content,
)
MUTATIONS: tuple[Mutation, ...] = (*SINGLE, twice)


def _place(size: int, rng: np.random.Generator) -> int:
    """Any place, half of the time near the beginning."""
    return int(rng.integers(min(size, _HEADER_BYTES) if rng.random() < 0.5 else size))


def _overwrite(data: bytes, places: np.ndarray[tuple[int, ...], np.dtype[np.int64]], rng: np.random.Generator) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    changed[places] = rng.integers(0, 256, len(places))
    return changed.tobytes()


def _stretch(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """[start, end), most often short."""
    start = int(rng.integers(len(data)))
    length = int(min(len(data) - start, rng.choice([1, 4, 100, 5000, 100_000])))
    return start, start + max(1, length)
