"""Charts of a finding: what its arms get right, and its effects with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenclip_client.report.html import Markup, tag
from tenclip_client.report.svg import chart, short
from tenclip_findings.finding import DETECTABLE_POINTS

_WIDTH, _ROW, _LEFT, _SPAN = 640, 26, 250, 330
_NAME = 38  # characters that have room before a row
_TOP = 8


def bars(finding: Mapping[str, Any]) -> Markup:
    """Accuracy of every arm, with the smallest and the largest of its seeds, as SVG."""
    arms = finding["top1"]
    height = 40 + len(arms) * _ROW

    def at(percent: float) -> float:
        return round(_LEFT + percent / 100 * _SPAN, 1)

    grid = [
        (
            tag("line", x1=at(t), x2=at(t), y1=_TOP, y2=height - 24, class_="grid"),
            tag("text", f"{t}%", x=at(t), y=height - 8, class_="tick"),
        )
        for t in (0, 25, 50, 75, 100)
    ]
    rows = [
        _row(place, name, [at(spread[key]) for key in ("low", "mean", "high")], f"{spread['mean']:.1f}%")
        for place, (name, spread) in enumerate(arms.items())
    ]
    said = "; ".join(f"{name}: {spread['mean']:.1f}%" for name, spread in arms.items())
    return chart(f"Top-1 accuracy of the arms of {finding['name']}", said, _WIDTH, height, grid, rows)


def effects(finding: Mapping[str, Any]) -> Markup:
    """Every contrast with its interval, and its seeds as small dots, as SVG."""
    contrasts = finding["contrasts"]
    ends = [abs(c["effect"][key]) for c in contrasts for key in ("low", "high")]
    reach = max(DETECTABLE_POINTS, *ends, *(abs(s["mean"]) for c in contrasts for s in c["seeds"]))

    def at(value: float) -> float:
        return round(_LEFT + (value / float(reach) + 1) / 2 * _SPAN, 1)

    height = 32 + len(contrasts) * _ROW
    zero = tag("line", x1=at(0), x2=at(0), y1=_TOP, y2=height - 16, class_="zero")
    rows = []
    for place, c in enumerate(contrasts):
        places = [at(c["effect"][key]) for key in ("low", "mean", "high")]
        seeds = [tag("circle", cx=at(s["mean"]), cy=_y(place), r=2, class_="seed") for s in c["seeds"]]
        kind = c["verdict"].replace(" ", "-")
        rows.append(_row(place, c["name"], places, f"{c['effect']['mean']:+.1f}", kind, seeds))
    said = "; ".join(f"{c['name']}: {c['effect']['mean']:+.1f}, {c['verdict']}" for c in contrasts)
    return chart(f"Effects of {finding['name']}", said, _WIDTH, height, zero, rows)


def _row(
    place: int, name: str, places: Sequence[float], value: str, kind: str = "", seeds: Sequence[Markup] = ()
) -> tuple[object, ...]:
    """places: of the low end, the mean and the high end."""
    y = _y(place)
    low, mean, high = places
    return (
        tag("text", short(name, _NAME), tag("title", name), x=_LEFT - 10, y=y + 4, text_anchor="end", class_="name"),
        tag("line", x1=low, x2=high, y1=y, y2=y, class_=f"range {kind}".strip()),
        seeds,
        tag("circle", cx=mean, cy=y, r=4.5, class_=f"dot {kind}".strip()),
        tag("text", value, x=_WIDTH - 46, y=y + 4, class_="value"),
    )


def _y(place: int) -> int:
    return 22 + place * _ROW
