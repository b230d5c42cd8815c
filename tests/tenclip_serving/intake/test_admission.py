from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DeadlineExceeded, Overloaded, TenclipError, VideoTooLarge
from tenclip_serving.intake.admission import KINDS, MAX_PASSED, Admission, Kind, Ticket

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def admission(**changes: Any) -> Admission:
    """100 MiB, 40 of them for what is encoded; two requests work and two wait."""
    settings = {"max_bytes": 100 * MIB, "max_queue_bytes": 40 * MIB, "max_queue": 2, "max_active": 2, **changes}
    return Admission(**settings)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


class Request:
    """A task that holds a ticket until it is told to end."""

    def __init__(
        self, admission: Admission, *, encoded: int = 0, decoded: int = 0, seconds_left: float | None = None
    ) -> None:
        self.began = asyncio.Event()
        self.end = asyncio.Event()
        self.task = asyncio.create_task(self._run(admission, encoded, decoded, seconds_left))

    async def _run(self, admission: Admission, encoded: int, decoded: int, seconds_left: float | None) -> None:
        async with admission.admit(encoded, seconds_left=seconds_left) as ticket:
            await ticket.begin(decoded)
            self.began.set()
            await self.end.wait()


async def one_takes_three_seconds(admission: Admission, clock: Clock, *, seconds_left: float | None = None) -> None:
    request = Request(admission, seconds_left=seconds_left)
    await settle()
    clock.now += 3.0
    request.end.set()
    await request.task


def test_bytes_are_charged_and_given_back_stage_by_stage() -> None:
    seen: list[tuple[Kind, int]] = []

    async def test() -> None:
        gate = admission(on_bytes=lambda kind, num_bytes: seen.append((kind, num_bytes)))
        async with gate.admit(10 * MIB) as ticket:
            assert (gate.held("encoded"), gate.held("decoded")) == (10 * MIB, 0)
            ticket.grow(5 * MIB)
            assert (gate.num_waiting, gate.num_active) == (1, 0)
            await ticket.begin(30 * MIB)
            assert (gate.num_waiting, gate.num_active) == (0, 1)
            assert (gate.held("encoded"), gate.held("decoded")) == (15 * MIB, 30 * MIB)
            ticket.decoded(20 * MIB)
            assert (gate.held("encoded"), gate.held("decoded")) == (0, 20 * MIB)
            ticket.ran()
            assert (gate.held("encoded"), gate.held("decoded")) == (0, 0)
        assert (gate.num_waiting, gate.num_active) == (0, 0)

    run(test)
    assert ("encoded", 15 * MIB) in seen
    assert ("decoded", 30 * MIB) in seen
    assert [v for k, v in seen if k == "encoded"][-1] == [v for k, v in seen if k == "decoded"][-1] == 0


def test_what_a_worker_still_holds_stays_charged_when_the_request_has_gone() -> None:
    async def test() -> None:
        gate = admission()
        worker_is_done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with gate.admit(10 * MIB) as ticket:
            await ticket.begin(60 * MIB)
            ticket.keep_until(worker_is_done)
        assert gate.num_active == 0
        assert (gate.held("encoded"), gate.held("decoded")) == (10 * MIB, 60 * MIB)
        waits = Request(gate, decoded=50 * MIB)
        await settle()
        assert not waits.began.is_set()
        worker_is_done.set_result(None)
        await waits.began.wait()
        assert (gate.held("encoded"), gate.held("decoded")) == (0, 50 * MIB)
        waits.end.set()
        await waits.task

    run(test)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    reasons: list[str] = []

    async def test() -> None:
        clock = Clock()
        gate = admission(clock=clock, on_refusal=reasons.append)
        await one_takes_three_seconds(gate, clock)
        requests = [Request(gate) for _ in range(4)]
        await settle()
        assert [r.began.is_set() for r in requests] == [True, True, False, False]
        with pytest.raises(Overloaded, match=r"2 requests are worked on and 2 wait; try again in 9\.0 s") as caught:
            async with gate.admit(1):
                pytest.fail("admitted")
        assert caught.value.retry_after_seconds == pytest.approx(9.0)
        requests[0].end.set()
        await settle()
        assert requests[2].began.is_set()
        async with gate.admit(1):
            pass
        for request in requests:
            request.end.set()
        await asyncio.gather(*(r.task for r in requests))

    run(test)
    assert reasons == ["queue_full"]


