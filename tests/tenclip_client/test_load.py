"""The generator with senders of the test's own: who is sent when, and what is counted.

Times are bounded from below only: a sleep never ends early, however busy the machine is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tenclip_api.errors import InvalidRequest, Overloaded, ServerUnavailable
from tenclip_client._load import Answer, LoadPlan, LoadReport, LoadVideo, Snapshot, generate

VIDEO = LoadVideo(name="a.mp4", data=b"a", group="a.mp4")
ANSWER = Answer(num_clips=10, stage_seconds={"decode": 0.25, "infer": 0.5}, model="tiny:1")
Sender = Callable[[LoadVideo], Awaitable[Answer]]


def run(send: Sender, *, videos: tuple[LoadVideo, ...] = (VIDEO,), **plan: Any) -> LoadReport:
    return asyncio.run(generate(send, LoadPlan(videos=videos, **plan)))


async def at_once(video: LoadVideo) -> Answer:
    await asyncio.sleep(0)
    return ANSWER


class Crowd:
    """Answers after `seconds`, and knows how many were there together."""

    def __init__(self, seconds: float = 0.001) -> None:
        self.seconds = seconds
        self.now = self.most = self.total = 0

    async def __call__(self, video: LoadVideo) -> Answer:
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.now -= 1
        return ANSWER


@pytest.mark.parametrize("concurrency", [1, 7])
def test_closed_loop(concurrency: int) -> None:
    crowd = Crowd()
    report = run(crowd, concurrency=concurrency, num_requests=50)
    assert crowd.most == concurrency
    assert crowd.total == report.num_ok == report.num_ok_in_window == 50
    assert report.clips_in_window == 500
    assert report.latency.min >= 0.001
    assert report.window_seconds >= 50 * 0.001 / concurrency
    assert report.requests_per_second == pytest.approx(50 / report.window_seconds)


def test_open_loop_sends_whatever_is_in_flight() -> None:
    crowd = Crowd(1.0)
    report = run(crowd, rate=1000.0, num_requests=40, arrivals="constant")
    assert crowd.most > 20
    assert report.num_ok == 40


def test_a_stalled_generator_is_charged_with_all_that_was_due() -> None:
    # 100 a second; the first one holds up the event loop for 0.3 s, so the next 30 are late, each by its own share.
    first = True

    async def send(video: LoadVideo) -> Answer:
        nonlocal first
        if first:
            first = False
            time.sleep(0.3)
        return ANSWER

    report = run(send, rate=100.0, arrivals="constant", num_requests=40)
    assert report.latency.max >= 0.3
    assert report.lag.max >= 0.25
    late = sum(count for highest, count in report.latency.buckets() if highest >= 0.1)
    assert late >= 20
    assert report.latency.percentile(50) >= 0.05


def test_a_slow_server_is_charged_with_its_queue() -> None:
    # It manages 100 a second and is asked for 500: the last of 50 has waited for 49 others, 0.4 s of them overdue.
    async def main() -> LoadReport:
        turn = asyncio.Lock()

        async def send(video: LoadVideo) -> Answer:
            async with turn:
                await asyncio.sleep(0.01)
            return ANSWER

        return await generate(send, LoadPlan(videos=[VIDEO], rate=500.0, arrivals="constant", num_requests=50))

    report = asyncio.run(main())
    assert report.latency.max >= 0.4
    assert report.requests_per_second <= 100


def test_poisson_arrivals_have_the_rate() -> None:
    def times(seed: int) -> list[float]:
        due: list[float] = []

        async def send(video: LoadVideo) -> Answer:
            due.append(time.perf_counter())
            return ANSWER

        run(send, rate=2000.0, num_requests=200, seed=seed)
        return due

    due = times(1)
    gaps = [after - before for before, after in itertools.pairwise(due)]
    assert len(due) == 200
    assert due[-1] - due[0] > 0.05  # about 0.1 s
    assert max(gaps) > 0.001  # exponential: the longest of 200 is about 2.6 ms


def test_beyond_what_may_be_in_flight() -> None:
    report = run(Crowd(0.3), rate=1000.0, arrivals="constant", num_requests=30, max_in_flight=4)
    assert report.num_ok >= 4
    ((key, failures),) = report.failures.items()
    assert key == ("NOT_SENT", "MAX_IN_FLIGHT")
    assert report.num_ok + failures.seconds.count == 30


def test_warmup_is_not_measured() -> None:
    crowd = Crowd(0.005)
    report = run(crowd, concurrency=2, num_requests=10, warmup_seconds=0.1)
    assert report.num_ok == 10
    assert crowd.total > 10


def test_a_duration() -> None:
    crowd = Crowd(0.002)
    report = run(crowd, concurrency=2, seconds=0.2)
    assert report.window_seconds == pytest.approx(0.2)
    assert report.num_ok == crowd.total
    # Those that were in flight when the time was up were waited for, and are no throughput.
    assert report.num_ok_in_window <= report.num_ok <= report.num_ok_in_window + 2


def test_failures_by_status_and_reason() -> None:
    count = 0

    async def send(video: LoadVideo) -> Answer:
        nonlocal count
        count += 1
        if count % 2:
            raise Overloaded(f"number {count}")
        return ANSWER

    report = run(send, concurrency=1, num_requests=10)
    (failures,) = report.failures.values()
    assert (failures.status, failures.reason, failures.example) == ("RESOURCE_EXHAUSTED", "OVERLOADED", "number 1")
    assert (report.num_ok, report.num_failed, failures.seconds.count) == (5, 5, 5)


def test_without_a_server_a_closed_loop_does_not_spin() -> None:
    async def send(video: LoadVideo) -> Answer:
        raise ServerUnavailable("nobody")

    report = run(send, concurrency=2, seconds=0.35)
    assert (report.num_ok, report.requests_per_second) == (0, 0)
    assert 2 <= report.num_failed <= 8


def test_a_bug_is_no_statistic() -> None:
    async def send(video: LoadVideo) -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        run(send, concurrency=1, num_requests=5)
    assert caught.group_contains(ZeroDivisionError)


def test_weights() -> None:
    sent: Counter[str] = Counter()

    async def send(video: LoadVideo) -> Answer:
        sent[video.name] += 1
        return ANSWER

    videos = tuple(LoadVideo(name=n, data=b"x", group=n, weight=w) for n, w in (("often", 9.0), ("seldom", 1.0)))
    report = run(send, videos=videos, concurrency=1, num_requests=2000)
    assert sent.total() == 2000
    assert 120 < sent["seldom"] < 280  # 200, and six standard deviations
    assert {name: h.count for name, h in report.groups.items()} == dict(sent)


def test_stages_and_what_is_elsewhere() -> None:
    async def send(video: LoadVideo) -> Answer:
        await asyncio.sleep(0.02)
        return Answer(num_clips=1, stage_seconds={"infer": 0.005})

    report = run(send, concurrency=1, num_requests=5)
    assert report.stages["infer"].mean == pytest.approx(0.005)
    assert report.elsewhere.min >= 0.014


def test_cancelled_it_says_what_it_has() -> None:
    async def main() -> LoadReport:
        started = asyncio.Event()

        async def send(video: LoadVideo) -> Answer:
            if video.name == "stuck":
                started.set()
                await asyncio.Event().wait()
            return await at_once(video)

        videos = [VIDEO, LoadVideo(name="stuck", data=b"x", group="stuck")]
        task = asyncio.create_task(generate(send, LoadPlan(videos=videos, concurrency=3, seconds=3600)))
        await started.wait()
        task.cancel()
        return await task

    report = asyncio.run(main())
    assert report.interrupted
    assert 1 <= report.num_unanswered <= 3
    assert report.window_seconds < 3600


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenclip_client._load._TICK_SECONDS", 0.02)
    seen: list[Snapshot] = []
    plan = LoadPlan(videos=[VIDEO], concurrency=1, seconds=1.0, warmup_seconds=1.0)
    asyncio.run(generate(Crowd(0.01), plan, on_tick=seen.append))
    assert seen[0].warming_up
    assert math.isnan(seen[0].median_seconds)
    assert seen[0].num_in_flight == 1
    assert not seen[-1].warming_up
    assert seen[-1].num_ok > 0
    assert [s.share_done for s in seen] == sorted(s.share_done for s in seen)


def test_json_is_plain() -> None:
    report = run(at_once, concurrency=1, num_requests=3)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["requests"] == {"ok": 3, "failed": 0, "unanswered": 0}
    assert document["latency_seconds"]["count"] == 3
    assert sum(count for _, count in document["latency_buckets"]) == 3
    assert document["models"] == ["tiny:1"]
    assert document["plan"]["videos"] == [{"name": "a.mp4", "group": "a.mp4", "weight": 1.0}]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "either a concurrency"),
        ({"concurrency": 1, "rate": 1.0}, "either a concurrency"),
        ({"concurrency": 1}, "either a duration"),
        ({"concurrency": 1, "seconds": 1.0, "num_requests": 1}, "either a duration"),
        ({"concurrency": 0, "seconds": 1.0}, "concurrency must be positive, got 0"),
        ({"rate": 0.0, "seconds": 1.0}, "rate must be positive, got 0"),
        ({"rate": math.inf, "seconds": 1.0}, "rate must be positive, got inf"),
        ({"rate": 1.0, "seconds": math.nan}, "seconds must be positive, got nan"),
        ({"rate": 1.0, "seconds": 1.0, "warmup_seconds": -1.0}, "must not be negative, got -1"),
        ({"concurrency": 1, "seconds": 1.0, "videos": ()}, "no videos"),
    ],
)
def test_plans_that_make_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        LoadPlan(**{"videos": (VIDEO,), **wrong})
