"""Vectors in faiss: made, trained, searched, decoded, written and read. Nothing else here knows faiss.

faiss brings an OpenMP runtime of its own. In a process that also holds torch the two have been seen to crash or to
hang, so a server searches in a process of its own (`search_process`).

N rows, D numbers, Q queries. All vectors have length one, so that inner products are cosines.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, MissingDependency
from tenclip_index.metadata import Kind

# Rows of each list that its centre is trained on; faiss asks for 39.
TRAINING_ROWS_PER_LIST = 40
# What a number of 8 bits can be is what it is in the training rows, so that there should not be too few of them.
FEWEST_TRAINING_ROWS = 50_000
FEWEST_PROBES = 16
_DECODED_ROWS = 16384

Floats = NDArray[np.float32]


def import_faiss() -> Any:
    """The module. Raises MissingDependency."""
    try:
        import faiss
    except ImportError as err:
        raise MissingDependency(f"an index needs faiss: pip install 'tenclip[index]' ({err})") from err
    return faiss


def number_of_lists(rows: int) -> int:
    """Four times the square root, and never so many that their centres could not be trained."""
    return max(1, min(round(4 * math.sqrt(rows)), rows // TRAINING_ROWS_PER_LIST))


def unit_vectors(vectors: NDArray[Any]) -> Floats:
    """[N,D] scaled to length one. A row of zeros becomes NaN."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(vectors / lengths, np.float32)


class Vectors:
    """Vectors of one kind, searched by cosine.

    Their order is that in which they were added. Scores are of the vectors as they are kept: with 16 or 8 bits a number
    they differ in the fourth or third decimal from those of float32.
    """

    def __init__(self, kind: Kind, index: Any) -> None:
        self.kind, self._index = kind, index

    @classmethod
    def create(cls, kind: Kind, dimension: int, *, training: Floats | None = None, lists: int = 0) -> Vectors:
        """Without any row yet. training: for ivf-sq8, rows [n,D] to train its lists and its scale on."""
        faiss = import_faiss()
        if kind == "exact-float32":
            return cls(kind, faiss.IndexFlatIP(dimension))
        if kind == "exact-fp16":
            scalar = faiss.ScalarQuantizer
            return cls(kind, faiss.IndexScalarQuantizer(dimension, scalar.QT_fp16, faiss.METRIC_INNER_PRODUCT))
        assert training is not None
        index = faiss.index_factory(dimension, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.train(training)
        return cls(kind, index)

    @classmethod
    def read(cls, path: Path, kind: Kind, *, rows: int, dimension: int, to_add: bool = False) -> Vectors:
        """Exact ones are mapped into memory, and read as they are searched, unless rows are to be added.

        Raises DatasetError for a damaged file.
        """
        faiss = import_faiss()
        try:
            flags = 0 if to_add or kind == "ivf-sq8" else faiss.IO_FLAG_MMAP_IFC
            index = faiss.read_index(str(path), flags)
        except RuntimeError as err:
            raise DatasetError(f"{path}: cannot be read: {err}") from err
        kinds = {
            "exact-fp16": faiss.IndexScalarQuantizer,
            "exact-float32": faiss.IndexFlat,
            "ivf-sq8": faiss.IndexIVFScalarQuantizer,
        }
        if not isinstance(index, kinds[kind]) or (index.ntotal, index.d) != (rows, dimension):
            raise DatasetError(
                f"{path}: holds {index.ntotal} vectors of {index.d} numbers ({type(index).__name__}), not the {rows} "
                f"of {dimension} ({kind}) of its index.json"
            )
        return cls(kind, index)

    def write(self, file: IO[bytes]) -> None:
        """Raises OSError."""
        faiss = import_faiss()
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._index.d)

    @property
    def lists(self) -> int:
        """Of an ivf-sq8 index; 0 for others."""
        return int(self._index.nlist) if self.kind == "ivf-sq8" else 0

    def add(self, unit: Floats) -> None:
        """Append rows [n,D] of length one."""
        if self.kind == "exact-fp16":
            # Rounded to the nearest here: faiss cuts off instead where the processor does not convert.
            unit = unit.astype(np.float16).astype(np.float32)
        self._index.add(np.ascontiguousarray(unit))

    def search(
        self, unit: Floats, k: int, *, allowed: NDArray[np.bool_] | None = None, probes: int = 0
    ) -> tuple[Floats, NDArray[np.int64]]:
        """(scores, rows), each [Q,k]: the best first, row -1 where there are fewer.

        allowed: [N], which rows may be found. probes: into how many lists of an ivf-sq8 index to look.
        """
        faiss = import_faiss()
        arguments: dict[str, Any] = {}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")  # referred to by the selector, so it stays until the end
            arguments["sel"] = faiss.IDSelectorBitmap(bits)
        if self.kind == "ivf-sq8":
            parameters = faiss.SearchParametersIVF(nprobe=probes, **arguments)
        else:
            parameters = faiss.SearchParameters(**arguments) if arguments else None
        scores, rows = self._index.search(np.ascontiguousarray(unit, np.float32), k, params=parameters)
        return scores, rows

    def search_range(
        self, unit: Floats, threshold: float, *, probes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """(query, row, score) of every row of an ivf-sq8 index above a threshold, in the order of the queries."""
        faiss = import_faiss()
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        limits, scores, rows = self._index.range_search(np.ascontiguousarray(unit), threshold, params=parameters)
        counts = np.diff(limits.astype(np.int64))
        return np.repeat(np.arange(len(unit)), counts), rows, scores

    def decode(self, rows: NDArray[np.int64]) -> Floats:
        """The vectors of these rows as they are kept: [n,D]."""
        self._prepare_decoding()
        return np.asarray(self._index.reconstruct_batch(np.ascontiguousarray(rows, np.int64)), np.float32)

    def decode_all(self, *, rows_at_once: int = _DECODED_ROWS) -> Iterator[tuple[int, Floats]]:
        """(first row, vectors [n,D]) of all rows, some at a time."""
        self._prepare_decoding()
        for first in range(0, len(self), rows_at_once):
            count = min(rows_at_once, len(self) - first)
            yield first, np.asarray(self._index.reconstruct_n(first, count), np.float32)

    def _prepare_decoding(self) -> None:
        """Where each row is among the lists: 8 bytes a row, made when it is first asked for."""
        if self.kind == "ivf-sq8" and self._index.direct_map.type == 0:
            self._index.make_direct_map()


def limit_threads(threads: int) -> None:
    """Of all searches of this process; 0 leaves it to faiss, which takes every core."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import_faiss().omp_set_num_threads(threads)
