"""Sums over an epoch: the loss, the clips that are right, the time."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from tenclip_training.runs.distributed import World


class EpochMeter:
    """Sums over the training clips of one epoch in this process, and its seconds so far.

    The sums stay on the device: reading them waits until a GPU has done all its work.
    """

    def __init__(self, device: torch.device) -> None:
        self._totals = torch.zeros(3, dtype=torch.float64, device=device)  # loss, correct, clips
        self._seconds, self._clock = 0.0, time.monotonic()

    def start_clock(self) -> None:
        """Time counts from here on, and not while a cache was filled."""
        self._clock = time.monotonic()

    def add(self, loss: Tensor, correct: Tensor, count: int) -> None:
        """Add a batch of `count` clips. loss: their mean; correct: how many are right; float32 scalars."""
        self._totals += torch.stack([loss * count, correct, torch.full_like(loss, count)]).double()

    def mean_loss(self) -> float:
        """The mean loss of the epoch's clips so far; NaN before the first."""
        loss, _, clips = self._totals.tolist()
        return loss / clips if clips else math.nan

    def sums(self, world: World) -> tuple[float, float, int]:
        """(loss, correct, clips) over all processes; changes the sums of this one, so it is for an epoch's end."""
        loss, correct, clips = world.sum(self._totals).tolist()
        return loss, correct, int(clips)

    def seconds(self) -> float:
        """The seconds of the epoch so far, those before a resumed run was stopped included."""
        now = time.monotonic()
        self._seconds, self._clock = self._seconds + now - self._clock, now
        return self._seconds

    def reset(self) -> None:
        """Begin the next epoch. Time goes on from the last call of `seconds`."""
        self._totals.zero_()
        self._seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, from which `load_state_dict` goes on."""
        return {"totals": self._totals.cpu(), "seconds": self.seconds()}

    def load_state_dict(self, state: dict[str, Any], world: World) -> None:
        """Raises KeyError, ValueError or TypeError for a state of something else."""
        if world.is_first:  # sums are added up over processes at the end of the epoch
            self._totals.copy_(state["totals"])
        self._seconds = state["seconds"]
