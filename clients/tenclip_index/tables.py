"""The vectors that an index is made of: those of tables, or of an index and then of tables."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import numpy as np

from tenclip_api.errors import DatasetError
from tenclip_index.inputs import FeatureChunk, FeatureFile, read_chunks
from tenclip_index.metadata import IndexInfo, Kind
from tenclip_index.rows import Rows, joined, repeated_rows, rows_table
from tenclip_index.vectors import Floats, Vectors, unit_vectors

# One less their cosine: up to this, two vectors of one clip are the same features, as an index of this kind keeps them.
_SAME = {"exact-float32": 1e-4, "exact-fp16": 1e-4, "ivf-sq8": 5e-2}

# Called with what is done ("checking", "comparing", "sampling", "adding"), rows done, and rows in all.
OnRows = Callable[[str, int, int], None]


class Tables:
    """The rows of some files, in their order. `kept` says which of them are in the index, when they are checked."""

    def __init__(self, files: Sequence[FeatureFile], progress: OnRows, earlier: IndexInfo | None = None) -> None:
        self._files, self._progress, self._earlier = files, progress, earlier
        self._total = sum(f.rows for f in files)
        self._begins = [0, *accumulate(f.rows for f in files)]
        self.kept = np.ones(self._total, bool)
        self._repeated = 0

    def check(self) -> Rows:
        """Reads everything once. Raises DatasetError for the first row that cannot be used."""
        tables = [
            rows_table(chunk.videos, chunk.clip_indices, chunk.seconds, chunk.file.source)
            for chunk in self._read("checking")
        ]
        rows = Rows(joined(tables))
        self.kept = ~repeated_rows(rows, self._place)
        self._repeated = int((~self.kept).sum())
        return rows if self.kept.all() else rows.select(self.kept)

    def without_known(self, new: Rows, before: Rows, stored: Vectors) -> Rows:
        """Leave out rows that an index has. Raises DatasetError for those that it has with other features."""
        keys, known = new.keys(), before.keys()
        order = np.argsort(known, kind="stable")
        found = np.searchsorted(known[order], keys)
        there = found < len(known)
        there[there] = known[order][found[there]] == keys[there]
        if not there.any():
            return new
        twins = np.zeros(len(keys), np.int64)
        twins[there] = order[found[there]]
        position = 0
        for unit in self.kept_chunks("comparing"):
            here = np.flatnonzero(there[position : position + len(unit)])
            if len(here):
                ours = unit_vectors(stored.decode(twins[position + here]))
                apart = 1 - (ours * unit[here]).sum(axis=1)
                if apart.max() > _SAME[stored.kind]:
                    row = int(position + here[apart.argmax()])
                    raise DatasetError(
                        f"{self._place(int(np.flatnonzero(self.kept)[row]))}: the index has this clip of "
                        f"{new.described(np.array([row]))[0]['video']} with other features; build the index again with "
                        "--overwrite, of tables that are up to date"
                    )
            position += len(unit)
        self.kept[np.flatnonzero(self.kept)[there]] = False
        return new.select(~there)

    def kept_chunks(self, doing: str) -> Iterator[Floats]:
        """The vectors of kept rows, of length one, some at a time."""
        position = 0
        for chunk in self._read(doing):
            kept = self.kept[position : position + len(chunk.videos)]
            position += len(chunk.videos)
            yield unit_vectors(chunk.features[kept])

    def chunks(self, doing: str) -> Iterator[tuple[int, Floats]]:
        """(number among kept rows, vectors)."""
        first = 0
        for unit in self.kept_chunks(doing):
            yield first, unit
            first += len(unit)

    def facts(self, kind: Kind, rows: int) -> IndexInfo:
        """What index.json says of these tables and of the earlier index, without what is measured and written."""
        first, earlier = self._files[0], self._earlier
        weights = next((f.weights for f in self._files if f.weights), "")
        protocols = [f.protocol for f in self._files if f.protocol]
        return IndexInfo(
            kind=kind,
            dimension=first.dimension,
            rows=rows,
            videos=0,
            model=first.model,
            version=first.version,
            weights=weights or (earlier.weights if earlier else ""),
            protocols=tuple(dict.fromkeys([*(earlier.protocols if earlier else ()), *protocols])),
            sources={},
            labels=0,
            recall=None,
            repeated=self._repeated + (earlier.repeated if earlier else 0),
        )

    def _place(self, number: int) -> str:
        file = bisect_right(self._begins, number) - 1
        return f"{self._files[file].path}, row {number - self._begins[file] + 1}"

    def _read(self, doing: str) -> Iterator[FeatureChunk]:
        done = 0
        for file in self._files:
            for chunk in read_chunks(file):
                yield chunk
                done += len(chunk.videos)
                self._progress(doing, done, self._total)


class StoredAndTables:
    """The vectors of an index, then those of some tables."""

    def __init__(self, stored: Vectors, tables: Tables) -> None:
        self._stored, self._tables = stored, tables

    def chunks(self, doing: str) -> Iterator[tuple[int, Floats]]:
        for first, vectors in self._stored.decode_all():
            yield first, unit_vectors(vectors)
        for first, unit in self._tables.chunks(doing):
            yield len(self._stored) + first, unit
