"""Top-1 against operations as an SVG file of its own, with its colours in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tenclip_client.report.html import Markup, join, tag
from tenclip_client.report.svg import nice_ticks
from tenclip_findings.salience.config import MOST_SALIENT, UNIFORM
from tenclip_findings.salience.results import ArmResult, Results
from tenclip_findings.statistics import Spread

WIDTH, HEIGHT = 760.0, 430.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 236.0, 20.0, 48.0
COLORS = ("#1f6feb", "#bf3989", "#1a7f37", "#bc4c00", "#8250df")
GREY, BLACK = "#6e7781", "#24292f"

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line of (GFLOPs, top-1) points, or a single mark; its name stands in the legend. marks: diamonds, not dots."""

    name: str
    color: str
    points: tuple[Point, ...]
    dashed: bool = False
    marks: bool = False


def draw(results: Results, set_name: str = "test") -> str:
    """The chart of all arms on a set: means over seeds."""
    series = all_series(results, set_name)
    every = [p for s in series for p in s.points]
    ticks = nice_ticks(min(y for _, y in every), max(y for _, y in every), 6)
    low, high = min(x for x, _ in every) / 1.15, max(x for x, _ in every) * 1.15

    def at(point: Point) -> Point:
        x = (math.log(point[0]) - math.log(low)) / (math.log(high) - math.log(low))
        y = (ticks[-1] - point[1]) / (ticks[-1] - ticks[0])
        return LEFT + x * (WIDTH - LEFT - RIGHT), TOP + y * (HEIGHT - TOP - BOTTOM)

    title = "Top-1 against operations, untrimmed videos"
    drawn = tag(
        "svg",
        tag("title", title),
        tag("desc", "; ".join(f"{s.name}: " + ", ".join(f"{y:.1%} at {x:.2g}" for x, y in s.points) for s in series)),
        tag("rect", width=WIDTH, height=HEIGHT, fill="#ffffff"),
        [_level(y, at((low, y))[1]) for y in ticks],
        [_column(x, at((x, ticks[0]))[0]) for x in _log_ticks(low, high)],
        _text("multiply-adds of one video, in billions, scoring included", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8),
        [_line(s, [at(p) for p in s.points]) for s in series],
        [_legend(s, i) for i, s in enumerate(series)],
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        font_family="system-ui, sans-serif",
        font_size=12,
    )
    return f"{drawn}\n"


def all_series(results: Results, set_name: str) -> tuple[Series, ...]:
    """Uniform clips, all windows, the oracle, then each scorer with its adaptive prediction."""
    salient = range(1, MOST_SALIENT + 1)
    overlap = [results.arms(set_name, "oracle: overlap", num_clips=n) for n in salient]
    evenly = [results.arms(set_name, "uniform", num_clips=n) for n in UNIFORM]
    found = [
        Series(name="uniform", color=BLACK, points=_points(evenly)),
        Series(name="all windows", color=GREY, points=_points([results.arms(set_name, "dense")])),
        Series(name="oracle: windows of the action", color=GREY, points=_points(overlap), dashed=True),
    ]
    for scorer, color in zip(results.scorers, COLORS, strict=False):
        arms = [results.arms(set_name, "salient", scorer, n) for n in salient]
        found.append(Series(name=f"salient ({scorer})", color=color, points=_points(arms)))
        bounds = [results.adaptive(set_name, scorer, b) for b in sorted(results.error_bounds)]
        found.append(Series(name=f"adaptive ({scorer})", color=color, points=_points(bounds), marks=True))
    return tuple(found)


def _points(arms: Sequence[Sequence[ArmResult]]) -> tuple[Point, ...]:
    return tuple((Spread.of([a.gflops for a in seeds]).mean, Spread.of([a.top1 for a in seeds]).mean) for seeds in arms)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers.

    >>> _log_ticks(0.15, 3.0)
    [0.2, 0.5, 1.0, 2.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [round(m * 10.0**p, 6 - p) for p in powers for m in (1, 2, 5)]
    return [t for t in ticks if low <= t <= high]


def _level(value: float, y: float) -> Markup:
    return join(
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, stroke="#d0d7de"),
        _text(f"{value:.0%}", LEFT - 6, y + 4, anchor="end"),
    )


def _column(value: float, x: float) -> Markup:
    return join(
        tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, stroke="#eaeef2"),
        _text(f"{value:g}", x, HEIGHT - BOTTOM + 16),
    )


def _line(series: Series, points: Sequence[Point]) -> Markup:
    if len(points) == 1:
        return _mark(series, *points[0])
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = "5 4" if series.dashed else None
    return join(
        tag("polyline", points=path, fill="none", stroke=series.color, stroke_width=2, stroke_dasharray=dash),
        [_mark(series, x, y) for x, y in points if series.marks],
        [tag("circle", cx=x, cy=y, r=2.5, fill=series.color) for x, y in points if not (series.dashed or series.marks)],
    )


def _mark(series: Series, x: float, y: float) -> Markup:
    return tag("path", d=f"M{x:.1f},{y - 6:.1f}l6,6l-6,6l-6,-6Z", fill=series.color, stroke="#ffffff")


def _legend(series: Series, index: int) -> Markup:
    x, y = WIDTH - RIGHT + 16, TOP + 14 + 20 * index
    sample = [(x, y - 4), (x + 20, y - 4)] if len(series.points) > 1 else [(x + 10, y - 4)]
    return join(_line(series, sample), _text(series.name, x + 28, y, anchor="start"))


def _text(text: str, x: float, y: float, *, anchor: str = "middle") -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, fill=BLACK)
