"""What every chart of a page needs: its frame, round ticks, and places over time.

Colours are CSS variables of the page, so that they follow its light or dark scheme. Every chart has a <title> and a
<desc> that says in words what it shows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tenclip_client.report.html import Markup, tag

Point = tuple[float, float]


def chart(title: str, description: str, width: float, height: float, *children: object, class_: str = "") -> Markup:
    """The <svg> around a chart, scaled to the width of its place."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        class_=f"chart {class_}".strip(),
    )


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `count` steps apart.

    >>> nice_ticks(0, 0.93)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low if high > low else abs(high) or 1.0
    raw = span / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))  # 0.1 + 0.2 is not 0.3
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def cell_bounds(clips: Sequence[Point], duration: float) -> list[Point]:
    """Clips may overlap or leave gaps; each gets the moments that are nearer to its middle than to any other's.

    >>> cell_bounds([(0, 2), (1, 3), (5, 7)], 8)
    [(0.0, 1.5), (1.5, 4.0), (4.0, 8)]
    """
    middles = [(start + end) / 2 for start, end in clips]
    inner = [(a + b) / 2 for a, b in itertools.pairwise(middles)]
    return list(zip([0.0, *inner], [*inner, duration], strict=True)) if clips else []


def short(name: str, limit: int = 24) -> str:
    """A name that fits its place."""
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
