"""What the gates of an epoch let through: how many clips each teacher dropped, and the entropies that were seen.

B clips of a batch. Entropies are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_training.distill.targets import is_kept
from tenclip_training.runs.distributed import World


@dataclass
class GateCounts:
    """Of one teacher, in one process or over all. lowest, highest: of the entropies, not finite of none."""

    clips: int = 0
    dropped: int = 0
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, found: NDArray[np.float64], threshold: float | None) -> None:
        """Count the entropies [B] of a batch."""
        if not len(found):
            return
        self.clips += len(found)
        self.dropped += int((~is_kept(found, threshold)).sum())
        self.lowest, self.highest = min(self.lowest, float(found.min())), max(self.highest, float(found.max()))

    @property
    def share(self) -> float:
        """The share of the clips that were dropped; 0 of none."""
        return self.dropped / self.clips if self.clips else 0.0


def over_all(counts: Sequence[GateCounts], world: World) -> list[GateCounts]:
    """The counts of each teacher over all processes."""
    parts = world.gather([list(counts)])
    return [
        GateCounts(
            clips=sum(c.clips for c in column),
            dropped=sum(c.dropped for c in column),
            lowest=min(c.lowest for c in column),
            highest=max(c.highest for c in column),
        )
        for column in zip(*parts, strict=True)
    ]


def refuse_nothing_learned(
    names: Sequence[str], counts: Sequence[GateCounts], thresholds: Sequence[float | None], *, by_percent: bool
) -> None:
    """Raise DatasetError where every teacher dropped every clip of an epoch, for then the student has learned nothing.

    by_percent: the thresholds follow from --keep-percent.
    """
    if not counts or any(not c.clips or c.dropped < c.clips for c in counts):
        return
    said = "; ".join(
        f"teacher {name} keeps entropies below {limit:.4g} nats, and those of the {c.clips} clips were "
        f"{c.lowest:.4g} to {c.highest:.4g}"
        for name, c, limit in zip(names, counts, thresholds, strict=True)
    )
    if by_percent:
        remedy = "a larger --keep-percent, or none where all entropies are the same, or --max-entropy"
    else:
        remedy = "a --max-entropy above the lowest of these, or --keep-percent 50, which sets it from the outputs"
    raise DatasetError(
        f"every clip of an epoch was dropped, so the student has learned nothing: {said}. Begin a new run with {remedy}"
    )
