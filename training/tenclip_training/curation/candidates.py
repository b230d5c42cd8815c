"""Pairs of videos that may match, found by locality-sensitive hashing (IG-65M, A.2).

The codes of the target's frames lie in faiss' IndexBinaryMultiHash: four tables, each of 16 of the 64 bits. A source
frame finds the target frames that agree with it in all bits of one table, or with `flips=1` in all but one. So every
pair of codes that differ in up to 7 bits is found with `flips=1`, and up to 3 with `flips=0`; of those that differ in 4
(5, 6) bits, 91% (77%, 62%) are found even so. A copied scene has many frames, and one that is found is enough, for
`matching` then compares all frames of both videos. Of the source every fourth frame is looked up (4 a second).
"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from tenclip_training.curation.code_store import CodeTable

CODE_BITS, TABLES, TABLE_BITS = 64, 4, 16
SOURCE_STRIDE = 4
_CHUNK = 1 << 16


def find_candidates(
    source: CodeTable, target: CodeTable, *, radius: int, flips: int = 1, stride: int = SOURCE_STRIDE
) -> NDArray[np.int64]:
    """Pairs (source video, target video) with at least one frame each that differ in at most `radius` bits: [P,2].

    Sorted, each once. Flat frames are left out. stride: which source frames are looked up: every so many-th.
    """
    index = TargetIndex(target, radius=radius, flips=flips)
    wanted = _every(source, stride)
    video_of = np.searchsorted(source.starts, wanted, side="right") - 1
    found = [np.zeros(0, np.int64)]
    for begin in range(0, len(wanted), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        positions, videos = index.search(source.codes[wanted[part]])
        found.append(np.unique(video_of[part][positions] * len(target) + videos))
    pairs = np.unique(np.concatenate(found))
    return np.stack(np.divmod(pairs, max(len(target), 1)), axis=1)


class TargetIndex:
    """The codes of a set in a hash index. Each code is kept once, with the videos that have it."""

    def __init__(self, table: CodeTable, *, radius: int, flips: int) -> None:
        used = np.flatnonzero(~table.flat)
        video_of = np.searchsorted(table.starts, used, side="right") - 1
        codes, inverse = np.unique(table.codes[used], return_inverse=True)
        having = np.unique(inverse.astype(np.int64) * max(len(table), 1) + video_of)
        code_of, self._videos = np.divmod(having, max(len(table), 1))
        self._starts = np.searchsorted(code_of, np.arange(len(codes) + 1))
        self._radius = radius
        self._index = faiss.IndexBinaryMultiHash(CODE_BITS, TABLES, TABLE_BITS)
        self._index.nflip = flips
        if len(codes):
            self._index.add(_bytes_of(codes))

    def search(self, codes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of a position in `codes` and a video of the index that has a code within the radius."""
        unique, inverse = np.unique(codes, return_inverse=True)
        if not len(unique) or not self._index.ntotal:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        # faiss gives distances below its radius, and 64-bit unsigned limits.
        limits, _, ids = self._index.range_search(_bytes_of(unique), self._radius + 1)
        limits = limits.astype(np.int64)
        query = np.repeat(np.arange(len(unique)), np.diff(limits))
        query, videos = _expand(query, ids, self._starts, self._videos)
        order = np.argsort(inverse, kind="stable")
        starts = np.searchsorted(inverse[order], np.arange(len(unique) + 1))
        videos, positions = _expand(videos, query, starts, order)
        return positions, videos


def _expand(
    keys: NDArray[np.int64], lists: NDArray[np.int64], starts: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each key once for every value of its list: list l has values[starts[l] : starts[l + 1]]."""
    counts = starts[lists + 1] - starts[lists]
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(keys, counts), values[np.repeat(starts[lists], counts) + offsets]


def _every(table: CodeTable, stride: int) -> NDArray[np.int64]:
    """Positions of every stride-th frame of each video that is not flat."""
    lengths = np.diff(table.starts)
    within = np.arange(len(table.codes)) - np.repeat(table.starts[:-1], lengths)
    return np.flatnonzero((within % stride == 0) & ~table.flat)


def _bytes_of(codes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(codes).view(np.uint8).reshape(-1, 8)
