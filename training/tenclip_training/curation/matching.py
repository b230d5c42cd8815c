"""Two videos compared frame by frame: how much of the source is in the target, and where.

The share of the source is IG-65M's measure (A.2): source frames that match any target frame, over the source's frames.
Flat frames are in neither. A picture that stands still matches every frame of the same picture, so that a moment of it
would do for a long share; therefore frames are also matched in order, one to one: the longest sequence in which both
videos go forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_training.curation.frame_codes import FRAMES_PER_SECOND, VideoCodes

DEFAULT_RADIUS = 6
# Fewer frames in order than these are chance, unless they are all that a video has.
MIN_FRAMES = 4
# Matched frames further apart than this, in either video, belong to two stretches.
_MAX_GAP_SECONDS = 0.5
# Videos with more pairs of frames than this are compared at every second, third, ... frame.
_MAX_CELLS = 16_000_000
# What a match is worth in a chain: more than the bits in which all frames of a chain can differ.
_A_MATCH = 1 << 15


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Where frames match without a gap, in seconds, in both videos."""

    source_from: float
    source_to: float
    target_from: float
    target_to: float

    @property
    def seconds(self) -> float:
        return self.source_to - self.source_from


@dataclass(frozen=True, kw_only=True)
class Match:
    """How two videos match.

    source_share, target_share: of the frames that are not flat, those that match any frame of the other video.
    seconds: matched in order, one to one. stretches: the longest one first. frames: (source seconds, target seconds,
    differing bits) of matched frames in order.
    """

    source_share: float
    target_share: float
    seconds: float
    stretches: tuple[Stretch, ...]
    frames: tuple[tuple[float, float, int], ...]


def match_pair(source: VideoCodes, target: VideoCodes, *, radius: int = DEFAULT_RADIUS) -> Match | None:
    """Compare all frames of two videos. None where fewer than MIN_FRAMES match in order, and not all of either.

    >>> source = VideoCodes(codes=np.array([0x0F, 0xF0, 0xFF, 0x00], np.uint64), flat=np.zeros(4, bool))
    >>> target = VideoCodes(codes=np.array([0x0F, 0xF1], np.uint64), flat=np.zeros(2, bool))
    >>> match = match_pair(source, target, radius=1)
    >>> match.source_share, match.target_share
    (0.5, 1.0)
    """
    rows, columns = np.flatnonzero(~source.flat), np.flatnonzero(~target.flat)
    step = int(np.ceil(np.sqrt(max(len(rows) * len(columns) / _MAX_CELLS, 1))))
    rows, columns = rows[::step], columns[::step]
    if not len(rows) or not len(columns):
        return None
    distances = np.bitwise_count(source.codes[rows][:, None] ^ target.codes[columns][None, :])  # [N,M]
    matches = distances <= radius
    if not _can_match(matches):
        return None
    chain = longest_chain(matches, distances)
    if len(chain) < min(MIN_FRAMES, *matches.shape):
        return None
    frames = tuple(
        (
            source.start_seconds + float(rows[i]) / FRAMES_PER_SECOND,
            target.start_seconds + float(columns[j]) / FRAMES_PER_SECOND,
            int(distances[i, j]),
        )
        for i, j in chain
    )
    return Match(
        source_share=float(matches.any(axis=1).mean()),
        target_share=float(matches.any(axis=0).mean()),
        seconds=len(chain) * step / FRAMES_PER_SECOND,
        stretches=_stretches(frames, step / FRAMES_PER_SECOND),
        frames=frames,
    )


def longest_chain(
    matches: NDArray[np.bool_], distances: NDArray[np.unsignedinteger[Any]] | None = None
) -> list[tuple[int, int]]:
    """The longest sequence of matching (row, column) in which both go up: the longest common subsequence. Of several
    that are equally long, one whose distances add up to the least: slow scenes match at many offsets.

    >>> longest_chain(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], bool))
    [(1, 0), (2, 2)]
    """
    rows, columns = matches.shape
    # One more match outweighs all distances of a chain.
    gains = np.where(matches, _A_MATCH - (0 if distances is None else distances.astype(np.int32)), 0).astype(np.int32)
    best = np.zeros((rows + 1, columns + 1), np.int32)
    for i in range(rows):
        extended = np.maximum(best[i, 1:], best[i, :-1] + gains[i])
        np.maximum.accumulate(extended, out=best[i + 1, 1:])
    chain = []
    i, j = rows, columns
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            chain.append((i, j))
    return chain[::-1]


def _can_match(matches: NDArray[np.bool_]) -> bool:
    """Whether enough rows and columns have a match at all; most pairs that hashing finds do not."""
    needed = min(MIN_FRAMES, *matches.shape)
    return all(int(matches.any(axis=axis).sum()) >= needed for axis in (0, 1))


def _stretches(frames: tuple[tuple[float, float, int], ...], step_seconds: float) -> tuple[Stretch, ...]:
    runs: list[list[tuple[float, float, int]]] = [[frames[0]]]
    limit = max(_MAX_GAP_SECONDS, 2 * step_seconds)
    for frame in frames[1:]:
        last = runs[-1][-1]
        if max(frame[0] - last[0], frame[1] - last[1]) > limit:
            runs.append([])
        runs[-1].append(frame)
    found = [
        Stretch(
            source_from=run[0][0],
            source_to=run[-1][0] + step_seconds,
            target_from=run[0][1],
            target_to=run[-1][1] + step_seconds,
        )
        for run in runs
    ]
    return tuple(sorted(found, key=lambda s: -s.seconds))
