"""Generates load on a server: closed loop (a number of requests at once) or open loop (a number per second).

In an open loop a request's latency counts from when it should have been sent, whether or not the generator or the
server kept up: a server that stands still for a second is charged with every request of that second. (Measured from
when it was sent, those that waited for their turn would look fast: "coordinated omission".)

Nothing here knows gRPC: `generate` is given a coroutine that sends one video, so tests give it their own.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tenclip_api.errors import InvalidRequest, TenclipError
from tenclip_client._histogram import Histogram
from tenclip_client._types import ServerPath, ServerUri

Arrivals = Literal["poisson", "constant"]
Method = Literal["predict", "features"]
# Status and reason of a request that was never sent, because so many were in flight.
UNSENT = ("NOT_SENT", "MAX_IN_FLIGHT")
# Pause of a place of a closed loop after UNAVAILABLE; without a server it would do nothing but fail.
_UNAVAILABLE_PAUSE_SECONDS = 0.1
_TICK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class LoadVideo:
    """A video to send. `group`: the name it is reported under. `weight`: how often, relative to the others."""

    name: str
    data: bytes | ServerPath | ServerUri = field(repr=False)
    group: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """The load to generate. Raises InvalidRequest for settings that contradict each other.

    concurrency: closed loop with this many places; each sends its next request when it has its answer.
    rate: open loop, in requests per second, with random (poisson) or equal (constant) times between them. Give one of
        the two.
    seconds, num_requests: how long, or how many requests, to measure. Give one of the two. Requests in flight at the
        end are waited for.
    warmup_seconds: load before the measurement, which is sent and not measured.
    max_in_flight: limit of an open loop; a request beyond it is not sent and counts as failed (`UNSENT`).
    seed: seeds the choice of videos and the arrival times.
    """

    videos: Sequence[LoadVideo]
    concurrency: int | None = None
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    seconds: float | None = None
    num_requests: int | None = None
    warmup_seconds: float = 0.0
    max_in_flight: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.videos:
            raise InvalidRequest("no videos to send")
        if (self.concurrency is None) == (self.rate is None):
            raise InvalidRequest("either a concurrency (closed loop) or a rate (open loop)")
        if (self.seconds is None) == (self.num_requests is None):
            raise InvalidRequest("either a duration or a number of requests")
        for name in ("concurrency", "rate", "seconds", "num_requests", "max_in_flight"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidRequest(f"{name} must be positive, got {value:g}")
        if not (math.isfinite(self.warmup_seconds) and self.warmup_seconds >= 0):
            raise InvalidRequest(f"warmup_seconds must not be negative, got {self.warmup_seconds:g}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of one request: number of clips, and seconds of each stage on the server."""

    num_clips: int
    stage_seconds: Mapping[str, float]
    model: str = ""