def test_who_cannot_be_done_in_time_is_not_let_in_to_wait() -> None:
    reasons: list[str] = []

    async def test() -> None:
        clock = Clock()
        gate = admission(clock=clock, max_queue=10, on_refusal=reasons.append)
        await one_takes_three_seconds(gate, clock, seconds_left=0.1)  # nothing is known before
        working = [Request(gate, seconds_left=0.1) for _ in range(2)]
        await settle()
        assert all(r.began.is_set() for r in working)  # who need not wait is always let in
        with pytest.raises(Overloaded, match=r"would be done in about 9\.0 s, later than in 10\.0 s") as caught:
            async with gate.admit(1, seconds_left=10.0):
                pytest.fail("admitted")
        assert caught.value.retry_after_seconds == pytest.approx(3.0)
        assert (gate.num_waiting, gate.held("encoded")) == (0, 0)
        others = [Request(gate, seconds_left=left) for left in (12.0, 16.0, None)]
        await settle()
        assert gate.num_waiting == 3
        for request in (*working, *others):
            request.end.set()
        await asyncio.gather(*(r.task for r in (*working, *others)))

    run(test)
    assert reasons == ["no_time"]


def test_what_was_given_up_was_not_fast() -> None:
    async def test() -> None:
        clock = Clock()
        gate = admission(clock=clock, max_active=1, max_queue=10)
        for seconds, given_up in ((4.0, False), (1.0, True), (3.0, False)):
            request = Request(gate)
            await settle()
            clock.now += seconds
            request.task.cancel() if given_up else request.end.set()
            await asyncio.wait([request.task])
        working = Request(gate)
        await settle()
        with pytest.raises(Overloaded, match="done in about"):
            async with gate.admit(seconds_left=8.9):
                pytest.fail("admitted")
        working.end.set()
        await working.task

    run(test)


def test_no_queue_at_all_still_serves() -> None:
    async def test() -> None:
        gate = admission(max_queue=0, max_active=1)
        async with gate.admit(1) as ticket:
            await ticket.begin(1)
            with pytest.raises(Overloaded):
                gate.check(1)
        gate.check(1)

    run(test)


def test_encoded_bytes_have_a_part_of_their_own() -> None:
    async def test() -> None:
        gate = admission()
        async with gate.admit(30 * MIB) as upload:
            with pytest.raises(Overloaded, match=r"11.0 MiB do not fit into the 10.0 MiB that are free"):
                gate.check(11 * MIB)
            with pytest.raises(Overloaded):
                async with gate.admit(5 * MIB) as other:
                    other.grow(6 * MIB)
            upload.grow(10 * MIB)
            assert gate.held("encoded") == 40 * MIB
            # However full of waiting videos, the largest clips still find room.
            await upload.begin(60 * MIB)
            assert gate.held("decoded") == 60 * MIB

    run(test)


def test_decoded_bytes_leave_less_for_uploads() -> None:
    async def test() -> None:
        gate = admission(max_bytes=80 * MIB)
        async with gate.admit() as one, gate.admit() as two:
            await one.begin(40 * MIB)
            await two.begin(20 * MIB)
            gate.check(20 * MIB)
            with pytest.raises(Overloaded, match=r"20\.0 MiB that are free"):
                gate.check(21 * MIB)

    run(test)


def test_what_never_fits_is_not_told_to_come_back() -> None:
    reasons: list[str] = []

    async def test() -> None:
        gate = admission(on_refusal=reasons.append)
        with pytest.raises(
            VideoTooLarge, match=r"up.mp4: 41.0 MiB are more than the 40.0 MiB .*max_queue_mb"
        ) as caught:
            async with gate.admit(41 * MIB, name="up.mp4"):
                pytest.fail("admitted")
        assert caught.value.source == "up.mp4"
        async with gate.admit(40 * MIB, name="up.mp4") as ticket:
            with pytest.raises(VideoTooLarge, match=r"up\.mp4"):
                ticket.grow(1)
            assert gate.held("encoded") == 40 * MIB
            with pytest.raises(VideoTooLarge, match=r"clips may take 61.0 MiB, more than the 60.0 MiB"):
                await ticket.begin(61 * MIB)
        assert gate.held("encoded") == 0

    run(test)
    assert reasons == ["too_large"] * 3


