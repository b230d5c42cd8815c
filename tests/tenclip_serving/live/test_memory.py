"""The short form of the proof that a live stream's memory is flat, and of its control."""

from __future__ import annotations

import asyncio

from tests.soak.live_memory import watch


def test_memory_is_flat_over_a_stream_whose_clock_wraps_around() -> None:
    run = asyncio.run(watch(800))
    assert run.skipped == 0
    assert run.windows >= 198
    assert 780 < run.last_seconds < 800
    assert run.reader < 12e6
    assert run.host < 12e6


def test_a_watcher_that_keeps_its_windows_fails_the_check() -> None:
    assert asyncio.run(watch(1400, keeping=True)).host > 14e6
