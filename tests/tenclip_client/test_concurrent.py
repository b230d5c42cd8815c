"""Bounded concurrency: how many at once, in which order, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_client import EmptyVideo, InvalidRequest, Overloaded, ServerUnavailable, TenclipError
from tenclip_client._concurrent import in_order, retry_blocking, retry_with_backoff, run_bounded


class Worker:
    """Doubles numbers after `delays[number]` turns of the loop; negative ones are bad videos, 99 is a dead server."""

    def __init__(self, delays: list[int] | None = None) -> None:
        self.delays = delays or []
        self.running = self.most = 0
        self.cancelled = 0

    async def __call__(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(self.delays[number] if 0 <= number < len(self.delays) else 0):
                await asyncio.sleep(0)
            if number == 99:
                raise ServerUnavailable("gone")
            if number < 0:
                raise EmptyVideo(f"{number}")
            return 2 * number
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


@settings(deadline=None)
@given(delays=st.lists(st.integers(0, 20), max_size=30), concurrency=st.integers(1, 8))
def test_every_item_once_and_never_more_than_allowed(delays: list[int], concurrency: int) -> None:
    async def collect() -> tuple[list[int | TenclipError], list[int | TenclipError]]:
        finished = {n: r async for n, r in run_bounded(range(len(delays)), unordered, concurrency=concurrency)}
        ordered = [r async for _, r in in_order(range(len(delays)), ordering, concurrency=concurrency)]
        return [finished[n] for n in sorted(finished)], ordered

    unordered, ordering = Worker(delays), Worker(delays)
    expected = [2 * n for n in range(len(delays))]
    assert asyncio.run(collect()) == (expected, expected)
    assert max(unordered.most, ordering.most) <= concurrency


def test_items_are_drawn_as_places_free_up() -> None:
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield 1

    async def take_three() -> None:
        taken = 0
        async for _ in run_bounded(endless(), Worker(), concurrency=2):
            taken += 1
            if taken == 3:
                break

    asyncio.run(take_three())
    assert drawn <= 5


def test_bad_videos_are_answers() -> None:
    async def collect() -> list[tuple[int, int | str]]:
        outcomes = in_order([1, -1, 2], Worker(), concurrency=3)
        return [(item, str(r) if isinstance(r, TenclipError) else r) async for item, r in outcomes]

    assert asyncio.run(collect()) == [(1, 2), (-1, "-1"), (2, 4)]


def test_a_dead_server_ends_it_after_what_is_done() -> None:
    worker = Worker([0, 1000, 1000])
    got: list[int | TenclipError] = []

    async def collect() -> None:
        async for _, result in run_bounded([0, 99, 1, 2], worker, concurrency=3):
            got.append(result)

    with pytest.raises(ServerUnavailable):
        asyncio.run(collect())
    assert got == [0]
    assert worker.cancelled >= 1
    assert worker.running == 0


def test_concurrency_below_one() -> None:
    async def run() -> None:
        async for _ in run_bounded([1], Worker(), concurrency=0):
            pass

    with pytest.raises(InvalidRequest, match="concurrency"):
        asyncio.run(run())


class Busy:
    """Raises `errors` one after the other, then answers."""

    def __init__(self, *errors: TenclipError) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def overloaded(seconds: float | None) -> Overloaded:
    error = Overloaded("busy")
    error.retry_after_seconds = seconds
    return error


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were slept, without sleeping them: the loop's clock is put forward instead."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    class Loop:
        def time(self) -> float:
            return sum(slept)

    clock = SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept))
    monkeypatch.setattr("tenclip_client._concurrent.time", clock)
    monkeypatch.setattr("tenclip_client._concurrent.asyncio.sleep", sleep)
    monkeypatch.setattr("tenclip_client._concurrent.asyncio.get_running_loop", Loop)
    return slept


def test_pauses_double_or_are_what_the_server_asks_for(pauses: list[float]) -> None:
    busy = Busy(*(overloaded(s) for s in (None, None, 3, None, None, None, None, None, None)))
    assert asyncio.run(retry_with_backoff(busy, max_wait_seconds=1000)) == "done"
    assert pauses == [0.5, 1, 3, 4, 8, 16, 30, 30, 30]


def test_the_wait_has_an_end(pauses: list[float]) -> None:
    busy = Busy(*(overloaded(4) for _ in range(10)))
    with pytest.raises(Overloaded):
        asyncio.run(retry_with_backoff(busy, max_wait_seconds=10))
    assert pauses == [4, 4]


def test_calls_that_block_wait_alike(pauses: list[float]) -> None:
    """The errors come from functions here; `Busy` is awaited."""

    def calls(*seconds: float | None) -> Callable[[], str]:
        errors: list[TenclipError] = [overloaded(s) for s in seconds]

        def call() -> str:
            if errors:
                raise errors.pop(0)
            return "done"

        return call

    assert retry_blocking(calls(None, None, 3, None), max_wait_seconds=1000) == "done"
    assert pauses == [0.5, 1, 3, 4]
    pauses.clear()
    with pytest.raises(Overloaded):
        retry_blocking(calls(*[4.0] * 10), max_wait_seconds=10)
    assert pauses == [4, 4]


def test_only_what_passes_is_waited_for(pauses: list[float]) -> None:
    told: list[float] = []
    with pytest.raises(ServerUnavailable):
        asyncio.run(retry_with_backoff(Busy(ServerUnavailable("gone")), max_wait_seconds=10))
    both = (Overloaded, ServerUnavailable)
    busy = Busy(ServerUnavailable("restarting"))
    asyncio.run(
        retry_with_backoff(busy, max_wait_seconds=10, waits_for=both, on_pause=lambda _, seconds: told.append(seconds))
    )
    assert pauses == told == [0.5]
    with pytest.raises(EmptyVideo):
        asyncio.run(retry_with_backoff(Busy(EmptyVideo("x")), max_wait_seconds=10, waits_for=both))
