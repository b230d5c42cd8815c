"""Pairs of clips in an index that are nearly the same.

N rows, D numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_index.index import Index
from tenclip_index.results import DuplicatePair, Duplicates
from tenclip_index.vectors import Floats, unit_vectors

_ROWS_AT_ONCE = 4096
_QUERIES_AT_ONCE = 1024

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], Floats]  # first rows, second rows, scores


def find_duplicates(
    index: Index,
    threshold: float,
    *,
    within_videos: bool = False,
    by_video: bool = False,
    limit: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Duplicates:
    """Pairs of rows whose cosine is at least `threshold`, the most alike first, then in the order of the rows.

    within_videos: also two clips of one video. by_video: of each two videos the most alike pair alone. limit: how many
    pairs to keep; all are counted. An exact index compares all rows with all others, in blocks, so that time grows with
    the square of the rows; one of lists (ivf-sq8) compares rows of lists that are near each other, and misses what its
    recall says. progress: called with (rows done, rows in all). Raises InvalidRequest.
    """
    if not -1 <= threshold <= 1:
        raise InvalidRequest(f"the threshold is a cosine, from -1 to 1, got {threshold:g}")
    if limit < 1:
        raise InvalidRequest(f"the limit must be at least 1, got {limit}")
    find = _all_pairs if index.info.exact else _pairs_of_lists
    videos, best = index.rows.video_numbers, _Best(limit, by_video, index.rows.video_numbers)
    for done, (first, second, scores) in find(index, threshold):
        kept = np.ones(len(first), bool) if within_videos else videos[first] != videos[second]
        best.add(first[kept], second[kept], scores[kept])
        if progress is not None:
            progress(done, len(index.rows))
    first, second, scores = best.pairs()
    clips = index.clips([*first.tolist(), *second.tolist()])
    pairs = tuple(
        DuplicatePair(score=float(np.clip(score, -1, 1)), first=one, second=other)
        for score, one, other in zip(scores, clips[: len(first)], clips[len(first) :], strict=True)
    )
    return Duplicates(threshold=threshold, found=best.found, compared=len(index.rows), pairs=pairs)


def _all_pairs(index: Index, threshold: float) -> Iterator[tuple[int, Pairs]]:
    """Blocks of rows against themselves and all later ones. Scores near the threshold are computed again in float64."""
    error = 2 * (index.info.dimension + 8) * 2.0**-24
    for begin in range(0, len(index.rows), _ROWS_AT_ONCE):
        block = _vectors(index, begin)
        for other_begin in range(begin, len(index.rows), _ROWS_AT_ONCE):
            other = block if other_begin == begin else _vectors(index, other_begin)
            rows, columns = np.nonzero(block @ other.T >= threshold - error)
            if other_begin == begin:
                rows, columns = rows[rows < columns], columns[rows < columns]
            scores = _scores(block, other, rows, columns)
            near = scores >= np.float32(threshold)
            done = begin + (len(block) if other_begin + _ROWS_AT_ONCE >= len(index.rows) else 0)
            yield done, (begin + rows[near], other_begin + columns[near], scores[near])


def _pairs_of_lists(index: Index, threshold: float) -> Iterator[tuple[int, Pairs]]:
    for begin in range(0, len(index.rows), _QUERIES_AT_ONCE):
        numbers = np.arange(begin, min(begin + _QUERIES_AT_ONCE, len(index.rows)))
        unit = index.vectors_of(numbers)
        query, rows, scores = index.vectors.search_range(unit, threshold, probes=index.info.probes)
        later = begin + query < rows  # each pair is looked for from its first row
        yield int(numbers[-1]) + 1, (begin + query[later], rows[later], scores[later])


def _vectors(index: Index, begin: int) -> Floats:
    return unit_vectors(index.vectors.decode(np.arange(begin, min(begin + _ROWS_AT_ONCE, len(index.rows)))))


def _scores(block: Floats, other: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """Inner products of pairs of rows, summed in float64: [n]. Some at a time, for there may be many."""
    scores = np.empty(len(rows), np.float32)
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        a, b = block[rows[part]].astype(np.float64), other[columns[part]].astype(np.float64)
        scores[part] = np.einsum("nd,nd->n", a, b)
    return scores


class _Best:
    """The best pairs so far. found: how many there were (of videos, where one counts for each two)."""

    def __init__(self, limit: int, by_video: bool, videos: NDArray[np.int64]) -> None:
        self._limit, self._by_video, self._videos = limit, by_video, videos
        self._of_videos: dict[tuple[int, int], tuple[float, int, int]] = {}
        self._parts: list[Pairs] = []
        self._held, self._count = 0, 0

    @property
    def found(self) -> int:
        return len(self._of_videos) if self._by_video else self._count

    def add(self, first: NDArray[np.int64], second: NDArray[np.int64], scores: Floats) -> None:
        self._count += len(first)
        if self._by_video:
            ones, others = self._videos[first], self._videos[second]
            lines = zip(
                ones.tolist(), others.tolist(), (-scores).tolist(), first.tolist(), second.tolist(), strict=True
            )
            for one, other, *pair in lines:
                key, found = (min(one, other), max(one, other)), (pair[0], int(pair[1]), int(pair[2]))
                self._of_videos[key] = min(self._of_videos.get(key, found), found)
            return
        self._parts.append((first, second, scores))
        self._held += len(first)
        if self._held > 4 * self._limit:
            self._parts = [self._sorted()]
            self._held = len(self._parts[0][0])

    def pairs(self) -> Pairs:
        if self._by_video:
            ordered = sorted(self._of_videos.values())[: self._limit]
            scores = np.array([-score for score, _, _ in ordered], np.float32)
            rows = np.array([pair[1:] for pair in ordered], np.int64).reshape(-1, 2)
            return rows[:, 0], rows[:, 1], scores
        return self._sorted()

    def _sorted(self) -> Pairs:
        if not self._parts:
            empty = np.empty(0, np.int64)
            return empty, empty, np.empty(0, np.float32)
        first, second, scores = (np.concatenate([part[i] for part in self._parts]) for i in range(3))
        order = np.lexsort((second, first, -scores))[: self._limit]
        return first[order], second[order], scores[order]
