"""Sums over an epoch: the loss, the clips that are right, the time and what of it went on waiting for clips."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class EpochMeter:
    """Sums over the steps of one epoch: over the clips of all processes, and the time of this one.

    loss, correct, clips: summed over clips. step_seconds: spent on steps and on waiting for their clips, without
    validation, saving and the cache; wait_seconds: the waiting alone.
    """

    loss: float = 0.0
    correct: float = 0.0
    clips: int = 0
    step_seconds: float = 0.0
    wait_seconds: float = 0.0
    _seconds: float = 0.0
    _clock: float = 0.0

    def start_clock(self) -> None:
        """Time counts from here on, and not while a cache was filled."""
        self._clock = time.monotonic()

    def add(self, *, loss: float, correct: float, clips: int) -> None:
        """Add a step of all processes: sums over its clips."""
        self.loss += loss
        self.correct += correct
        self.clips += clips

    def add_time(self, *, step_seconds: float, wait_seconds: float) -> None:
        """Add the time of some steps."""
        self.step_seconds += step_seconds
        self.wait_seconds += wait_seconds

    @property
    def mean_loss(self) -> float:
        """The mean loss of the epoch's clips so far; NaN before the first."""
        return self.loss / self.clips if self.clips else math.nan

    @property
    def clips_per_second(self) -> float:
        """Clips of all processes a second of steps."""
        return self.clips / self.step_seconds if self.step_seconds else 0.0

    @property
    def data_wait_share(self) -> float:
        """The part of the time of steps that went on waiting for clips."""
        return self.wait_seconds / self.step_seconds if self.step_seconds else 0.0

    def seconds(self) -> float:
        """The seconds of the epoch so far, those before a resumed run was stopped included."""
        now = time.monotonic()
        self._seconds, self._clock = self._seconds + now - self._clock, now
        return self._seconds

    def reset(self) -> None:
        """Begin the next epoch. Time goes on from the last call of `seconds`."""
        self.__dict__.update(asdict(EpochMeter(_clock=self._clock)))

    def state_dict(self) -> dict[str, Any]:
        """Plain values, from which `load_state_dict` goes on."""
        self.seconds()
        return {"meter": {name: value for name, value in asdict(self).items() if name != "_clock"}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises KeyError or TypeError for a state of something else."""
        self.__dict__.update(asdict(EpochMeter(**state["meter"], _clock=self._clock)))
