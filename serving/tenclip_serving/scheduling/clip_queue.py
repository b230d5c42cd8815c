"""Weighted start-time fair queueing of clips, on two levels (models, then videos). No threads, no clock of its own.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each flow has a virtual time, which grows by cost over
weight whenever it is served; the flow with the least virtual time goes next; a new flow starts at the virtual time of
the system, so that it neither waits for the others' past nor catches up on it.

1. Between models on one device, a flow is a model and its cost is measured seconds.
2. Within a model, a flow is a video and its cost is bytes of clips. A short video passes a two-hour one, and short ones
   that never stop coming do not starve it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from tenclip_serving.runtimes.base import Clips, Runtime
from tenclip_serving.runtimes.out_of_memory import uses_gpu
from tenclip_serving.scheduling.batching import BatchSizer

Shape = tuple[int, ...]  # T, H, W, 3
# The weight of a video halves after this number of clips, then goes down to a third and a quarter. It will take long in
# any case, and the others hardly notice it then.
LONG_CLIPS = 50
_SMALLEST_WEIGHT = 1 / 4


@dataclass(kw_only=True, eq=False)
class ClipJob:
    """The clips of one video on one model, uint8 [N,T,H,W,3].

    runtimes: instances of the model, each of which runs one batch at a time.
    deadline: on the caller's clock; after it no clip of the job is run any more.
    taken: clips that have gone to a runtime.
    virtual_time: bytes of clips over weight, from the virtual time of the model when the job came.
    """

    model: str
    runtimes: Sequence[Runtime]
    clips: Clips
    deadline: float = math.inf
    taken: int = 0
    virtual_time: float = 0.0

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
    def weight(self) -> float:
        """Its part of the clips that run, relative to the weights of other jobs."""
        return max(_SMALLEST_WEIGHT, 1 / (1 + self.taken // LONG_CLIPS))


class Part(NamedTuple):
    """The clips [first, last) of a job."""

    job: ClipJob
    first: int
    last: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Clips of one shape for one instance of a model. expected_seconds: what the model was charged beforehand."""

    parts: tuple[Part, ...]
    instance: int
    expected_seconds: float

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
    """One model: its jobs in the order of their arrival, and what is known about its speed.

    virtual_time: of the jobs, in bytes of clips: that of a job of weight 1 that was always there.
    device_seconds: the model's own virtual time among the models of its device.
    held_since: when the model began to wait for a fuller batch.
    """

    num_instances: int
    device: str
    batch_size: int
    jobs: list[ClipJob] = field(default_factory=list)
    busy: set[int] = field(default_factory=set)
    sizers: dict[Shape, BatchSizer] = field(default_factory=dict)
    virtual_time: float = 0.0
    device_seconds: float = 0.0
    held_since: float | None = None

    @property
    def device_share(self) -> float:
        """The part of the device that one batch takes: all instances together may fill it."""
        return 1 / self.num_instances

    def sizer(self, shape: Shape) -> BatchSizer:
        return self.sizers.setdefault(shape, BatchSizer(self.batch_size))


