"""Counters for each model: how often it answered, and how long the stages took. ModelStatistics reports them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tenclip_serving.models.directory import Key


@dataclass
class Duration:
    """A number of measurements, and the sum of their seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds


@dataclass
class ModelStatistics:
    """Counters for one model version since server start, over all protocols.

    stages: by stage, as in `Recognition.timings`.
    """

    success: Duration = field(default_factory=Duration)
    failure: Duration = field(default_factory=Duration)
    stages: dict[str, Duration] = field(default_factory=dict)
    num_clips: int = 0
    last_unix_seconds: float = 0.0


@dataclass
class Outcome:
    """The numbers that `Statistics.counted` adds for a request that succeeds. timings: seconds by stage."""

    num_clips: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)


class Statistics:
    """Counters for every model version. Used from the event loop only."""

    def __init__(self) -> None:
        self._models: dict[Key, ModelStatistics] = {}

    def of(self, name: str, version: str) -> ModelStatistics:
        return self._models.setdefault((name, version), ModelStatistics())

    @contextmanager
    def counted(self, key: Key) -> Iterator[Outcome]:
        """Counts what happens within as one request: a failure where it raises or is cancelled, else a success."""
        outcome, started = Outcome(), time.perf_counter()
        try:
            yield outcome
        except BaseException:
            self.of(*key).failure.add(time.perf_counter() - started)
            raise
        self._succeeded(key, time.perf_counter() - started, outcome)

    def _succeeded(self, key: Key, seconds: float, outcome: Outcome) -> None:
        statistics = self.of(*key)
        statistics.success.add(seconds)
        for stage, spent in outcome.timings.items():
            statistics.stages.setdefault(stage, Duration()).add(spent)
        statistics.num_clips += outcome.num_clips
        statistics.last_unix_seconds = time.time()
