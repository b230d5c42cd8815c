"""`Index`: an index on disk, opened for searching.

N rows, D numbers, Q clips that are asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_features.table import FeatureTable
from tenclip_index.folder import check_files
from tenclip_index.metadata import IndexInfo, check_same_model, read_info
from tenclip_index.results import Filters, IndexedClip, Neighbour
from tenclip_index.rows import Rows
from tenclip_index.vectors import Floats, Vectors, limit_threads, unit_vectors

# Candidates beyond the k-th that are scored again.
_MORE = 8
# The first number of rows that are looked at for k videos, in multiples of k.
_ROWS_PER_VIDEO = 4
_ANSWER_K = 10


class Index:
    """The nearest clips of an index by the cosine of their features. Safe to share between threads.

    An index that is replaced on disk meanwhile is searched as it was when it was opened.

    ::

        from tenclip_index import open_index

        index = open_index("index")
        for neighbour in index.neighbours(matrix, k=5, by_video=True):  # float32 [Q,D]
            print(neighbour.score, neighbour.video, neighbour.start_seconds)
    """

    def __init__(self, folder: Path, info: IndexInfo, vectors: Vectors, rows: Rows) -> None:
        self.folder, self.info, self.rows, self._vectors = folder, info, rows, vectors

    @classmethod
    def open(cls, folder: Path | str, *, threads: int = 0) -> Index:
        """See `tenclip_index.open_index`."""
        folder = Path(folder)
        limit_threads(threads)
        info = read_info(folder)
        for attempt in range(3):
            try:
                return cls._read(folder, info)
            except DatasetError:
                # A writer may have replaced its files just now.
                now = read_info(folder)
                if now.generation == info.generation or attempt == 2:
                    raise
                info = now
        raise AssertionError("returned or raised")

    @classmethod
    def _read(cls, folder: Path, info: IndexInfo) -> Index:
        check_files(folder, info)
        rows = Rows.read(folder / info.files["rows"].name, rows=info.rows)
        file = folder / info.files["vectors"].name
        return cls(folder, info, Vectors.read(file, info.kind, rows=info.rows, dimension=info.dimension), rows)

    def neighbours(
        self,
        features: NDArray[np.floating],
        *,
        k: int = _ANSWER_K,
        by_video: bool = False,
        filters: Filters = Filters(),
        without_rows: Sequence[int] = (),
    ) -> list[Neighbour]:
        """The k rows of the index that are nearest to any of the clips, the nearest first.

        features: [Q,D] of any length. by_video: the k nearest videos, each with its nearest pair of clips. filters,
        without_rows: what may be found. Equal scores are in the order of the rows. Fewer than k are found where fewer
        may be. Raises InvalidRequest for features or a k that make no sense, and for a label or source that no row has.
        """
        unit = self._unit(features)
        if k < 1:
            raise InvalidRequest(f"k must be at least 1, got {k}")
        allowed = self._allowed(filters, without_rows)
        best: dict[int, tuple[float, int, int]] = {}  # by row or video: (-score, row, query clip)
        want = min(len(self.rows), k * _ROWS_PER_VIDEO if by_video else k)
        while True:
            scores, rows = self.search(unit, want, allowed=allowed)
            keys = np.where(rows >= 0, self.rows.video_numbers[rows], -1) if by_video else rows
            enough = all(len(set(line[line >= 0].tolist())) >= k or (line < 0).any() for line in keys)
            if not by_video or enough or want == len(self.rows):
                break
            want = min(len(self.rows), want * 4)
        for query in range(len(unit)):
            for score, row, key in zip(scores[query].tolist(), rows[query].tolist(), keys[query].tolist(), strict=True):
                if row >= 0:
                    found = (-score, row, query)
                    best[key] = min(best.get(key, found), found)
        chosen = sorted(best.values())[:k]
        facts = self.clips([row for _, row, _ in chosen])
        return [
            Neighbour(score=float(np.clip(-negative, -1, 1)), query_clip=query, **vars(clip))
            for (negative, _, query), clip in zip(chosen, facts, strict=True)
        ]

    def search(
        self, unit: Floats, k: int, *, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, NDArray[np.int64]]:
        """(scores, rows), each [Q,k]: the k best rows of each query [Q,D] of length one, row -1 where there are fewer.

        Exact kinds give just the k rows of the highest float32 scores, equal ones in the order of the rows. allowed:
        [N], which rows may be found.
        """
        available = len(self.rows) if allowed is None else int(allowed.sum())
        scores = np.full((len(unit), k), -np.inf, np.float32)
        rows = np.full((len(unit), k), -1, np.int64)
        if not available or not len(unit):
            return scores, rows
        search = self._search_exact if self.info.exact else self._search_lists
        found_scores, found_rows = search(unit, min(k, available), available, allowed)
        scores[:, : found_scores.shape[1]], rows[:, : found_rows.shape[1]] = found_scores, found_rows
        return scores, rows

    def clips(self, rows: Iterable[int]) -> list[IndexedClip]:
        """What some rows are."""
        numbers = np.asarray(list(rows), np.int64)
        described = self.rows.described(numbers)
        return [
            IndexedClip(row=row, **{**facts, "labels": tuple(facts["labels"])})
            for row, facts in zip(numbers.tolist(), described, strict=True)
        ]

    def vectors_of(self, rows: NDArray[np.int64]) -> Floats:
        """The vectors of some rows, of length one: [n,D]."""
        return unit_vectors(self._vectors.decode(rows))

    @property
    def vectors(self) -> Vectors:
        """All vectors, as they are kept."""
        return self._vectors

    def rows_of(self, video: str, *, at_seconds: float | None = None) -> NDArray[np.int64]:
        """The rows of a video, or those of its clips that show one moment. Raises InvalidRequest where there are none.

        video: as the table of features names it.
        """
        if video not in self.rows.videos:
            near = [v for v in self.rows.videos if Path(v).name == Path(video).name][:3]
            hint = f"; it has {', '.join(near)}" if near else f"; videos are named as {self.rows.videos[0]}"
            raise InvalidRequest(f"{self.folder}: the index has no video {video!r}{hint}")
        rows = np.flatnonzero(self.rows.video_numbers == self.rows.videos.index(video))
        if at_seconds is None:
            return rows
        clips = self.clips(rows.tolist())
        there = [c.row for c in clips if c.start_seconds <= at_seconds < c.end_seconds]
        if not there:
            spans = ", ".join(f"{c.start_seconds:g} to {c.end_seconds:g}" for c in clips[:5])
            raise InvalidRequest(f"{self.folder}: no clip of {video} shows {at_seconds:g} s; its clips: {spans}")
        return np.asarray(there, np.int64)

    def check_table(self, table: FeatureTable) -> None:
        """Raises IndexMismatch for a table of another model."""
        check_same_model(
            self.info, self.folder, model=table.model, version=table.version, weights=table.weights,
            dimension=table.features.shape[1], source=table.source,
        )  # fmt: skip

    def _unit(self, features: NDArray[np.floating]) -> Floats:
        if features.ndim != 2 or features.shape[1] != self.info.dimension or not len(features):
            raise InvalidRequest(f"features must be [Q,{self.info.dimension}], got {list(features.shape)}")
        unit = unit_vectors(np.asarray(features))
        wrong = ~np.isfinite(unit).all(axis=1)
        if wrong.any():
            raise InvalidRequest(f"clip {int(wrong.argmax())}: features that are all zero or not finite")
        return unit

    def _allowed(self, filters: Filters, without_rows: Sequence[int]) -> NDArray[np.bool_] | None:
        allowed = self.rows.allowed(
            labels=filters.labels, sources=filters.sources, without_videos=filters.without_videos
        )
        if len(without_rows):
            allowed = np.ones(len(self.rows), bool) if allowed is None else allowed
            allowed[np.asarray(without_rows, np.int64)] = False
        return allowed

    def _search_exact(
        self, unit: Floats, k: int, available: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[Floats, NDArray[np.int64]]:
        """faiss proposes candidates, whose scores are then computed in float64, rounded to float32 and compared.

        A row that was not proposed has at most the last candidate's score and the error of faiss's sum. As long as the
        k-th is not above that, more are asked for.
        """
        error = np.float32(2 * (self.info.dimension + 8) * 2.0**-24)
        scores, rows = np.empty((len(unit), k), np.float32), np.empty((len(unit), k), np.int64)
        pending = np.arange(len(unit))
        want = min(k + _MORE, available)
        while len(pending):
            proposed_scores, proposed = self._vectors.search(unit[pending], want, allowed=allowed)
            left = []
            for query, line_scores, line in zip(pending.tolist(), proposed_scores, proposed, strict=True):
                exact = exact_scores(self._vectors.decode(line), unit[query])
                order = np.lexsort((line, -exact))[:k]
                if want < available and exact[order[-1]] <= line_scores[-1] + error:
                    left.append(query)
                scores[query], rows[query] = exact[order], line[order]
            pending = np.asarray(left, np.int64)
            want = min(want * 4, available)
        return scores, rows

    def _search_lists(
        self, unit: Floats, k: int, available: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[Floats, NDArray[np.int64]]:
        """In as many lists as index.json says, and in more where these hold too few rows that may be found."""
        probes = self.info.probes
        while True:
            scores, rows = self._vectors.search(unit, k, allowed=allowed, probes=probes)
            if probes >= self.info.lists or not (rows < 0).any():
                break
            probes = min(probes * 4, self.info.lists)
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def exact_scores(vectors: Floats, query: Floats) -> Floats:
    """Inner products of rows [n,D] with a query [D], summed in float64 and rounded to float32: [n]."""
    return np.asarray(vectors.astype(np.float64) @ query.astype(np.float64), np.float32)