@dataclass
class Failures:
    """The failed requests of one status and reason.

    seconds: from when each was due to its failure. example: the message of the first one.
    """

    status: str
    reason: str
    example: str
    seconds: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Progress of a running load. `share_done`: from 0 to 1. `per_second`: answers since the last snapshot."""

    warming_up: bool
    share_done: float
    num_ok: int
    num_failed: int
    num_in_flight: int
    per_second: float
    median_seconds: float


class LoadReport:
    """The measurements of a load. Times are in seconds.

    latency: of successful requests, from when they were due. groups: the same by `LoadVideo.group`.
    lag: how late requests were sent; it grows when the generator is short of CPU.
    window_seconds: from the end of the warm-up until the last request was due (or, for a number of requests, until
    the last answer); num_ok_in_window and clips_in_window arrived in it, and rates come from these.
    elsewhere: the part of a request that no stage of the server accounts for: network, gRPC, parsing, this client.
    cpu_share: the share of one core that this process used.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.latency = Histogram()
        self.lag = Histogram()
        self.elsewhere = Histogram()
        self.stages: dict[str, Histogram] = {}
        self.groups: dict[str, Histogram] = {video.group: Histogram() for video in plan.videos}
        self.failures: dict[tuple[str, str], Failures] = {}
        self.models: set[str] = set()
        self.num_unanswered = 0
        self.num_ok_in_window = 0
        self.clips_in_window = 0
        self.window_seconds = 0.0
        self.cpu_share = 0.0
        self.interrupted = False

    @property
    def num_ok(self) -> int:
        return self.latency.count

    @property
    def num_failed(self) -> int:
        return sum(f.seconds.count for f in self.failures.values())

    @property
    def requests_per_second(self) -> float:
        return self.num_ok_in_window / self.window_seconds if self.window_seconds else 0.0

    @property
    def clips_per_second(self) -> float:
        return self.clips_in_window / self.window_seconds if self.window_seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plan = self.plan
        asked = {k: v for k, v in vars(plan).items() if k != "videos"}
        videos = [{"name": v.name, "group": v.group, "weight": v.weight} for v in plan.videos]
        failures = sorted(self.failures.values(), key=lambda f: -f.seconds.count)
        return {
            "plan": {**asked, "videos": videos},
            "models": sorted(self.models),
            "interrupted": self.interrupted,
            "requests": {"ok": self.num_ok, "failed": self.num_failed, "unanswered": self.num_unanswered},
            "window_seconds": self.window_seconds,
            "requests_per_second": self.requests_per_second,
            "clips_per_second": self.clips_per_second,
            "latency_seconds": self.latency.to_dict(),
            "latency_buckets": [[highest, count] for highest, count in self.latency.buckets()],
            "latency_seconds_by_video": {name: h.to_dict() for name, h in self.groups.items()},
            "stage_seconds": {name: h.to_dict() for name, h in self.stages.items()},
            "elsewhere_seconds": self.elsewhere.to_dict(),
            "failures": [
                {"status": f.status, "reason": f.reason, "example": f.example, "seconds": f.seconds.to_dict()}
                for f in failures
            ],
            "generator": {"lag_seconds": self.lag.to_dict(), "cpu_share": self.cpu_share},
        }


Send = Callable[[LoadVideo], Awaitable[Answer]]


async def generate(send: Send, plan: LoadPlan, *, on_tick: Callable[[Snapshot], None] | None = None) -> LoadReport:
    """Generate the planned load and measure it. Errors of tenclip that `send` raises are counted, others raised.

    Cancelled (Ctrl-C), it returns what it has measured so far, marked `interrupted`.
    """
    return await _Generator(send, plan).run(on_tick)


