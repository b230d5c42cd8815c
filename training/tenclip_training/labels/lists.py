"""Columns of lists of labels, filtered without a loop over rows, and Parquet files written a table at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray


@dataclass(frozen=True)
class FilteredLists:
    """Lists that kept an element. rows: bool [R], which rows those are; lists: one for each of them.

    lengths: elements of each of them, int64.
    """

    rows: NDArray[np.bool_]
    lists: pa.ListArray
    lengths: NDArray[np.int64]


def filter_lists(lists: pa.ListArray, keep: NDArray[np.bool_], values: pa.Array | None = None) -> FilteredLists:
    """Lists with the elements for which `keep` is true, in order. keep: over the flattened elements, bool [sum].

    values: what to put in place of the flattened elements.
    """
    lengths = np.asarray(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    kept_lengths = np.bincount(owner[keep], minlength=len(lengths))
    rows = kept_lengths > 0
    offsets = np.concatenate([[0], np.cumsum(kept_lengths[rows])]).astype(np.int32)
    kept = (lists.flatten() if values is None else values).filter(pa.array(keep))
    return FilteredLists(rows, pa.ListArray.from_arrays(pa.array(offsets), kept), kept_lengths[rows])


def replace_lists(rows: pa.Table, column: str, found: FilteredLists) -> pa.Table:
    """The rows that kept an element, with their new lists in place of the column."""
    index = rows.column_names.index(column)
    return rows.filter(pa.array(found.rows)).set_column(index, pa.field(column, found.lists.type), found.lists)


@contextlib.contextmanager
def parquet_writer(file: IO[bytes], *, compression: str) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends tables of one schema to a Parquet file. Raises OSError where they cannot be written."""
    writer: pyarrow.parquet.ParquetWriter | None = None

    def write(rows: pa.Table) -> None:
        nonlocal writer
        writer = writer or pyarrow.parquet.ParquetWriter(file, rows.schema, compression=compression)
        writer.write_table(rows)

    try:
        yield write
    except BaseException:
        # The file is lost; what is left is to let go of it. A disk that was full is full still.
        if writer is not None:
            with contextlib.suppress(Exception):
                writer.close()
        raise
    if writer is not None:
        writer.close()
