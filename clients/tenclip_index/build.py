"""An index is built from tables of features, or rows are added to one.

The tables are read some rows at a time: to check every row, to take a sample, and to add them. Memory holds the index
itself, about 40 bytes a row beside it, and the sample that the lists of an ivf-sq8 index are trained on.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest
from tenclip_index.folder import Draft, check_files, drafted, writing
from tenclip_index.inputs import open_tables
from tenclip_index.metadata import FILE_NAME, IndexInfo, Kind, check_same_model, read_info
from tenclip_index.recall import NUM_QUERIES, NearestRows, measure, sample_rows
from tenclip_index.rows import Rows, joined
from tenclip_index.tables import OnRows, StoredAndTables, Tables
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
            tables = Tables(files, progress or _silent)
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
            tables = Tables(files, progress or _silent, earlier=info)
            new = tables.check()
            if labels is not None:
                new = new.with_labels(labels)
            checked = len(new)
            new = tables.without_known(new, before, stored)
            if len(new):
                info = _grown(draft, stored, tables, Rows(joined([before.table, new.table])), info, max_exact_rows)
            return Added(info=info, added=len(new), known=checked - len(new))


def _grown(
    draft: Draft, stored: Vectors, tables: Tables, rows: Rows, info: IndexInfo, max_exact_rows: int
) -> IndexInfo:
    facts = tables.facts(info.kind, len(rows))
    if info.kind == "exact-fp16" and len(rows) > max_exact_rows:
        return _write(draft, "ivf-sq8", rows, StoredAndTables(stored, tables), replace(facts, kind="ivf-sq8"))
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


def _write(draft: Draft, kind: Kind, rows: Rows, vectors: Tables | StoredAndTables, facts: IndexInfo) -> IndexInfo:
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
    return _finish(draft, made, rows, truth, facts, against="float32" if isinstance(vectors, Tables) else "stored")


def _take(vectors: Tables | StoredAndTables, wanted: NDArray[np.int64]) -> Floats:
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