class ClipQueue:
    """The jobs of all models, and which batch runs next. Not for several threads at once.

    Instances of a model share its device (the CPU, or the GPU): with two, each batch takes half of it, and other models
    get the halves that are free.
    """

    def __init__(self) -> None:
        # By the first instance. A model that is no longer served goes from here by itself.
        self._lanes: WeakKeyDictionary[Runtime, _Lane] = WeakKeyDictionary()
        self._used: dict[str, float] = {}
        # By device: the virtual time of the system, `_Lane.device_seconds` of the model served last, when it was.
        self._device_seconds: dict[str, float] = {}

    def add(self, job: ClipJob) -> None:
        lane = self._lane(job)
        if not lane.jobs:
            lane.device_seconds = max(lane.device_seconds, self._device_seconds.get(lane.device, 0.0))
        job.virtual_time = lane.virtual_time
        lane.jobs.append(job)

    def remove(self, job: ClipJob) -> int:
        """Take out the clips that have not gone to a runtime, and return how many they were."""
        lane = self._lane(job)
        if job not in lane.jobs:
            return 0
        lane.jobs.remove(job)
        return job.left

    def drain(self) -> list[ClipJob]:
        """Take out all jobs."""
        jobs = [job for lane in self._lanes.values() for job in lane.jobs]
        for job in jobs:
            self.remove(job)
        return jobs

    def waiting(self) -> dict[str, int]:
        """Clips that have not gone to a runtime, by model."""
        found: dict[str, int] = {}
        for lane in self._lanes.values():
            for job in lane.jobs:
                found[job.model] = found.get(job.model, 0) + job.left
        return found

    @property
    def num_slots(self) -> int:
        """The most batches that can run at once."""
        instances: dict[str, int] = {}
        for lane in self._lanes.values():
            instances[lane.device] = max(instances.get(lane.device, 0), lane.num_instances)
        return sum(instances.values())

    def next(self, now: float) -> Batch | float | None:
        """A batch to run now, for which `finished` must be called; or seconds after which to ask again; or None."""
        wait: float | None = None
        full: set[str] = set()
        for lane in sorted(self._lanes.values(), key=lambda lane: lane.device_seconds):
            jobs = [job for job in lane.jobs if job.deadline > now]
            if not jobs or len(lane.busy) == lane.num_instances or lane.device in full:
                continue
            if self._used.get(lane.device, 0.0) + lane.device_share > 1 + 1e-9:
                full.add(lane.device)  # those behind it must not take what it waits for
                continue
            delay = _batching_delay(lane, jobs, now)
            if delay <= 0:
                return self._take(lane, jobs)
            wait = delay if wait is None else min(wait, delay)
        return wait

    def finished(self, batch: Batch, seconds: float | None) -> None:
        """A batch has ended. seconds: that it took; None where it failed, which says nothing about speed."""
        job = batch.parts[0].job
        lane = self._lane(job)
        lane.busy.discard(batch.instance)
        self._used[lane.device] -= lane.device_share
        if seconds is not None:
            lane.sizer(job.shape).record(batch.size, seconds)
            lane.device_seconds += seconds - batch.expected_seconds

    def _lane(self, job: ClipJob) -> _Lane:
        runtime = job.runtimes[0]
        if runtime not in self._lanes:
            self._lanes[runtime] = _Lane(len(job.runtimes), "gpu" if uses_gpu(runtime) else "cpu", runtime.batch_size)
        return self._lanes[runtime]

    def _take(self, lane: _Lane, jobs: Sequence[ClipJob]) -> Batch:
        shape = _next_job(jobs).shape
        parts = _fill(lane, [job for job in jobs if job.shape == shape], lane.sizer(shape).best)
        lane.jobs = [job for job in lane.jobs if job.left]
        lane.held_since = None
        instance = min(set(range(lane.num_instances)) - lane.busy)
        expected = lane.sizer(shape).seconds(sum(p.last - p.first for p in parts))
        lane.busy.add(instance)
        self._used[lane.device] = self._used.get(lane.device, 0.0) + lane.device_share
        self._device_seconds[lane.device] = max(lane.device_seconds, self._device_seconds.get(lane.device, 0.0))
        lane.device_seconds += expected
        return Batch(parts=parts, instance=instance, expected_seconds=expected)


def _next_job(jobs: Sequence[ClipJob]) -> ClipJob:
    """The job with the least virtual time; among equal ones the one that came last."""
    return min(reversed(jobs), key=lambda job: job.virtual_time)


def _fill(lane: _Lane, jobs: Sequence[ClipJob], size: int) -> tuple[Part, ...]:
    """Take up to `size` clips, each from the job with the least virtual time."""
    before = {job: job.taken for job in jobs}
    waiting = list(jobs)
    for _ in range(min(size, sum(job.left for job in jobs))):
        job = _next_job(waiting)
        lane.virtual_time += job.clip_bytes / sum(other.weight for other in lane.jobs if other.left)
        job.virtual_time += job.clip_bytes / job.weight
        job.taken += 1
        if not job.left:
            waiting.remove(job)
    return tuple(Part(job, first, job.taken) for job, first in before.items() if job.taken > first)


def _batching_delay(lane: _Lane, jobs: Sequence[ClipJob], now: float) -> float:
    """Seconds that the model should still wait for a fuller batch; 0 or less for none."""
    shape = _next_job(jobs).shape
    delay = lane.sizer(shape).delay(sum(job.left for job in jobs if job.shape == shape))
    if delay <= 0:
        return 0.0
    if lane.held_since is None:
        lane.held_since = now
    return lane.held_since + delay - now
