"""Charts as inline SVG. Colours are CSS variables of the page, so that they follow its light or dark scheme.

Every chart has a <title> and a <desc> that says in words what it shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from tenclip_client.report.html import Markup, join, tag
from tenclip_client.report.svg import Point, cell_bounds, chart, nice_ticks, short
from tenclip_demo.report import VideoCard


def lines(
    title: str,
    description: str,
    series: Sequence[tuple[str, str, Sequence[Point]]],
    *,
    x_label: str,
    y_format: Callable[[float], str],
    y_range: tuple[float, float] | None = None,
) -> Markup:
    """A line chart. series: (name, colour, points); the name stands at the end of its line."""
    width, height, left, right, top, bottom = 460.0, 230.0, 46.0, 86.0, 12.0, 34.0
    points = [p for _, _, line in series for p in line]
    low, high = y_range or (min(0.0, *(y for _, y in points)), max(y for _, y in points))
    ticks = nice_ticks(low, high)
    first, last = min(x for x, _ in points), max(x for x, _ in points)

    def at(x: float, y: float) -> Point:
        part = (x - first) / (last - first) if last > first else 0.5
        return (
            left + part * (width - left - right),
            top + (ticks[-1] - y) / (ticks[-1] - ticks[0]) * (height - top - bottom),
        )

    grid = [
        join(
            tag("line", x1=left, x2=width - right, y1=at(0, y)[1], y2=at(0, y)[1], class_="grid"),
            tag("text", y_format(y), x=left - 6, y=at(0, y)[1] + 4, text_anchor="end"),
        )
        for y in ticks
    ]
    marks = [
        tag("text", f"{x:g}", x=at(x, 0)[0], y=height - 16, text_anchor="middle") for x in _whole_ticks(first, last)
    ]
    ends = _spread([at(*line[-1])[1] for _, _, line in series if line], 13.0)
    drawn = [
        _line(name, color, [at(x, y) for x, y in line], end)
        for (name, color, line), end in zip([s for s in series if s[2]], ends, strict=True)
    ]
    axis = tag("text", x_label, x=(left + width - right) / 2, y=height - 2, text_anchor="middle", class_="axis")
    return chart(title, description, width, height, grid, marks, drawn, axis)


def _line(name: str, color: str, points: Sequence[Point], label_y: float) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return join(
        tag("polyline", points=path, fill="none", stroke=f"var(--{color})", stroke_width=2, stroke_linejoin="round"),
        tag("circle", cx=x, cy=y, r=3, fill=f"var(--{color})"),
        tag("text", name, x=x + 8, y=label_y + 4, style=f"fill:var(--{color})", class_="series"),
    )


def _whole_ticks(first: float, last: float) -> list[float]:
    return [t for t in nice_ticks(first, last, 6) if first <= t <= last and t == int(t)] or [first]


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Moves labels apart so that none covers another: their order stays."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    result = list(places)
    for before, after in itertools.pairwise(order):
        result[after] = max(result[after], result[before] + gap)
    return result


def histogram(
    title: str, description: str, values: Sequence[float], marks: Sequence[tuple[str, float]], *, x_label: str
) -> Markup:
    """Counts of `values`; `marks` are named vertical lines (p50, p95)."""
    width, height, left, right, top, bottom = 460.0, 230.0, 34.0, 14.0, 36.0, 34.0
    ticks = nice_ticks(0.0, max(values), 5)
    bins = 5 * (len(ticks) - 1)
    counts = [0] * bins
    for value in values:
        counts[min(int(value / ticks[-1] * bins), bins - 1)] += 1
    tallest = max(counts)

    def x_at(value: float) -> float:
        return left + value / ticks[-1] * (width - left - right)

    step = (width - left - right) / bins
    bars = [
        tag(
            "rect",
            tag("title", f"{i * ticks[-1] / bins:g} to {(i + 1) * ticks[-1] / bins:g}: {count}"),
            x=left + i * step + 0.75,
            y=top + (1 - count / tallest) * (height - top - bottom),
            width=step - 1.5,
            height=count / tallest * (height - top - bottom),
            class_="bar",
        )
        for i, count in enumerate(counts)
        if count
    ]
    base = tag("line", x1=left, x2=width - right, y1=height - bottom, y2=height - bottom, class_="grid")
    numbers = [tag("text", f"{t:g}", x=x_at(t), y=height - 18, text_anchor="middle") for t in ticks]
    named = []
    for i, (name, value) in enumerate(marks):
        x, y = x_at(value), 12.0 + 14 * i
        # On the far side of the line where the label would run out of the chart.
        flip = x > width * 0.7
        named.append(tag("line", x1=x, x2=x, y1=y - 8, y2=height - bottom, class_="mark"))
        named.append(
            tag("text", name, x=x - 5 if flip else x + 5, y=y, text_anchor="end" if flip else "start", class_="series")
        )
    axis = tag("text", x_label, x=(left + width - right) / 2, y=height - 2, text_anchor="middle", class_="axis")
    return chart(title, description, width, height, base, bars, numbers, named, axis)


def confusion(title: str, description: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """A confusion matrix: true classes in rows, predicted ones in columns; each cell's share of its row by colour."""
    cell, left, top = (34.0 if len(labels) <= 16 else 20.0), 8 + 6.6 * max(map(len, labels)), 12.0
    bottom = 14 + 4.3 * max(map(len, labels))
    width, height = left + cell * len(labels) + bottom * 0.4, top + cell * len(labels) + bottom
    parts: list[Markup] = []
    for i, row in enumerate(counts):
        y = top + i * cell
        parts.append(tag("text", labels[i], x=left - 6, y=y + cell / 2 + 4, text_anchor="end"))
        for j, count in enumerate(row):
            share = count / sum(row) if sum(row) else 0.0
            parts.append(_cell(labels[i], labels[j], count, share, left + j * cell, y, cell, right=i == j))
    for j, label in enumerate(labels):
        x, y = left + (j + 0.5) * cell, top + cell * len(labels) + 12
        parts.append(tag("text", label, x=x - 4, y=y, transform=f"rotate(40 {x - 4:.1f} {y:.1f})"))
    return chart(title, description, width, height, parts, class_="confusion")


