"""Whatever a file holds, it is read or refused with an error that names it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, read_labels, read_manifest
from tenclip_data.names import read_video_names

SUFFIXES = ["txt", "csv", "tsv", "json", "jsonl", "list", "parquet", ""]
# Pieces of real lists, so that lines get past the first check.
_WORDS = "a.mp4|b c.avi|path|label|split|start|end|train|0|1|-1|2.5|00:01:02|run|é|youtube_id|time_start|time_end"
_SIGNS = "\"',;\t |\n\r#$\\[]{}:\ufeff\0"
_PIECES = st.sampled_from(
    [*_WORDS.split("|"), *_SIGNS, "video_id", "start_timestamp", "stop_timestamp", "id", "template"]
)
_KEYS = st.sampled_from(["path", "label", "id", "template", "annotations", "segment", "split", "x"])
_TEXT = st.one_of(st.lists(_PIECES, max_size=30).map("".join), st.text(max_size=60))
_BYTES = st.one_of(_TEXT.map(lambda t: t.encode("utf-8", "surrogatepass")), st.binary(max_size=60))
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), _PIECES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)

quietly = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def outcome(read: Callable[[Path], Any], file: Path) -> Any:
    """What a reader gives, or the DatasetError that it raises."""
    try:
        return read(file)
    except DatasetError as err:
        return err


def read_all(file: Path) -> None:
    keep = functools.partial(read_manifest, missing="keep")
    for read in (read_manifest, keep, read_video_names, read_labels):
        result = outcome(read, file)
        if isinstance(result, DatasetError):
            assert str(file) in result.message
        elif isinstance(result, Manifest):
            assert all(result.targets(s) for s in result.samples)
        else:
            assert result


@quietly
@given(content=_BYTES, suffix=st.sampled_from(SUFFIXES))
def test_text_and_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    file.write_bytes(content)
    read_all(file)


@quietly
@given(data=_JSON)
def test_json(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    read_all(file)


_COLUMN = st.one_of(
    st.lists(st.one_of(st.none(), st.text(max_size=4)), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.integers(-2, 5)), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.floats()), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.binary(max_size=4)), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.datetimes()), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.lists(st.integers(0, 3), max_size=2)), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.timedeltas(timedelta(-9), timedelta(9))), min_size=3, max_size=3),
)


@quietly
@given(
    columns=st.dictionaries(st.sampled_from(["path", "Label", "split", "start", "end", "x"]), _COLUMN, min_size=1),
    categorical=st.booleans(),
)
def test_parquet(tmp_path_factory: pytest.TempPathFactory, columns: dict[str, list[Any]], categorical: bool) -> None:
    arrays = {name: pyarrow.array(values) for name, values in columns.items()}
    if categorical:
        arrays = {
            n: a if pyarrow.types.is_nested(a.type) or pyarrow.types.is_null(a.type) else a.dictionary_encode()
            for n, a in arrays.items()
        }
    file = tmp_path_factory.getbasetemp() / "any.parquet"
    pyarrow.parquet.write_table(pyarrow.table(arrays), file)
    read_all(file)
