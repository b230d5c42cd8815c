"""An index is built from tables of features, or rows are added to one.

The tables are read some rows at a time: to check every row, to take a sample, and to add them. Memory holds the index
itself, about 40 bytes a row beside it, and the sample that the lists of an ivf-sq8 index are trained on.
"""

from __future__ import annotations

import importlib.metadata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest
from tenclip_index.folder import Draft, check_files, drafted, writing
from tenclip_index.inputs import FeatureChunk, FeatureFile, open_tables, read_chunks
from tenclip_index.metadata import FILE_NAME, IndexInfo, Kind, check_same_model, read_info
from tenclip_index.recall import NUM_QUERIES, NearestRows, measure, sample_rows
from tenclip_index.rows import Rows, joined, repeated_rows, rows_table
from tenclip_index.vectors import (
    FEWEST_TRAINING_ROWS,
    TRAINING_ROWS_PER_LIST,
    Floats,
    Vectors,
    import_faiss,
    number_of_lists,
    unit_vectors,
)

# Up to so many rows every search looks at all of them.
MAX_EXACT_ROWS = 1_000_000
# One less their cosine: up to this, two vectors of one clip are the same features, as an index of this kind keeps them.
_SAME = {"exact-float32": 1e-4, "exact-fp16": 1e-4, "ivf-sq8": 5e-2}

# Called with what is done ("checking", "comparing", "sampling", "adding"), rows done, and rows in all.
OnRows = Callable[[str, int, int], None]
Precision = Literal["fp16", "float32"]


def build_index(
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    labels: Manifest | None = None,
    source: str | None = None,
    precision: Precision = "fp16",
    max_exact_rows: int = MAX_EXACT_ROWS,
    overwrite: bool = False,
    progress: OnRows | None = None,
) -> IndexInfo:
    """Write an index of the clips of some tables of features into the folder `out`; see `tenclip index build`.

    inputs: Parquet files, or folders of them. labels: the labels that rows are given. source: a name for where these
    rows come from; None: that of each file or folder. precision: of the vectors, where every search looks at all of
    them: up to `max_exact_rows`, and whatever their number for "float32"; beyond, they are divided into lists.
    overwrite: put it in the place of an index that is there, which stays what it was if anything fails.
    Raises DatasetError for a table, row or folder that cannot be used, IndexMismatch for tables of different models.

    ::

        info = build_index(["features.parquet"], "index")
        print(info.kind, info.rows, info.recall.value)
    """
    import_faiss()
    folder = Path(out)
    files = open_tables([Path(p) for p in inputs], source=source)
    with writing(folder):
        earlier = _earlier(folder, overwrite=overwrite)
        with drafted(folder, earlier) as draft:
            tables = _Tables(files, progress or _silent)
            rows = tables.check()
            if labels is not None:
                rows = rows.with_labels(labels)
            exact = precision == "float32" or len(rows) <= max_exact_rows
            kind: Kind = ("exact-float32" if precision == "float32" else "exact-fp16") if exact else "ivf-sq8"
            return _write(draft, kind, rows, tables, tables.facts(kind, len(rows)))


@dataclass(frozen=True, kw_only=True)
class Added:
    """What came of adding: the index as it is now, rows that are new, and rows that it had already."""

    info: IndexInfo
    added: int
    known: int


def add_to_index(
    folder: Path | str,
    inputs: Sequence[Path | str],
    *,
    labels: Manifest | None = None,
    source: str | None = None,
    max_exact_rows: int = MAX_EXACT_ROWS,
    progress: OnRows | None = None,
) -> Added:
    """Add the clips of more tables: all of them, or none when one is refused; see `tenclip index add`.

    Clips that the index has already, with the same features, are passed over. An exact index in float16 that grows
    beyond `max_exact_rows` is divided into lists. For the arguments see `build_index`.
    Raises DatasetError for a row that cannot be used or that the index has with other features, IndexMismatch for
    tables of another model, IndexNotFound.
    """
    import_faiss()
    folder = Path(folder)
    read_info(folder)  # before a folder is made for the lock
    files = open_tables([Path(p) for p in inputs], source=source)
    with writing(folder):
        info = read_info(folder)  # as it is now that nobody else writes
        for file in files:
            check_same_model(
                info, folder, model=file.model, version=file.version, weights=file.weights, dimension=file.dimension,
                source=str(file.path),
            )  # fmt: skip
        check_files(folder, info)
        before = Rows.read(folder / info.files["rows"].name, rows=info.rows)
        stored = Vectors.read(
            folder / info.files["vectors"].name, info.kind, rows=info.rows, dimension=info.dimension, to_add=True
        )
        with drafted(folder, info) as draft:
            tables = _Tables(files, progress or _silent, earlier=info)
            new = tables.check()
            if labels is not None:
                new = new.with_labels(labels)
            checked = len(new)
            new = tables.without_known(new, before, stored)
            if len(new):
                info = _grown(draft, stored, tables, Rows(joined([before.table, new.table])), info, max_exact_rows)
            return Added(info=info, added=len(new), known=checked - len(new))