def test_who_waits_begins_in_order_and_when_the_bytes_are_there() -> None:
    async def test() -> None:
        gate = admission(max_active=10, max_queue=10)
        big = Request(gate, decoded=50 * MIB)
        await settle()
        waiting = [Request(gate, decoded=d * MIB) for d in (60, 40, 20, 10)]
        await settle()
        assert big.began.is_set()
        # The 60 do not fit, the 40 do; then only the 10 do.
        assert [r.began.is_set() for r in waiting] == [False, True, False, True]
        big.end.set()
        await settle()
        assert [r.began.is_set() for r in waiting] == [False, True, True, True]
        for request in waiting[1:]:
            request.end.set()
        await settle()
        assert waiting[0].began.is_set()
        waiting[0].end.set()
        await asyncio.gather(big.task, *(r.task for r in waiting))

    run(test)


def test_a_large_request_is_not_passed_for_ever() -> None:
    async def test() -> None:
        gate = admission(max_active=1000, max_queue=1000)
        first = Request(gate, decoded=60 * MIB)
        await settle()
        large = Request(gate, decoded=50 * MIB)
        await settle()
        small = [Request(gate, decoded=1 * MIB) for _ in range(MAX_PASSED + 5)]
        await settle()
        assert [r.began.is_set() for r in small] == [True] * MAX_PASSED + [False] * 5
        first.end.set()
        await settle()
        assert large.began.is_set()
        assert all(r.began.is_set() for r in small)
        for request in (large, *small):
            request.end.set()
        await asyncio.gather(first.task, large.task, *(r.task for r in small))

    run(test)


