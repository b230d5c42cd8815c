from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tenclip_client.report import svg


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
def test_ticks_enclose_the_values_in_round_steps(low: float, span: float, count: int) -> None:
    ticks = svg.nice_ticks(low, low + span, count)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + step * 1e-3
    assert ticks[-1] >= low + span - step * 1e-3
    assert len(ticks) <= 2 * count + 3
    assert ticks == sorted(ticks)


def test_ticks_of_nothing() -> None:
    assert len(svg.nice_ticks(0, 0)) >= 2


@given(st.lists(st.tuples(st.floats(0, 90), st.floats(0, 10)), min_size=1, max_size=30))
def test_cells_cover_the_video_without_overlap(clips: list[tuple[float, float]]) -> None:
    ordered = sorted(((start, start + length) for start, length in clips), key=lambda c: c[0] + c[1])
    bounds = svg.cell_bounds(ordered, 100.0)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 100
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))


def test_long_names_are_cut() -> None:
    assert svg.short("x" * 40, 24) == "x" * 23 + "…"
    assert svg.short("archery") == "archery"
