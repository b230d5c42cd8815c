"""Segment sampling: a training clip is a frame of each of K equal parts of the video (TSN, Wang et al. 2016).

A network of frames averages over the frames of its clip before the classifier, which is the consensus of TSN. Of an
untrimmed video whose frames were judged (`tenclip omni untrimmed`), the frames are 1 positive and K - 1 negative ones
instead (OmniSource, section 3.5). Arithmetic; randomness comes from an explicit rng.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

POSITIVE_COLUMN, NEGATIVE_COLUMN = "positive_seconds", "negative_seconds"
SNIPPET_COLUMNS = (POSITIVE_COLUMN, NEGATIVE_COLUMN)


def segment_frames(num_frames: int, segments: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 [K]: a frame of each of K equal parts, as likely each of the part's; part k is [kN/K, (k+1)N/K), rounded
    down. Of a video of fewer frames than parts, the frame that the part begins with. MMAction2's parts are all as long
    as the shortest, so it never draws the last N mod K frames.

    >>> segment_frames(9, 3, np.random.default_rng(0)).tolist()
    [2, 4, 7]
    """
    bounds = np.arange(segments + 1, dtype=np.int64) * num_frames // segments
    lengths = np.maximum(np.diff(bounds), 1)
    return bounds[:-1] + rng.integers(0, lengths)


class Snippets(NamedTuple):
    """When the judged frames of a video are shown, in seconds: float64 [P] and [N]."""

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]

    @property
    def times(self) -> NDArray[np.float64]:
        """All of them: float64 [P + N]."""
        return np.concatenate([self.positive, self.negative])

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """1 positive and count - 1 negative times, ascending; where negative ones are fewer, positive ones fill their
        places, and all repeat where there are too few of both.
        """
        first = rng.permutation(len(self.positive))
        others = [*self.negative[rng.permutation(len(self.negative))][: count - 1], *self.positive[first[1:]]]
        chosen = [self.positive[first[0]], *others][:count]
        return np.sort(np.resize(np.array(chosen, np.float64), count))


def snippets_of(extra: Mapping[str, Any]) -> Snippets | None:
    """The judged frames in the columns of a row; None for a row without. Raises ValueError for what are no times."""
    cells = [extra.get(POSITIVE_COLUMN), extra.get(NEGATIVE_COLUMN)]
    if not _times(cells[0]):
        return None
    positive, negative = (np.array(_times(cell), np.float64) for cell in cells)
    return Snippets(positive, negative)


def _times(cell: Any) -> Sequence[float]:
    """A list of numbers, or text with ';' between them."""
    if cell is None:
        return []
    values = [part for part in cell.split(";") if part.strip()] if isinstance(cell, str) else cell
    values = values if isinstance(values, list | tuple) else [values]
    try:
        times = [float(value) for value in values]
    except (TypeError, ValueError):
        raise ValueError(f"{cell!r} are no times in seconds; write them as 0.5;3;7.25") from None
    if any(not time >= 0 or time == float("inf") for time in times):
        raise ValueError(f"{cell!r} are no times in seconds: each is 0 or more")
    return times
