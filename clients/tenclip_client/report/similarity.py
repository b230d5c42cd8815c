"""Features on a page: how alike the clips of a video are, as a matrix of cosines, and the nearest clip of each."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from tenclip_client._types import ClipFeatures, Features
from tenclip_client.report.html import Markup, join, tag
from tenclip_client.report.scores import MAX_CLIPS, cut_off, time_cell
from tenclip_client.report.svg import chart
from tenclip_client.report.words import counted, interval

# Clips of the matrix: all pairs are compared, in plain Python. Of more, as many are spread over the video.
MAX_COMPARED = 48
# Cells of at most this many clips hold their number.
_MAX_NUMBERED = 12


def cosine_matrix(clips: Sequence[ClipFeatures]) -> list[list[float]]:
    """[K,K] of the angles between features of K clips: 1 for the same direction. A vector of zeros is like nothing: 0.

    Values that are no numbers make cosines of 0, too.
    """
    units = [_unit(c.values) for c in clips]
    result = [[0.0] * len(units) for _ in units]
    for i, a in enumerate(units):
        for j in range(i, len(units)):
            cosine = sum(map(operator.mul, a, units[j]))
            result[i][j] = result[j][i] = min(max(cosine, -1.0), 1.0)
    return result


def _unit(values: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in values))
    return [v / length for v in values] if 0 < length < math.inf else [0.0] * len(values)


def features_part(features: Features) -> Markup:
    """The matrix, and for each clip the other one that is most alike."""
    clips = features.clips
    if len(clips) > MAX_COMPARED:
        step = (len(clips) - 1) / (MAX_COMPARED - 1)
        clips = tuple(clips[round(i * step)] for i in range(MAX_COMPARED))
    matrix = cosine_matrix(clips)
    spread = (
        f" {len(clips)} of its {len(features.clips):,} clips, spread over it, are compared."
        if (len(clips) < len(features.clips))
        else ""
    )
    words = f"{counted(len(features.clips), 'vector')} of {features.dim:,} numbers.{spread} {_in_words(matrix)}"
    drawing = _drawing(clips, matrix, words)
    caption = f"Cosine similarity of the clips' features. {words}"
    return tag(
        "div",
        tag("figure", drawing, tag("figcaption", caption)) if drawing is not None else tag("p", caption, class_="note"),
        _nearest_table(clips, matrix, len(features.clips)),
        class_="two",
    )


def _in_words(matrix: list[list[float]]) -> str:
    others = [matrix[i][j] for i in range(len(matrix)) for j in range(i)]
    if not others:
        return "A single clip has none to be compared with."
    return f"Two of its clips are between {min(others):.2f} and {max(others):.2f} alike; the fuller a cell, the more."


def _drawing(clips: Sequence[ClipFeatures], matrix: list[list[float]], words: str) -> Markup | None:
    if len(clips) < 2:
        return None
    side, left = 400.0 / len(clips), 26.0
    low = min(value for row in matrix for value in row)
    cells = []
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            share = (value - low) / (1 - low) if low < 1 else 1.0
            cells.append(_cell(clips[i], clips[j], value, share, (left + j * side, i * side), side, len(clips)))
    every = math.ceil(len(clips) / 16)
    marks = [
        join(
            tag("text", clip.clip.index, x=left - 5, y=round((i + 0.5) * side + 4, 1), text_anchor="end"),
            tag("text", clip.clip.index, x=round(left + (i + 0.5) * side, 1), y=416, text_anchor="middle"),
        )
        for i, clip in enumerate(clips)
        if i % every == 0
    ]
    return chart("Cosine similarity of clips", words, left + 402, 422, cells, marks, class_="matrix")


def _cell(
    a: ClipFeatures, b: ClipFeatures, value: float, share: float, corner: tuple[float, float], side: float, count: int
) -> Markup:
    x, y = corner
    gap = min(1.0, side / 8)
    rect = tag(
        "rect",
        tag("title", f"clips {a.clip.index} and {b.clip.index}: {value:.3f}"),
        x=round(x + gap, 2),
        y=round(y + gap, 2),
        width=round(side - 2 * gap, 2),
        height=round(side - 2 * gap, 2),
        class_="cosine",
        fill_opacity=round(0.05 + 0.95 * share, 3),
    )
    if count > _MAX_NUMBERED:
        return rect
    text = f"{value:.2f}".replace("0.", ".", 1) if value < 0.995 else "1"
    ink = "on" if share > 0.55 else "off"
    middle = round(x + side / 2, 1), round(y + side / 2 + 4, 1)
    return join(rect, tag("text", text, x=middle[0], y=middle[1], text_anchor="middle", class_=ink))


def _nearest_table(clips: Sequence[ClipFeatures], matrix: list[list[float]], num_clips: int) -> Markup:
    def row(i: int) -> Markup:
        others = [j for j in range(len(clips)) if j != i]
        nearest = max(others, key=lambda j: matrix[i][j], default=None)
        clip = clips[i].clip
        if nearest is None:
            return tag("tr", tag("th", clip.index, scope="row"), time_cell(clip), tag("td", "-"), tag("td", "-"))
        other = clips[nearest].clip
        return tag(
            "tr",
            tag("th", clip.index, scope="row"),
            time_cell(clip),
            tag("td", f"{other.index}, {interval(other.start_seconds, other.end_seconds)}"),
            tag("td", f"{matrix[i][nearest]:.3f}", class_="number"),
        )

    heads = (("clip", None), ("time", "number"), ("most alike", None), ("cosine", "number"))
    table = tag(
        "table",
        cut_off(num_clips) if num_clips > MAX_CLIPS else None,
        tag("thead", tag("tr", *(tag("th", head, scope="col", class_=kind) for head, kind in heads))),
        tag("tbody", *map(row, range(len(clips)))),
    )
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="The most similar clip of each")
