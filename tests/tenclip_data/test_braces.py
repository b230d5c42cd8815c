"""Braces in names of shards mean what they mean to WebDataset."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_data.braces import expand_braces


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("{3..1}", []),
    ],
)
def test_braces(text: str, expected: list[str]) -> None:
    assert expand_braces(text) == expected


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_braces_agree_with_braceexpand(first: int, last: int) -> None:
    braceexpand = pytest.importorskip("braceexpand")
    if first <= last:
        text = f"s3://b/x-{{{first:06d}..{last:06d}}}.tar"
        assert expand_braces(text) == list(braceexpand.braceexpand(text))
