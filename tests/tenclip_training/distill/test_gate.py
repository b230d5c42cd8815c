"""Counts of what is dropped, and the error where it is everything."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tenclip_api.errors import DatasetError
from tenclip_training.distill.gate import GateCounts, over_all, refuse_nothing_learned
from tenclip_training.runs.distributed import World


def counts(entropies: list[float], threshold: float | None) -> GateCounts:
    found = GateCounts()
    for value in entropies:
        found.add(np.array([value]), threshold)
    return found


def test_what_is_counted() -> None:
    found = counts([1.0, 2.0, 3.0, 0.5], 2.0)
    found.add(np.array([]), 2.0)
    assert found == GateCounts(clips=4, dropped=2, lowest=0.5, highest=3.0)
    assert found.share == 0.5
    assert counts([1.0], None).dropped == 0
    assert GateCounts().share == 0
    assert GateCounts(**dataclasses.asdict(GateCounts())) == GateCounts(0, 0, math.inf, -math.inf)


def test_counts_of_all_processes() -> None:
    class Two(World):
        def gather(self, values):  # type: ignore[no-untyped-def]
            return [*values, [counts([4.0], 2.0), GateCounts()]]

    first, second = over_all([counts([1.0, 3.0], 2.0), counts([1.0], None)], Two())
    assert first == GateCounts(clips=3, dropped=2, lowest=1.0, highest=4.0)
    assert second == GateCounts(clips=1, dropped=0, lowest=1.0, highest=1.0)


@pytest.mark.parametrize(
    ("by_percent", "remedy"), [(False, "a --max-entropy above"), (True, "a larger --keep-percent")]
)
def test_an_epoch_of_which_nothing_is_left(by_percent: bool, remedy: str) -> None:
    with pytest.raises(DatasetError, match=r"below 0\.001 nats, and those of the 2 clips were 0\.25 to 0\.75") as info:
        refuse_nothing_learned(["objects"], [counts([0.25, 0.75], 0.001)], [0.001], by_percent=by_percent)
    assert remedy in str(info.value)


def test_one_clip_or_one_teacher_is_enough() -> None:
    dropped = counts([1.0, 2.0], 0.5)
    for other in (counts([0.1, 2.0], 0.5), counts([3.0], None)):
        refuse_nothing_learned(["a", "b"], [dropped, other], [0.5, 0.5], by_percent=False)
    refuse_nothing_learned(["a"], [GateCounts()], [0.5], by_percent=False)