class _Generator:
    def __init__(self, send: Send, plan: LoadPlan) -> None:
        self._send, self._plan = send, plan
        self._report = LoadReport(plan)
        # Two generators, so that the choice of videos does not depend on the order of arrivals.
        self._choice, self._gaps = random.Random(plan.seed), random.Random(plan.seed + 1)
        self._weights = [video.weight for video in plan.videos]
        self._num_measured = self._in_flight = self._answers = 0
        self._start = self._measure_from = self._last_answer = 0.0
        self._until = math.inf

    async def run(self, on_tick: Callable[[Snapshot], None] | None) -> LoadReport:
        plan, report = self._plan, self._report
        self._start = self._last_answer = time.perf_counter()
        self._measure_from = self._start + plan.warmup_seconds
        if plan.seconds is not None:
            self._until = self._measure_from + plan.seconds
        cpu = time.process_time()
        ticking = asyncio.create_task(self._tick(on_tick)) if on_tick else None
        try:
            await (self._closed() if plan.rate is None else self._open(plan.rate))
        except asyncio.CancelledError:
            report.interrupted = True
            # It was for this, and it has been obeyed.
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
        finally:
            if ticking is not None:
                ticking.cancel()
        now = time.perf_counter()
        until = self._last_answer if plan.seconds is None and not report.interrupted else min(self._until, now)
        report.window_seconds = max(until - self._measure_from, 0.0)
        report.cpu_share = (time.process_time() - cpu) / max(now - self._start, 1e-9)
        report.num_unanswered = self._in_flight
        return report

    async def _closed(self) -> None:
        assert self._plan.concurrency is not None
        async with asyncio.TaskGroup() as places:
            for _ in range(self._plan.concurrency):
                places.create_task(self._place())

    async def _place(self) -> None:
        while self._goes_on(now := time.perf_counter()):
            if not await self._request(now):
                await asyncio.sleep(_UNAVAILABLE_PAUSE_SECONDS)

    async def _open(self, rate: float) -> None:
        due = self._start
        async with asyncio.TaskGroup() as requests:
            while self._goes_on(due):
                await asyncio.sleep(max(due - time.perf_counter(), 0.0))
                if self._in_flight < self._plan.max_in_flight:
                    requests.create_task(self._request(due, measured=self._count(due)))
                    self._in_flight += 1
                elif self._count(due):
                    self._failed(*UNSENT, f"{self._in_flight} were in flight", 0.0)
                due += self._gaps.expovariate(rate) if self._plan.arrivals == "poisson" else 1 / rate

    def _goes_on(self, due: float) -> bool:
        wanted = self._plan.num_requests
        return due < self._until and (wanted is None or self._num_measured < wanted)

    def _count(self, due: float) -> bool:
        """Count the request that is due then. True when it is measured."""
        measured = due >= self._measure_from
        self._num_measured += measured
        return measured

    async def _request(self, due: float, *, measured: bool | None = None) -> bool:
        """Send one video. False when no server answered."""
        if measured is None:
            measured = self._count(due)
            self._in_flight += 1
        sent = time.perf_counter()
        video = self._choice.choices(self._plan.videos, self._weights)[0]
        try:
            answer = await self._send(video)
        except TenclipError as err:
            self._answered()
            if measured:
                self._failed(err.grpc_status, err.reason, str(err), self._last_answer - due)
            return err.grpc_status != "UNAVAILABLE"
        self._answered()
        done = self._last_answer
        if measured:
            self._measure(video, answer, due, sent, done)
        if self._measure_from <= done <= self._until:
            self._report.num_ok_in_window += 1
            self._report.clips_in_window += answer.num_clips
        return True

    def _answered(self) -> None:
        # Not in a `finally`: a cancelled request stays unanswered.
        self._in_flight -= 1
        self._answers += 1
        self._last_answer = time.perf_counter()

    def _measure(self, video: LoadVideo, answer: Answer, due: float, sent: float, done: float) -> None:
        report = self._report
        report.latency.add(done - due)
        report.groups[video.group].add(done - due)
        report.lag.add(sent - due)
        report.models.add(answer.model)
        for stage, seconds in answer.stage_seconds.items():
            report.stages.setdefault(stage, Histogram()).add(seconds)
        report.elsewhere.add(done - sent - sum(answer.stage_seconds.values()))

    def _failed(self, status: str, reason: str, example: str, seconds: float) -> None:
        key = status, reason
        self._report.failures.setdefault(key, Failures(status, reason, example)).seconds.add(seconds)

    async def _tick(self, on_tick: Callable[[Snapshot], None]) -> None:
        before, answers = time.perf_counter(), 0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.perf_counter()
            on_tick(self._snapshot(now, (self._answers - answers) / (now - before)))
            before, answers = now, self._answers

    def _snapshot(self, now: float, per_second: float) -> Snapshot:
        report, plan = self._report, self._plan
        if plan.num_requests is not None:
            share = (report.num_ok + report.num_failed) / plan.num_requests
        else:
            share = (now - self._measure_from) / (self._until - self._measure_from)
        return Snapshot(
            warming_up=now < self._measure_from,
            share_done=min(max(share, 0.0), 1.0),
            num_ok=report.num_ok,
            num_failed=report.num_failed,
            num_in_flight=self._in_flight,
            per_second=per_second,
            median_seconds=report.latency.percentile(50),
        )
