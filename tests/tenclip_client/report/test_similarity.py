from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_client.report.similarity import MAX_COMPARED, cosine_matrix, features_part

from .made_up import features
from .pages import Page


def test_cosines() -> None:
    matrix = cosine_matrix(features((2, 0), (1, 1), (0, -3), (0, 0)).clips)
    assert matrix[0] == pytest.approx([1, 0.5**0.5, 0, 0])
    assert matrix[1][2] == pytest.approx(-(0.5**0.5))
    assert matrix[3] == [0, 0, 0, 0]


@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=6))
def test_cosines_of_anything(vectors: list[tuple[float, float]]) -> None:
    matrix = cosine_matrix(features(*vectors).clips)
    for i, row in enumerate(matrix):
        assert all(-1 <= value <= 1 for value in row)
        assert row == [other[i] for other in matrix]


def test_of_many_clips_some_are_compared() -> None:
    page = Page(features_part(features(*((i, 1) for i in range(3 * MAX_COMPARED)))))
    assert len(page.all("rect", "cosine")) == MAX_COMPARED**2
    assert f"{MAX_COMPARED} of its {3 * MAX_COMPARED} clips, spread over it, are compared" in page.text
    names = [data for tag, data in page.texts if tag == "th"]
    assert names[-1] == str(3 * MAX_COMPARED - 1)