def _grown(
    draft: Draft, stored: Vectors, tables: _Tables, rows: Rows, info: IndexInfo, max_exact_rows: int
) -> IndexInfo:
    facts = tables.facts(info.kind, len(rows))
    if info.kind == "exact-fp16" and len(rows) > max_exact_rows:
        return _write(draft, "ivf-sq8", rows, _Stored(stored, tables), replace(facts, kind="ivf-sq8"))
    for unit in tables.kept_chunks("adding"):
        stored.add(unit)
    return _finish(draft, stored, rows, _truth_of_stored(stored), facts, against="stored")


def _earlier(folder: Path, *, overwrite: bool) -> IndexInfo | None:
    if not (folder / FILE_NAME).exists():
        return None
    if not overwrite:
        raise DatasetError(f"{folder}: is an index already; `tenclip index add` adds to it, --overwrite replaces it")
    try:
        return read_info(folder)
    except DatasetError:
        return None  # it is to be replaced anyway


class _Tables:
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


class _Stored:
    """The vectors of an index, then those of some tables."""

    def __init__(self, stored: Vectors, tables: _Tables) -> None:
        self._stored, self._tables = stored, tables

    def chunks(self, doing: str) -> Iterator[tuple[int, Floats]]:
        for first, vectors in self._stored.decode_all():
            yield first, unit_vectors(vectors)
        for first, unit in self._tables.chunks(doing):
            yield len(self._stored) + first, unit


def _write(draft: Draft, kind: Kind, rows: Rows, vectors: _Tables | _Stored, facts: IndexInfo) -> IndexInfo:
    """A new index of all these vectors."""
    count = len(rows)
    queries = sample_rows(count, NUM_QUERIES)
    lists = number_of_lists(count) if kind == "ivf-sq8" else 0
    training = sample_rows(count, max(TRAINING_ROWS_PER_LIST * lists, FEWEST_TRAINING_ROWS) if lists else 0)
    wanted = np.union1d(queries, training)
    sample = _take(vectors, wanted)
    made = Vectors.create(kind, facts.dimension, training=sample[np.searchsorted(wanted, training)], lists=lists)
    truth = NearestRows(sample[np.searchsorted(wanted, queries)], queries)
    for first, unit in vectors.chunks("adding"):
        made.add(unit)
        truth.add(first, unit)
    return _finish(draft, made, rows, truth, facts, against="float32" if isinstance(vectors, _Tables) else "stored")


def _take(vectors: _Tables | _Stored, wanted: NDArray[np.int64]) -> Floats:
    """The vectors of some rows, whose numbers ascend: [n,D]."""
    found = []
    for first, unit in vectors.chunks("sampling"):
        begin, end = np.searchsorted(wanted, [first, first + len(unit)])
        found.append(unit[wanted[begin:end] - first])
    return np.concatenate(found)


def _truth_of_stored(stored: Vectors) -> NearestRows:
    """The nearest rows by the vectors as they are kept: those of the tables are not there any more."""
    queries = sample_rows(len(stored), NUM_QUERIES)
    truth = NearestRows(unit_vectors(stored.decode(queries)), queries)
    for first, vectors in stored.decode_all():
        truth.add(first, vectors)
    return truth


def _finish(
    draft: Draft,
    vectors: Vectors,
    rows: Rows,
    truth: NearestRows,
    facts: IndexInfo,
    *,
    against: Literal["float32", "stored"],
) -> IndexInfo:
    if len(vectors) != len(rows):
        raise DatasetError("the tables of features changed while they were read; nothing was written")
    recall, probes = measure(vectors, truth, against=against)
    with draft.open("vectors") as file:
        vectors.write(file)
    with draft.open("rows") as file:
        rows.write(file)
    return draft.commit(
        replace(
            facts,
            videos=len(np.unique(rows.video_numbers)),
            sources=rows.sources,
            labels=len(rows.labels),
            recall=recall,
            lists=vectors.lists,
            probes=probes,
            versions={
                "tenclip": importlib.metadata.version("tenclip"),
                "faiss": str(import_faiss().__version__),
                "numpy": np.__version__,
            },
        )
    )


def _silent(doing: str, done: int, total: int) -> None:
    pass