def _cell(
    truth: str, predicted: str, count: int, share: float, x: float, y: float, side: float, *, right: bool
) -> Markup:
    color = "var(--good)" if right else "var(--bad)"
    inner = tag("text", count, x=x + side / 2, y=y + side / 2 + 4, text_anchor="middle", class_=_ink(share))
    return tag(
        "g",
        tag("title", f"{truth}, predicted {predicted}: {count}"),
        tag("rect", x=x + 1, y=y + 1, width=side - 2, height=side - 2, rx=3, class_="empty"),
        tag("rect", x=x + 1, y=y + 1, width=side - 2, height=side - 2, rx=3, fill=color, fill_opacity=round(share, 3)),
        inner if count and side > 24 else None,
    )


def _ink(share: float) -> str:
    return "on" if share > 0.5 else "off"


def timeline(card: VideoCard, *, rows: int = 4) -> Markup:
    """Per-clip predictions over a video's time as rows of cells, the true interval, and the salience below.

    One row for each of the classes that matter most in this video, the true one first.
    """
    width, left, cell, gap = 960.0, 150.0, 17.0, 3.0
    shown = _classes_shown(card, rows)
    salience_top = len(shown) * (cell + gap) + 6
    salience_height = 34.0 if card.salience else 0.0
    height = salience_top + salience_height + 20

    def x_at(seconds: float) -> float:
        return left + min(max(seconds / card.duration, 0.0), 1.0) * (width - left - 2) if card.duration > 0 else left

    cells = cell_bounds([(s.start, s.end) for s in card.segments], card.duration)
    parts: list[Markup] = []
    if card.interval is not None:
        start, end = (x_at(s) for s in card.interval)
        words = f"the action is from {card.interval[0]:.1f} to {card.interval[1]:.1f} s"
        band = tag("title", words)
        parts.append(
            tag("rect", band, x=start, y=0, width=end - start, height=salience_top + salience_height, class_="truth")
        )
    for row, index in enumerate(shown):
        y = row * (cell + gap) + 2
        name = card.labels[index]
        parts.append(
            tag(
                "text",
                short(name),
                x=left - 8,
                y=y + 13,
                text_anchor="end",
                class_="true" if name == card.truth else "",
            )
        )
        parts.extend(
            tag(
                "rect",
                tag("title", f"{name} {s.scores[index]:.0%} from {s.start:.1f} to {s.end:.1f} s"),
                x=x_at(start) + 0.75,
                y=y,
                width=max(x_at(end) - x_at(start) - 1.5, 1.0),
                height=cell,
                rx=2,
                fill="var(--good)" if name == card.truth else "var(--accent)",
                fill_opacity=round(0.06 + 0.94 * s.scores[index], 3),
            )
            for s, (start, end) in zip(card.segments, cells, strict=True)
        )
    if card.salience:
        parts.append(_salience(card, x_at, salience_top, salience_height))
        parts.append(tag("text", "salience", x=left - 8, y=salience_top + 22, text_anchor="end"))
    parts.extend(
        tag("text", f"{t:g} s", x=x_at(t), y=height - 4, text_anchor="start" if t == 0 else "middle")
        for t in nice_ticks(0.0, card.duration, 8)
        if t <= card.duration * 0.985
    )
    return chart(f"Predictions over time: {card.name}", _in_words(card), width, height, parts, class_="timeline")


def _classes_shown(card: VideoCard, rows: int) -> list[int]:
    """The true class, then those with the highest score in any clip."""
    peak = [max((s.scores[i] for s in card.segments), default=0.0) for i in range(len(card.labels))]
    order = sorted(range(len(card.labels)), key=lambda i: -peak[i])
    truth = [card.labels.index(card.truth)] if card.truth in card.labels else []
    return (truth + [i for i in order if i not in truth])[:rows]


def _salience(card: VideoCard, x_at: Callable[[float], float], top: float, height: float) -> Markup:
    highest = max(score for _, _, score in card.salience) or 1.0
    lowest = min(0.0, min(score for _, _, score in card.salience))
    floor = top + height
    bounds = cell_bounds([(start, end) for start, end, _ in card.salience], card.duration)
    path = [f"M{x_at(0):.1f},{floor:.1f}"]
    for (start, end), (_, _, score) in zip(bounds, card.salience, strict=True):
        y = floor - (score - lowest) / max(highest - lowest, 1e-9) * height
        path.append(f"L{x_at(start):.1f},{y:.1f} L{x_at(end):.1f},{y:.1f}")
    path.append(f"L{x_at(card.duration):.1f},{floor:.1f} Z")
    return tag("path", d=" ".join(path), class_="salience")


def _in_words(card: VideoCard) -> str:
    truth = f"true class {card.truth}, " if card.truth is not None else ""
    top = ", ".join(f"{label} {score:.0%}" for label, score in card.top[:3])
    return (
        f"{truth}predicted for the {'marked part' if card.part else 'whole video'}: {top}; {len(card.segments)} clips"
    )
