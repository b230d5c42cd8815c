from __future__ import annotations

import asyncio
import contextlib

import pytest

from tenclip_serving.models.statistics import Statistics

KEY = ("tiny", "1")


def test_successes_are_counted_with_their_stages() -> None:
    statistics = Statistics()
    for clips in (10, 3):
        with statistics.counted(KEY) as outcome:
            outcome.num_clips, outcome.timings = clips, {"decode": 0.5, "infer": 0.25}
    counted = statistics.of(*KEY)
    assert (counted.success.count, counted.failure.count, counted.num_clips) == (2, 0, 13)
    assert {stage: (d.count, d.seconds) for stage, d in counted.stages.items()} == {
        "decode": (2, 1.0),
        "infer": (2, 0.5),
    }
    assert counted.success.seconds > 0
    assert counted.last_unix_seconds > 1e9
    assert statistics.of("tiny", "2").success.count == 0


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError()], ids=repr)
def test_what_raises_is_a_failure_and_nothing_else(error: BaseException) -> None:
    statistics = Statistics()
    with contextlib.suppress(type(error)), statistics.counted(KEY) as outcome:
        outcome.num_clips = 10
        raise error
    counted = statistics.of(*KEY)
    assert (counted.success.count, counted.failure.count, counted.num_clips) == (0, 1, 0)
    assert counted.last_unix_seconds == 0
