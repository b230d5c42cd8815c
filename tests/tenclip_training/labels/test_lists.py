"""Lists filtered without a loop agree with a loop."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.labels.lists import filter_lists, parquet_writer, replace_lists

CELLS = st.lists(st.none() | st.lists(st.integers(0, 5), max_size=4), max_size=10)


@given(CELLS, st.sets(st.integers(0, 5)), st.integers(0, 3))
def test_filter_lists(cells: list[list[int] | None], kept: set[int], skip: int) -> None:
    lists = pa.array(cells, pa.list_(pa.int32())).slice(min(skip, len(cells)))
    expected = [[v for v in cell or [] if v in kept] for cell in lists.to_pylist()]
    keep = np.isin(lists.flatten().to_numpy(zero_copy_only=False), list(kept))
    found = filter_lists(lists, keep)
    assert found.rows.tolist() == [bool(row) for row in expected]
    assert found.lists.to_pylist() == [row for row in expected if row]
    assert found.lengths.tolist() == [len(row) for row in expected if row]
    table = replace_lists(pa.table({"n": range(len(lists)), "v": lists}), "v", found)
    assert table["n"].to_pylist() == [i for i, row in enumerate(expected) if row]


def test_a_writer_without_tables_writes_nothing() -> None:
    file = io.BytesIO()
    with parquet_writer(file, compression="zstd"):
        pass
    assert file.getvalue() == b""


def test_a_writer_that_fails_lets_go() -> None:
    def fail() -> None:
        with parquet_writer(io.BytesIO(), compression="zstd") as write:
            write(pa.table({"a": [1]}))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_writer_appends() -> None:
    file = io.BytesIO()
    with parquet_writer(file, compression="zstd") as write:
        write(pa.table({"a": [1]}))
        write(pa.table({"a": [2]}))
    assert pq.read_table(pa.BufferReader(file.getvalue()))["a"].to_pylist() == [1, 2]
