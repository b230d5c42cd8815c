"""Line charts as SVG, with linear or logarithmic axes. They need nothing but a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

COLORS = ("#1f6feb", "#d1610a", "#1a7f37", "#a21caf", "#b91c1c", "#0e7490", "#854d0e", "#4b5563")
# Points of a line: enough for the width of the chart.
MAX_POINTS = 400

_WIDTH, _HEIGHT = 640.0, 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 16.0, 40.0, 48.0


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What an axis shows. percent: values are shares."""

    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = False

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values as parts of the axis, 0 to 1."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log10(values), math.log10(low), math.log10(high)
        return (values - low) / (high - low if high > low else 1.0)

    def ticks(self) -> list[float]:
        """Powers of ten on a logarithmic axis, else fifths."""
        if self.log:
            return [10.0**e for e in range(math.floor(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)]
        return [self.low + (self.high - self.low) * i / 5 for i in range(6)]

    def text(self, value: float) -> str:
        return f"{value:.0%}" if self.percent else f"{value:,.0f}"


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line. x, y: float64 [N]."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def line_chart(title: str, description: str, series: Sequence[Series], *, x: Axis, y: Axis) -> ElementTree.Element:
    """An <svg> with a <title> and a <desc> that says in words what it shows."""
    svg = ElementTree.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img"
    )
    svg.set("style", "font: 12px system-ui, sans-serif")
    ElementTree.SubElement(svg, "title").text = title
    ElementTree.SubElement(svg, "desc").text = description
    _draw_axes(svg, x, y)
    for i, line in enumerate(series):
        color = COLORS[i % len(COLORS)]
        picked = _picked(len(line.x), log=x.log)
        across, up = x.place(line.x[picked]), y.place(line.y[picked])
        points = " ".join(f"{_x(a):.1f},{_y(u):.1f}" for a, u in zip(across, up, strict=True))
        _add(svg, "polyline", points=points, fill="none", stroke=color, stroke_width="2", stroke_linejoin="round")
        if len(picked) == 1:
            _add(svg, "circle", cx=f"{_x(across[0]):.1f}", cy=f"{_y(up[0]):.1f}", r="3", fill=color)
    _draw_names(svg, [line.name for line in series])
    return svg


def _draw_axes(svg: ElementTree.Element, x: Axis, y: Axis) -> None:
    for value in y.ticks():
        at = _y(float(y.place(np.array([value]))[0]))
        _add(svg, "line", x1=f"{_LEFT:g}", x2=f"{_WIDTH - _RIGHT:g}", y1=f"{at:.1f}", y2=f"{at:.1f}", stroke="#8883")
        _text(svg, y.text(value), _LEFT - 6, at + 4, anchor="end")
    for value in x.ticks():
        _text(svg, x.text(value), _x(float(x.place(np.array([value]))[0])), _HEIGHT - _BOTTOM + 18)
    _text(svg, x.label, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8)
    _text(svg, y.label, _LEFT - 60, 16, anchor="start")


def _draw_names(svg: ElementTree.Element, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        at = _TOP + 14 + 16 * i
        _text(svg, name, _WIDTH - _RIGHT - 8, at, anchor="end", fill=COLORS[i % len(COLORS)])


def _picked(count: int, *, log: bool) -> NDArray[np.int64]:
    """Indices of the points to draw: evenly over the axis, with the first and the last."""
    if count <= MAX_POINTS:
        return np.arange(count)
    spread = np.geomspace(1, count, MAX_POINTS) - 1 if log else np.linspace(0, count - 1, MAX_POINTS)
    return np.unique(np.round(spread).astype(np.int64))


def _x(part: float) -> float:
    return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)


def _y(part: float) -> float:
    return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)


def _text(
    svg: ElementTree.Element, text: str, x: float, y: float, *, anchor: str = "middle", fill: str = "currentColor"
) -> None:
    _add(svg, "text", x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, fill=fill).text = text


def _add(parent: ElementTree.Element, name: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, name, {key.replace("_", "-"): value for key, value in attributes.items()})
