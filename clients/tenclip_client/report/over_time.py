"""A video over its time: pictures, the salience of its windows, and the clips that were taken, one above the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenclip_client._types import ClipInfo, Thumbnail, Timeline, TimelinePoint
from tenclip_client.report.html import Markup, join, tag
from tenclip_client.report.svg import Point, cell_bounds, chart, nice_ticks, short
from tenclip_client.report.words import counted, data_url, interval, moment, number

# Windows that are drawn and listed one by one. Of a longer timeline, a bar is the highest of several.
MAX_BARS, MAX_ROWS = 600, 2000
_WIDTH, _CURVE, _LANE, _GAP, _AXIS = 860.0, 84.0, 19.0, 4.0, 22.0
_MAX_LANES = 12
_LETTER = 7.8
# Seconds that clocks count in.
_TIME_STEPS = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600)


@dataclass(frozen=True, kw_only=True)
class ShownClip:
    """One clip, with the best class of it where there is one."""

    clip: ClipInfo
    label: str = ""


def figure(
    name: str,
    span: Point,
    thumbnails: Sequence[Thumbnail],
    timeline: Timeline | None,
    clips: Sequence[ShownClip],
) -> Markup:
    """Everything that is known over time. span: the seconds that the figure shows."""
    return tag(
        "figure",
        tag(
            "div",
            tag("div", _strip(span, thumbnails), _drawing(name, span, timeline, clips), class_="over-time"),
            class_="film",
            tabindex=0,
            role="group",
            aria_label="Pictures, salience and clips over time",
        ),
        tag("figcaption", caption(timeline, clips)),
    )


def span_of(duration: float, timeline: Timeline | None) -> Point:
    """The part of the video that was looked at, in seconds: where its windows lie, or all of it."""
    if timeline is None or not timeline.points:
        return 0.0, max(duration, 0.001)
    start = min(p.start_seconds for p in timeline.points)
    end = max(p.end_seconds for p in timeline.points)
    return start, max(end, start + 0.001)


def caption(timeline: Timeline | None, clips: Sequence[ShownClip]) -> str:
    """What the figure shows, in words."""
    parts = []
    if timeline is not None and timeline.points:
        scores = [p.score for p in timeline.points if math.isfinite(p.score)] or [math.nan]
        chosen = sum(p.selected for p in timeline.points)
        taken = f"the {chosen} that were taken as clips are blue, with a mark below" if chosen else "none is a clip"
        parts.append(
            f"Salience of {counted(len(timeline.points), 'window')} by {timeline.scorer or 'an unnamed scorer'}, from "
            f"{number(min(scores))} to {number(max(scores))}; {taken}."
        )
        if len(timeline.points) > MAX_BARS:
            parts.append(f"A bar is the highest of up to {math.ceil(len(timeline.points) / MAX_BARS)} windows.")
    if clips:
        parts.append(f"In the rows below: {counted(len(clips), 'clip')} that the network saw, by number.")
    return " ".join(parts) or "The server sent neither a salience timeline nor clips."


def _strip(span: Point, thumbnails: Sequence[Thumbnail]) -> Markup | None:
    """The pictures, each as wide as the time that it stands for."""
    if not thumbnails:
        return None
    columns = " ".join(f"{share * 100:.2f}fr" for share in _columns(span, [t.seconds for t in thumbnails]))
    pictures = (
        tag("img", src=data_url(t.jpeg), alt=f"Frame at {moment(t.seconds)}", width=t.width, height=t.height)
        for t in thumbnails
    )
    return tag("div", *pictures, class_="strip", style=f"grid-template-columns:{columns}")


def _columns(span: Point, times: Sequence[float]) -> list[float]:
    """The share of the time that each picture stands for: equal ones where each lies within its part."""
    start, end = span
    places = [(t - start) / (end - start) for t in times]
    count = len(times)
    if all(i / count - 1e-6 <= place <= (i + 1) / count + 1e-6 for i, place in enumerate(places)):
        return [1 / count] * count
    return [max(right - left, 0.0) for left, right in cell_bounds([(p, p) for p in places], 1.0)]


def _drawing(name: str, span: Point, timeline: Timeline | None, clips: Sequence[ShownClip]) -> Markup:
    start, end = span

    def x_at(moment_: float) -> float:
        return min(max((moment_ - start) / (end - start), 0.0), 1.0) * _WIDTH

    points = timeline.points if timeline is not None else ()
    parts: list[Markup] = []
    top = 0.0
    if points:
        parts.append(_bars(points, x_at))
        top = _CURVE + 12
    lanes = _lanes([c.clip for c in clips])
    parts += [_clip(c, lane, top, x_at) for c, lane in zip(clips, lanes, strict=True)]
    top += (max(lanes, default=-1) + 1) * (_LANE + _GAP)
    ticks = [t for t in time_ticks(start, end) if start <= t <= end]
    parts += [_tick(t, x_at(t), top) for t in ticks]
    description = f"{caption(timeline, clips)} The tables below have every number."
    return chart(f"{name} over time", description, _WIDTH, top + _AXIS, parts, class_="timeline")


def _bars(points: Sequence[TimelinePoint], x_at: Callable[[float], float]) -> Markup:
    finite = [p.score for p in points if math.isfinite(p.score)] or [0.0]
    low, high = min(0.0, *finite), max(finite)
    groups = _groups(points)
    start, end = points[0].start_seconds, max(p.end_seconds for p in points)
    spans = [(group[0].start_seconds - start, group[-1].end_seconds - start) for group in groups]
    cells = cell_bounds(spans, end - start)
    drawn = []
    for group, (left, right) in zip(groups, cells, strict=True):
        score = max((p.score for p in group if math.isfinite(p.score)), default=low)
        # Where all are equal the height says nothing; it is the half, so that something shows.
        share = (score - low) / (high - low) if high > low and min(finite) < high else 0.5
        x, width = x_at(start + left), x_at(start + right) - x_at(start + left)
        drawn.append(_bar(group, x, width, 2 + share * (_CURVE - 2)))
    base = tag("line", x1=0, x2=_WIDTH, y1=_CURVE, y2=_CURVE, class_="grid")
    return join(drawn, base)


def _bar(group: Sequence[TimelinePoint], x: float, width: float, height: float) -> Markup:
    """A window, or several; a triangle below says what its colour says."""
    selected = any(p.selected for p in group)
    best = max(group, key=lambda p: p.score if math.isfinite(p.score) else -math.inf)
    words = f"{interval(group[0].start_seconds, group[-1].end_seconds)}: {number(best.score)}"
    gap = min(1.0, width / 4)
    rect = tag(
        "rect",
        tag("title", f"{words}, chosen" if selected else words),
        x=round(x + gap / 2, 2),
        y=round(_CURVE - height, 2),
        width=round(max(width - gap, 0.3), 2),
        height=round(height, 2),
        class_="window selected" if selected else "window",
    )
    if not selected:
        return rect
    middle = x + width / 2
    triangle = f"M{middle - 4:.1f},{_CURVE + 9:.1f} l4,-7 l4,7 z"
    return join(rect, tag("path", d=triangle, class_="chosen"))


def _groups(points: Sequence[TimelinePoint]) -> list[Sequence[TimelinePoint]]:
    size = math.ceil(len(points) / MAX_BARS)
    return [points[i : i + size] for i in range(0, len(points), size)]


def _lanes(clips: Sequence[ClipInfo]) -> list[int]:
    """A row for each clip, so that no two that overlap in time share one; beyond the last row, they do."""
    free: list[float] = []
    result = [0] * len(clips)
    for i in sorted(range(len(clips)), key=lambda i: (clips[i].start_seconds, clips[i].index)):
        clip = clips[i]
        lane = next((n for n, until in enumerate(free) if until <= clip.start_seconds + 1e-9), None)
        if lane is None:
            lane = min(len(free), _MAX_LANES - 1)
            if lane == len(free):
                free.append(0.0)
        free[lane] = clip.end_seconds
        result[i] = lane
    return result


def _clip(shown: ShownClip, lane: int, top: float, x_at: Callable[[float], float]) -> Markup:
    clip = shown.clip
    y, x = top + lane * (_LANE + _GAP) + _GAP / 2, x_at(clip.start_seconds)
    width = max(x_at(clip.end_seconds) - x, 3.0)
    x = min(x, _WIDTH - width)
    words = f"Clip {clip.index}, {interval(clip.start_seconds, clip.end_seconds)}"
    words += f": {shown.label}" if shown.label else ""
    return tag(
        "g",
        tag("title", f"{words}; began again at its end" if clip.looped else words),
        tag("rect", x=round(x, 2), y=y, width=round(width, 2), height=_LANE, rx=3, class_="clip"),
        _label(clip.index, shown.label, x, y, width),
    )


def _label(index: int, label: str, x: float, y: float, width: float) -> Markup | None:
    """As much as fits: number and class, the number, or nothing."""
    letters = int((width - 8) / _LETTER)
    text = str(index)
    if label and letters >= len(text) + 6:
        text = short(f"{text} {label}", letters)
    if len(text) > letters:
        return None
    return tag("text", text, x=round(x + 5, 2), y=y + _LANE - 6, class_="on-clip")


def time_ticks(start: float, end: float) -> list[float]:
    """About eight round moments from `start` to `end`: of minutes and hours where seconds would be many.

    >>> time_ticks(0, 3600)
    [0.0, 600.0, 1200.0, 1800.0, 2400.0, 3000.0, 3600.0]
    """
    raw = (end - start) / 8
    step = next((s for s in _TIME_STEPS if s >= raw), None)
    if raw <= 5 or step is None:
        return nice_ticks(start, end, 8)
    first = math.ceil(start / step)
    return [float(i * step) for i in range(first, math.floor(end / step) + 1)]


def _tick(value: float, x: float, top: float) -> Markup:
    anchor = "start" if x < 20 else "end" if x > _WIDTH - 20 else "middle"
    return join(
        tag("line", x1=round(x, 2), x2=round(x, 2), y1=top + 1, y2=top + 6, class_="grid"),
        tag("text", moment(value), x=round(x, 2), y=top + 18, text_anchor=anchor),
    )


def windows_table(timeline: Timeline | None) -> Markup | None:
    """The curve as a table, folded away."""
    if timeline is None or not timeline.points:
        return None
    points = [(i, p) for i, p in enumerate(timeline.points)]
    shown = points if len(points) <= MAX_ROWS else [(i, p) for i, p in points if p.selected][:MAX_ROWS]
    what = "every window" if len(shown) == len(points) else f"{counted(len(shown), 'window')} that were chosen"
    rows = (
        tag(
            "tr",
            tag("th", i, scope="row"),
            tag("td", interval(p.start_seconds, p.end_seconds), class_="number"),
            tag("td", number(p.score), class_="number"),
            tag("td", "chosen" if p.selected else ""),
        )
        for i, p in shown
    )
    heads = (tag("th", head, scope="col", class_=kind) for head, kind in _HEADS)
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="windows")
    scroll = tag("div", table, class_="scroll tall", tabindex=0, role="group", aria_label="Salience of windows")
    return tag("details", tag("summary", f"Salience of {what}, of {len(points):,}, as a table"), scroll)


_HEADS = (("window", None), ("time", "number"), ("salience", "number"), ("", None))
