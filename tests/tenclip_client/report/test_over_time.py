from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_client.report import over_time
from tenclip_client.report.words import moment, seconds

from .made_up import clip, timeline


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 10)), max_size=12))
def test_clips_of_one_row_do_not_overlap(parts: list[tuple[float, float]]) -> None:
    clips = [clip(i, start_seconds=a, end_seconds=a + length) for i, (a, length) in enumerate(parts)]
    rows = over_time._lanes(clips)
    for row in set(rows):
        mine = sorted((c.start_seconds, c.end_seconds) for c, r in zip(clips, rows, strict=True) if r == row)
        assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(mine))


def test_many_clips_at_one_time_share_the_last_row() -> None:
    rows = over_time._lanes([clip(i, start_seconds=0.0, end_seconds=1.0) for i in range(30)])
    assert max(rows) == over_time._MAX_LANES - 1


def test_pictures_have_equal_columns_where_each_lies_in_its_part() -> None:
    assert over_time._columns((0.0, 9.0), [0.0, 4.0, 8.9]) == [1 / 3] * 3
    assert over_time._columns((0.0, 10.0), [1.0, 2.0]) == pytest.approx([0.15, 0.85])
    assert over_time._columns((5.0, 15.0), [7.0, 12.0]) == [0.5, 0.5]


def test_the_part_that_was_looked_at() -> None:
    assert over_time.span_of(10.0, None) == (0.0, 10.0)
    assert over_time.span_of(99.0, timeline()) == (0.0, 10.0)
    assert over_time.span_of(0.0, None)[1] > 0


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 s"), (4.25, "4.25 s"), (99.5, "99.5 s"), (125, "2:05"), (3603.9, "1:00:03"), (float("nan"), "nan")],
)
def test_moments(value: float, words: str) -> None:
    assert moment(value) == words


def test_ticks_are_round_moments() -> None:
    assert over_time.time_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert over_time.time_ticks(100, 400) == [120, 180, 240, 300, 360]
    assert len(over_time.time_ticks(0, 86_400)) <= 10


@given(st.floats(0, 1e5), st.floats(0.001, 1e5))
def test_ticks_are_few(start: float, length: float) -> None:
    ticks = [t for t in over_time.time_ticks(start, start + length) if start <= t <= start + length]
    assert len(ticks) <= 12
    assert ticks == sorted(ticks)


def test_seconds() -> None:
    assert [seconds(v) for v in (0.0004, 0.012, 3.44, 312)] == ["0.4 ms", "12 ms", "3.4 s", "5 min 12 s"]