def test_a_cancelled_request_frees_its_place() -> None:
    async def test() -> None:
        gate = admission(max_active=1)
        running, waiting, next_one = (Request(gate, encoded=MIB, decoded=MIB) for _ in range(3))
        await settle()
        waiting.task.cancel()
        await settle()
        assert gate.held("encoded") == 2 * MIB
        # Cancelled in the same step in which its turn comes: it must not take the place with it.
        running.end.set()
        next_one.task.cancel()
        await settle()
        assert (gate.num_active, gate.num_waiting) == (0, 0)
        assert all(gate.held(kind) == 0 for kind in KINDS)
        last = Request(gate)
        await settle()
        assert last.began.is_set()
        last.end.set()
        await asyncio.gather(running.task, waiting.task, next_one.task, last.task, return_exceptions=True)

    run(test)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 70), st.sampled_from(["run", "cancel", "fail"])),
        min_size=1,
        max_size=30,
    ),
    # Not `st.randoms`: tasks would still draw from it after hypothesis has ended the example.
    st.integers(0, 2**32).map(Random),
)
def test_the_budget_holds_and_nothing_is_left(requests: list[tuple[int, int, str]], random: Random) -> None:
    async def one(gate: Admission, encoded: int, decoded: int, how: str) -> None:
        async with gate.admit(encoded * MIB) as ticket:
            await ticket.begin(decoded * MIB)
            await pause(ticket, decoded, random)
            if how == "fail":
                raise ValueError

    async def pause(ticket: Ticket, decoded: int, random: Random) -> None:
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
        ticket.decoded(decoded * MIB // 2)
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
        ticket.ran()

    async def test() -> None:
        total: dict[Kind, int] = dict.fromkeys(KINDS, 0)

        def watch(kind: Kind, num_bytes: int) -> None:
            total[kind] = num_bytes
            assert 0 <= total["encoded"] <= 40 * MIB
            assert sum(total.values()) <= 100 * MIB
            assert gate.num_active <= 2
            assert gate.num_waiting + gate.num_active <= 4

        gate = admission(on_bytes=watch)
        tasks = []
        for encoded, decoded, how in requests:
            tasks.append(asyncio.create_task(one(gate, encoded, decoded, how)))
            if random.random() < 0.5:
                await asyncio.sleep(0)
            if how == "cancel":
                random.choice(tasks).cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                assert isinstance(result, (asyncio.CancelledError, ValueError, TenclipError)), result
                assert not isinstance(result, AssertionError)
        assert total == dict.fromkeys(KINDS, 0)
        assert (gate.num_active, gate.num_waiting) == (0, 0)

    run(test)


def test_errors_inside_give_everything_back() -> None:
    async def test() -> None:
        gate = admission()
        with contextlib.suppress(ValueError):
            async with gate.admit(5) as ticket:
                await ticket.begin(5)
                raise ValueError
        assert [gate.held(kind) for kind in KINDS] == [0, 0]

    run(test)


class Arrival:
    """A task that reads its message until it is told that it is here."""

    def __init__(self, admission: Admission, *, seconds_left: float | None = None) -> None:
        self.reads = asyncio.Event()
        self.here = asyncio.Event()
        self.task = asyncio.create_task(self._run(admission, seconds_left))

    async def _run(self, admission: Admission, seconds_left: float | None) -> None:
        async with admission.arriving(seconds_left):
            self.reads.set()
            await self.here.wait()


def test_messages_on_their_way_have_places_and_only_so_many_are_read_at_once() -> None:
    async def test() -> None:
        gate = admission(max_arrivals=1)
        first = Request(gate)
        arrivals = [Arrival(gate) for _ in range(3)]
        await settle()
        assert [a.reads.is_set() for a in arrivals] == [True, False, False]
        with pytest.raises(Overloaded, match="1 requests are worked on and 3 wait"):
            gate.check_arrival()
        arrivals[0].here.set()
        await settle()
        assert [a.reads.is_set() for a in arrivals] == [True, True, False]
        arrivals[2].task.cancel()  # its caller hung up, without having been read
        await settle()
        gate.check_arrival()
        arrivals[1].here.set()
        first.end.set()
        await asyncio.gather(first.task, arrivals[0].task, arrivals[1].task)
        assert (gate.num_active, gate.num_waiting) == (0, 0)

    run(test)


def test_who_would_not_be_done_in_time_is_refused_before_it_is_read() -> None:
    reasons: list[str] = []

    async def test() -> None:
        clock = Clock()
        gate = admission(clock=clock, on_refusal=reasons.append)
        await one_takes_three_seconds(gate, clock)
        others = [Request(gate) for _ in range(2)]
        await settle()
        with pytest.raises(Overloaded, match="later than in 5"):
            gate.check_arrival(5.0)
        async with gate.arriving(60.0):
            with pytest.raises(Overloaded, match=r"about 12\.0 s"):  # the arriving one goes before
                gate.check_arrival(14.0)
            gate.check_arrival()  # nobody knows its deadline
        for other in others:
            other.end.set()
        await asyncio.gather(*(other.task for other in others))

    run(test)
    assert reasons == ["no_time", "no_time"]


def test_a_message_that_does_not_come_gives_up_its_place() -> None:
    async def test() -> None:
        gate = admission(max_active=1, max_queue=0, max_arrival_seconds=0.05)
        stuck = Arrival(gate)
        with pytest.raises(DeadlineExceeded, match=r"not here after 0\.05 seconds"):
            await stuck.task
        gate.check_arrival()

    run(test)


def test_videos_that_come_in_pieces_have_half_of_the_places() -> None:
    reasons: list[str] = []

    async def fill(gate: Admission, done: asyncio.Event) -> None:
        async with gate.admit() as ticket:
            with ticket.filling():
                await done.wait()

    async def test() -> None:
        gate, done = admission(on_refusal=reasons.append), asyncio.Event()
        uploads = [asyncio.create_task(fill(gate, done)) for _ in range(2)]
        await settle()
        with pytest.raises(Overloaded, match="2 videos are being uploaded or fetched"):
            await fill(gate, done)
        with pytest.raises(Overloaded, match="2 videos are being uploaded or fetched"):
            async with gate.arriving(upload=True):
                pass
        whole = [Request(gate) for _ in range(2)]
        await settle()
        assert [r.began.is_set() for r in whole] == [True, True]
        done.set()
        await asyncio.gather(*uploads)
        for request in whole:
            request.end.set()
        await asyncio.gather(*(request.task for request in whole))
        await fill(gate, done)

    run(test)
    assert reasons == ["uploads_full", "uploads_full"]
