"""The SQL that splits cells into tags agrees with the rule in Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.labels.spaces import LabelSpace, action_space
from tenclip_training.labels.tables import connect
from tenclip_training.labels.tagging import TagMatcher
from tenclip_training.labels.words import canonical_tag, canonical_tags

SPACE = action_space(["burning candles", "catching a fish"])


@pytest.fixture(scope="module")
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as opened:
        yield opened


@pytest.fixture(scope="module")
def matcher(db: duckdb.DuckDBPyConnection) -> TagMatcher:
    return TagMatcher(db, SPACE, fold_accents=False)


def found_by(matcher: TagMatcher, db: duckdb.DuckDBPyConnection, cells: pa.Array, *, is_list: bool) -> list[set[str]]:
    matcher.match(pa.record_batch({"tags": cells}), "tags", is_list=is_list)
    found: list[set[str]] = [set() for _ in range(len(cells))]
    for row, tag in db.sql("SELECT row, tag FROM tags").fetchall():
        found[row].add(tag)
    return found


# Surrogates are no text for Arrow.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | TEXT | st.text("#aB ,;|_-é🔥\t\n'", max_size=20), min_size=1, max_size=30))
def test_text(matcher: TagMatcher, db: duckdb.DuckDBPyConnection, cells: list[str | None]) -> None:
    found = found_by(matcher, db, pa.array(cells, pa.string()), is_list=False)
    assert found == [set(canonical_tags(cell or "")) for cell in cells]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.lists(st.none() | TEXT, max_size=4), min_size=1, max_size=10))
def test_lists(matcher: TagMatcher, db: duckdb.DuckDBPyConnection, cells: list[list[str | None] | None]) -> None:
    found = found_by(matcher, db, pa.array(cells, pa.list_(pa.string())), is_list=True)
    for cell, tags in zip(cells, found, strict=True):
        elements = [
            element for element in cell or [] if element is not None and not set(element) & set("#\uff03\ufe5f")
        ]
        assert {canonical_tag(element) for element in elements} - {""} <= tags


def test_an_element_of_a_list_is_one_tag(matcher: TagMatcher, db: duckdb.DuckDBPyConnection) -> None:
    cells = pa.array([["burning candle", "#a#b", None, "x, y"], [], None])
    assert found_by(matcher, db, cells, is_list=True) == [{"burningcandle", "a", "b", "xy"}, set(), set()]


def test_rows_and_labels(db: duckdb.DuckDBPyConnection) -> None:
    matcher = TagMatcher(db.cursor(), SPACE, fold_accents=False)
    cells = ["#fun", "#fishcatching #burncandle", None, "#BURNCANDLE🔥 #burncandle", "#candleburn #catchfish"]
    found = matcher.match(pa.record_batch({"tags": pa.array(cells)}), "tags", is_list=False)
    assert found.rows.tolist() == [1, 3, 4]
    assert found.to_arrow().to_pylist() == [[0, 1], [0], [0, 1]]
    counts = matcher.counts
    assert (counts.rows, counts.rows_without_tags, counts.rows_matched) == (5, 1, 3)
    assert (counts.tags, counts.tags_matched) == (7, 6)
    assert int(matcher.seen.sum()) == 4
    assert counts.examples[0] == "burncandle"


def test_a_batch_without_a_match(db: duckdb.DuckDBPyConnection) -> None:
    matcher = TagMatcher(db.cursor(), SPACE, fold_accents=False)
    found = matcher.match(pa.record_batch({"tags": pa.array(["#fun", None])}), "tags", is_list=False)
    assert found.rows.tolist() == []
    assert found.to_arrow().to_pylist() == []


def test_a_hashtag_of_two_labels_counts_once(db: duckdb.DuckDBPyConnection) -> None:
    space = LabelSpace(labels=("x", "y"), hashtags=pa.table({"label": [0, 1, 1], "tag": ["#Both", "both", "🔥"]}))
    matcher = TagMatcher(db.cursor(), space, fold_accents=False)
    assert (matcher.num_hashtags, matcher.num_shared) == (1, 1)
    found = matcher.match(pa.record_batch({"tags": pa.array(["#both #BOTH"])}), "tags", is_list=False)
    assert found.to_arrow().to_pylist() == [[0, 1]]
    assert matcher.counts.tags_matched == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["burncandle", "catchfish", "fun", ""]), max_size=5), min_size=1, max_size=8))
def test_the_join_is_what_a_loop_finds(matcher: TagMatcher, cells: list[list[str]]) -> None:
    batch = pa.record_batch({"tags": pa.array(["#" + " #".join(cell) for cell in cells])})
    found = matcher.match(batch, "tags", is_list=False)
    labels = {0: "burncandle", 1: "catchfish"}
    expected = [[k for k, tag in labels.items() if Counter(cell)[tag]] for cell in cells]
    assert found.rows.tolist() == [i for i, row in enumerate(expected) if row]
    assert found.to_arrow().to_pylist() == [row for row in expected if row]
