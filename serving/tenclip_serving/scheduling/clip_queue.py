"""Whose clips run next: the rules alone, with no threads and no clock of their own.

Fair queueing on two levels: whoever has had the least goes next, and who comes new begins level with those who are
there. Within a model what counts is pixels: a short video passes a two-hour one, and short ones that never stop coming
do not starve it. Between models on one device it is measured seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from tenclip_serving.runtimes import GPU_RUNTIMES
from tenclip_serving.runtimes.base import Clips, Runtime
from tenclip_serving.scheduling.batching import BatchSizer

Shape = tuple[int, ...]  # T, H, W, 3
# A video's share halves after so many clips, then goes down to a third and a quarter: it will take long in any case,
# and what waits beside it hardly notices it then.
LONG_CLIPS = 50
_SMALLEST_SHARE = 1 / 4


@dataclass(kw_only=True, eq=False)
class ClipJob:
    """The clips of one video on one model, uint8 [N,T,H,W,3]. `runtimes`: its instances, each one batch at a time.

    deadline: on the caller's clock; after it no clip of the job is run any more.
    """

    model: str
    runtimes: Sequence[Runtime]
    clips: Clips
    deadline: float = math.inf
    taken: int = 0  # clips that have gone to a runtime
    served: float = 0.0  # bytes of clips by its share, counted from where the others were when the job came

    @property
    def left(self) -> int:
        return len(self.clips) - self.taken

    @property
    def shape(self) -> Shape:
        return self.clips.shape[1:]

    @property
    def clip_bytes(self) -> int:
        return self.clips[:1].nbytes

    @property
    def share(self) -> float:
        """Of the clips that run, beside that of others."""
        return max(_SMALLEST_SHARE, 1 / (1 + self.taken // LONG_CLIPS))


class Part(NamedTuple):
    """The clips [first, last) of a job."""

    job: ClipJob
    first: int
    last: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Clips of one shape for one instance of a model. `expected`: seconds that it was charged beforehand."""

    parts: tuple[Part, ...]
    instance: int
    expected: float

    @property
    def model(self) -> str:
        return self.parts[0].job.model

    @property
    def runtime(self) -> Runtime:
        return self.parts[0].job.runtimes[self.instance]

    @property
    def size(self) -> int:
        return sum(p.last - p.first for p in self.parts)


@dataclass(eq=False)
class _Lane:
    """One model: its jobs in the order of their arrival, and what is known about its speed."""

    num_instances: int
    device: str
    batch_size: int
    jobs: list[ClipJob] = field(default_factory=list)
    busy: set[int] = field(default_factory=set)
    sizers: dict[Shape, BatchSizer] = field(default_factory=dict)
    served: float = 0.0  # what a job has had that was always there: each clip adds its share of it
    seconds: float = 0.0  # of the device's time, counted from where the other models were
    held_since: float | None = None

    @property
    def share(self) -> float:
        """Of the device, for one batch: all instances together may fill it."""
        return 1 / self.num_instances

    def sizer(self, shape: Shape) -> BatchSizer:
        return self.sizers.setdefault(shape, BatchSizer(self.batch_size))


