"""Untrimmed videos: which frames and pieces of them show a class (OmniSource, section 3.5). Arithmetic.

For networks of segments (TSN) frames at a low rate are scored by a 2D teacher; a training sample is then 1 positive
frame and 2 negative ones, which the paper finds better than positive ones alone. For 3D networks the video is cut into
pieces of 10 seconds, of which those stay that a teacher is sure of. The paper gives no threshold; 0.5 here.

F frames or pieces, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

# snippets: frames for a network of segments; clips: pieces for a network of clips.
Form = Literal["snippets", "clips"]
# whole: all of a video; rest: without its annotated part [start, end), as K400-untr is what Kinetics leaves; part: only
# that.
Use = Literal["whole", "rest", "part"]
# own: the score of the video's own label; max: of the class that the teacher is surest of.
ScoreOf = Literal["own", "max"]

THRESHOLD = 0.5
POSITIVES, NEGATIVES = 1, 2
PIECE_SECONDS = 10.0
Span = tuple[float, float]


class FrameVerdict(NamedTuple):
    """label: the class. confidence: the highest score of it. positive, negative: int64, places of the frames."""

    label: int
    confidence: float
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]


def judge_frames(scores: NDArray[np.float32], own: Sequence[int], *, of: ScoreOf, threshold: float) -> FrameVerdict:
    """Frames with scores [F,K] of one video; positive ones score at least `threshold`.

    own: the video's labels; of several the one counts that any frame shows best. With "max" it is the class whose
    confident frames score most in sum: the class of the video is not known then, and frames of others are negative.

    >>> scores = np.float32([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.8, 0.2], [0.05, 0.95]])
    >>> found = judge_frames(scores, [0], of="own", threshold=0.5)
    >>> found.positive.tolist(), found.negative.tolist()
    ([0, 3], [1, 2, 4])
    """
    if of == "own":
        label = max(own, key=lambda c: float(scores[:, c].max()))
    else:
        confident = np.where(scores >= np.float32(threshold), scores, 0).sum(0)
        label = int((confident if confident.any() else scores.sum(0)).argmax())
    of_label = scores[:, label]
    is_positive = of_label >= np.float32(threshold)
    return FrameVerdict(
        label=label,
        confidence=float(of_label.max()),
        positive=np.flatnonzero(is_positive),
        negative=np.flatnonzero(~is_positive),
    )


def judge_piece(scores: NDArray[np.float32], own: Sequence[int], *, of: ScoreOf) -> tuple[int, float]:
    """(label, confidence) of a piece with scores [K]."""
    label = max(own, key=lambda c: float(scores[c])) if of == "own" else int(scores.argmax())
    return label, float(scores[label])


def cut(spans: Sequence[Span], seconds: float) -> list[Span]:
    """Pieces of `seconds` from the beginning of each span on; the last of each is what is left.

    >>> cut([(0.0, 37.0)], 10.0)
    [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 37.0)]
    """
    pieces = []
    for start, end in spans:
        count = max(1, int(np.ceil((end - start) / seconds - 1e-9)))
        pieces += [(start + i * seconds, min(start + (i + 1) * seconds, end)) for i in range(count)]
    return [piece for piece in pieces if piece[1] > piece[0]]


def spans_of(duration: float, start: float | None, end: float | None, use: Use) -> list[Span]:
    """The parts of a video that are used; [] where nothing is left. start, end: of its annotated part, if any.

    >>> spans_of(30.0, 5.0, 15.0, "rest")
    [(0.0, 5.0), (15.0, 30.0)]
    """
    if use == "whole" or (start is None and end is None):
        return [(0.0, duration)] if duration > 0 else []
    low, high = max(start or 0.0, 0.0), duration if end is None else min(end, duration)
    if use == "part":
        return [(low, high)] if high > low else []
    if high <= low:  # the annotated part lies behind the end
        return [(0.0, duration)]
    return [(a, b) for a, b in ((0.0, low), (high, duration)) if b > a]


def inside(seconds: NDArray[np.float64], spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Which times lie in any of the spans."""
    found = np.zeros(len(seconds), np.bool_)
    for start, end in spans:
        found |= (seconds >= start - 1e-6) & (seconds < end - 1e-6)
    return found
