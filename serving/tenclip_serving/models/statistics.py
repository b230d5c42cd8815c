"""How often each model answered, and how long its stages took: what ModelStatistics tells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tenclip_serving.models.repository import Key


@dataclass
class Duration:
    """How many times, and seconds of all of them together."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds


@dataclass
class ModelStatistics:
    """Of one version since the server began, over all protocols. `stages`: by the stages of `Recognition.timings`."""

    success: Duration = field(default_factory=Duration)
    failure: Duration = field(default_factory=Duration)
    stages: dict[str, Duration] = field(default_factory=dict)
    num_clips: int = 0
    last_unix_seconds: float = 0.0


class Statistics:
    """Of every model. Used from the event loop only."""

    def __init__(self) -> None:
        self._models: dict[Key, ModelStatistics] = {}

    def of(self, name: str, version: str) -> ModelStatistics:
        return self._models.setdefault((name, version), ModelStatistics())

    def succeeded(self, key: Key, *, seconds: float, num_clips: int, timings: Mapping[str, float]) -> None:
        """A request of `num_clips` clips was answered `seconds` after it came."""
        statistics = self.of(*key)
        statistics.success.add(seconds)
        for stage, spent in timings.items():
            statistics.stages.setdefault(stage, Duration()).add(spent)
        statistics.num_clips += num_clips
        statistics.last_unix_seconds = time.time()

    def failed(self, key: Key, *, seconds: float) -> None:
        self.of(*key).failure.add(seconds)