class ClipQueue:
    """Not for several threads at once.

    Instances of a model share its device (the CPU, or the GPU): with two, each batch takes half of it, and other models
    get the halves that are free.
    """

    def __init__(self) -> None:
        # By the first instance. A model that is no longer served goes from here by itself.
        self._lanes: WeakKeyDictionary[Runtime, _Lane] = WeakKeyDictionary()
        self._used: dict[str, float] = {}
        self._seconds: dict[str, float] = {}  # by device: `_Lane.seconds` of the model served last, when it was

    def add(self, job: ClipJob) -> None:
        lane = self._lane(job)
        if not lane.jobs:
            lane.seconds = max(lane.seconds, self._seconds.get(lane.device, 0.0))
        job.served = lane.served
        lane.jobs.append(job)

    def remove(self, job: ClipJob) -> int:
        """Take out what has not gone to a runtime; so many clips it was."""
        lane = self._lane(job)
        if job not in lane.jobs:
            return 0
        lane.jobs.remove(job)
        return job.left

    def drain(self) -> list[ClipJob]:
        """Take out all."""
        jobs = [job for lane in self._lanes.values() for job in lane.jobs]
        for job in jobs:
            self.remove(job)
        return jobs

    @property
    def num_slots(self) -> int:
        """How many batches could run at once."""
        instances: dict[str, int] = {}
        for lane in self._lanes.values():
            instances[lane.device] = max(instances.get(lane.device, 0), lane.num_instances)
        return sum(instances.values())

    def next(self, now: float) -> Batch | float | None:
        """A batch to run now, for which `finished` must be called; or seconds after which to ask again; or None."""
        wait: float | None = None
        full: set[str] = set()
        for lane in sorted(self._lanes.values(), key=lambda lane: lane.seconds):
            jobs = [job for job in lane.jobs if job.deadline > now]
            if not jobs or len(lane.busy) == lane.num_instances or lane.device in full:
                continue
            if self._used.get(lane.device, 0.0) + lane.share > 1 + 1e-9:
                full.add(lane.device)  # those behind it must not take what it waits for
                continue
            held = _hold(lane, jobs, now)
            if held <= 0:
                return self._take(lane, jobs)
            wait = held if wait is None else min(wait, held)
        return wait

    def finished(self, batch: Batch, seconds: float | None) -> None:
        """A batch took so long; None: it failed, and says nothing about speed."""
        job = batch.parts[0].job
        lane = self._lane(job)
        lane.busy.discard(batch.instance)
        self._used[lane.device] -= lane.share
        if seconds is not None:
            lane.sizer(job.shape).record(batch.size, seconds)
            lane.seconds += seconds - batch.expected

    def _lane(self, job: ClipJob) -> _Lane:
        runtime = job.runtimes[0]
        if runtime not in self._lanes:
            self._lanes[runtime] = _Lane(
                len(job.runtimes), "gpu" if runtime.name in GPU_RUNTIMES else "cpu", runtime.batch_size
            )
        return self._lanes[runtime]

    def _take(self, lane: _Lane, jobs: Sequence[ClipJob]) -> Batch:
        shape = _next_job(jobs).shape
        parts = _fill(lane, [job for job in jobs if job.shape == shape], lane.sizer(shape).best)
        lane.jobs = [job for job in lane.jobs if job.left]
        lane.held_since = None
        instance = min(set(range(lane.num_instances)) - lane.busy)
        expected = lane.sizer(shape).seconds(sum(p.last - p.first for p in parts))
        lane.busy.add(instance)
        self._used[lane.device] = self._used.get(lane.device, 0.0) + lane.share
        self._seconds[lane.device] = max(lane.seconds, self._seconds.get(lane.device, 0.0))
        lane.seconds += expected
        return Batch(parts=parts, instance=instance, expected=expected)


def _next_job(jobs: Sequence[ClipJob]) -> ClipJob:
    """Of those that have had as little, the one that came last: it has waited for nothing yet."""
    return min(reversed(jobs), key=lambda job: job.served)


def _fill(lane: _Lane, jobs: Sequence[ClipJob], size: int) -> tuple[Part, ...]:
    """Take up to `size` clips, each from the job that has had the least."""
    before = {job: job.taken for job in jobs}
    waiting = list(jobs)
    for _ in range(min(size, sum(job.left for job in jobs))):
        job = _next_job(waiting)
        lane.served += job.clip_bytes / sum(other.share for other in lane.jobs if other.left)
        job.served += job.clip_bytes / job.share
        job.taken += 1
        if not job.left:
            waiting.remove(job)
    return tuple(Part(job, first, job.taken) for job, first in before.items() if job.taken > first)


def _hold(lane: _Lane, jobs: Sequence[ClipJob], now: float) -> float:
    """Seconds for which it pays to wait for a fuller batch."""
    shape = _next_job(jobs).shape
    delay = lane.sizer(shape).delay(sum(job.left for job in jobs if job.shape == shape))
    if delay <= 0:
        return 0.0
    if lane.held_since is None:
        lane.held_since = now
    return lane.held_since + delay - now
