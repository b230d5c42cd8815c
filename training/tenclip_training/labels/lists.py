"""Columns of lists of labels, filtered without a loop over rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
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
