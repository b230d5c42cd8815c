from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_training.data.shards.index import Shard, ShardIndex, ShardRow, read_index, split_counts, write_index

SHARD = Shard(name="a/train-000000.tar", num_bytes=10, sha256="0f" * 32, plan="p")
ROW = ShardRow(key="0", name="a.mp4", labels=("x",), split="train", shard=0, offset=512, num_bytes=3, sha256="1" * 64)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.builds(
    ShardRow,
    key=TEXT,
    name=TEXT,
    labels=st.lists(TEXT, max_size=3).map(tuple),
    split=TEXT,
    shard=st.just(0),
    offset=st.integers(0, 2**60),
    num_bytes=st.integers(0, 2**60),
    sha256=TEXT,
    start_seconds=st.none() | st.floats(allow_nan=False),
    end_seconds=st.none() | st.floats(allow_nan=False),
    extra=st.dictionaries(TEXT, TEXT | st.integers(-9, 9) | st.none(), max_size=2),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(ROWS, max_size=4), st.lists(TEXT, max_size=3), TEXT)
def test_an_index_reads_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[ShardRow], labels: list[str], base: str
) -> None:
    index = ShardIndex(labels=tuple(labels), shards=(SHARD,), rows=tuple(rows), base=base)
    path = tmp_path_factory.getbasetemp() / "index.parquet"
    write_index(path, index)
    first = path.read_bytes()
    assert read_index(path, name="index") == index == read_index(first, name="index")
    write_index(path, index)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x.tar"}, "no shard can be called"),
        ({"name": "/etc/x.tar"}, "no shard can be called"),
        ({"sha256": "../../x"}, "no shard can be called"),
        ({"sha256": ""}, "no shard can be called"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    shard = dataclasses.replace(SHARD, **changes)  # type: ignore[arg-type]
    write_index(tmp_path / "i", ShardIndex(labels=("x",), shards=(shard,), rows=(ROW,)))
    with pytest.raises(DatasetError, match=message):
        read_index(tmp_path / "i", name="i")


def test_a_row_of_a_shard_that_is_not_there(tmp_path: Path) -> None:
    rows = (dataclasses.replace(ROW, shard=3),)
    write_index(tmp_path / "i", ShardIndex(labels=("x",), shards=(SHARD,), rows=rows))
    with pytest.raises(DatasetError, match=r"i: a.mp4 lies in shard 3, and there are 1"):
        read_index(tmp_path / "i", name="i")


def test_an_index_of_a_later_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tenclip_training.data.shards import index as module

    monkeypatch.setattr(module, "FORMAT_VERSION", 2)
    write_index(tmp_path / "i", ShardIndex(labels=("x",), shards=(SHARD,), rows=(ROW,)))
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="i: is an index of version 2; this tenclip reads version 1"):
        read_index(tmp_path / "i", name="i")


def test_samples_of_splits() -> None:
    assert split_counts([ROW, dataclasses.replace(ROW, split=""), ROW]) == {"train": 2, "": 1}
