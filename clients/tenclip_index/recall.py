"""How many of the nearest rows a search finds: measured against an exact search of all rows, as they stream by.

N rows, D numbers, Q queries.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_index.metadata import Recall
from tenclip_index.vectors import FEWEST_PROBES, Floats, Vectors

NUM_QUERIES = 256
K = 10
# What an index of lists is to find; it looks into as many lists as that takes.
TARGET = 0.98
# Rows beyond the k-th that are kept, for rows that are exactly as near.
_MORE = 40
_TIE = 1e-6


def sample_rows(rows: int, count: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Which rows to take as a sample: `count` of them, or all, in their order."""
    if count >= rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False)).astype(np.int64)


class NearestRows:
    """The nearest other rows of some rows, by an exact search: the truth that `measure` compares with.

    queries: [Q,D] of length one, which are the rows `numbers` [Q] of what is added.
    """

    def __init__(self, queries: Floats, numbers: NDArray[np.int64], *, k: int = K) -> None:
        self.queries, self.numbers, self.k = queries, numbers, k
        self._scores = np.full((len(queries), 0), 0.0, np.float32)
        self._rows = np.full((len(queries), 0), 0, np.int64)

    def add(self, first_row: int, unit: Floats) -> None:
        """Rows [n,D] of length one, from `first_row` on."""
        scores = self.queries @ unit.T
        rows = np.broadcast_to(np.arange(first_row, first_row + len(unit)), scores.shape)
        own = rows == self.numbers[:, None]
        scores = np.where(own, np.float32(-np.inf), scores)
        scores, rows = np.hstack([self._scores, scores]), np.hstack([self._rows, rows])
        depth = self.k + _MORE
        if scores.shape[1] > depth:
            chosen = np.argpartition(-scores, depth, axis=1)[:, :depth]
            scores, rows = np.take_along_axis(scores, chosen, 1), np.take_along_axis(rows, chosen, 1)
        self._scores, self._rows = scores, rows

    def found(self, rows: NDArray[np.int64]) -> float:
        """The share of the nearest rows among `rows` [Q,k+1], averaged over the queries.

        A row that is as near as the k-th counts, too.
        """
        shares = []
        for query, number in enumerate(self.numbers):
            finite = np.isfinite(self._scores[query])
            scores, true_rows = self._scores[query][finite], self._rows[query][finite]
            k = min(self.k, len(scores))
            if not k:
                continue
            near_enough = true_rows[scores >= np.sort(scores)[-k] - _TIE]
            mine = [r for r in rows[query].tolist() if r not in (-1, number)][:k]
            shares.append(min(k, int(np.isin(mine, near_enough).sum())) / k)
        return float(np.mean(shares)) if shares else 1.0


def measure(vectors: Vectors, truth: NearestRows, *, against: Literal["float32", "stored"]) -> tuple[Recall, int]:
    """(recall, probes): how many of the true neighbours are found, by 16 probes or as many as the target takes.

    probes: 0 for exact kinds, which look at every row.
    """
    probes = min(FEWEST_PROBES, vectors.lists)
    while True:
        _, rows = vectors.search(truth.queries, truth.k + 1, probes=probes)
        value = truth.found(rows)
        if value >= TARGET or probes >= vectors.lists:
            break
        probes = min(2 * probes, vectors.lists)
    recall = Recall(value=value, k=truth.k, queries=len(truth.queries), rows=len(vectors), against=against)
    return recall, probes
