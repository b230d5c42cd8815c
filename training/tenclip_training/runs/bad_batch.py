"""A loss or a gradient that is not finite: the batch is kept, and the run ends with what can be done about it."""

from __future__ import annotations

import contextlib
import shlex
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tenclip_api.errors import TrainingDiverged
from tenclip_data.atomic import replacing
from tenclip_training.data.dataset import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenBatch:
    """What a step was given. step counts from 1 over the run, epoch from 1."""

    epoch: int
    step: int
    learning_rate: float
    batch: Batch


class BatchKeeper:
    """The batches of the last steps, of which one may turn out to be bad when their losses are read."""

    def __init__(self, path: Path, *, steps: int) -> None:
        self.path = path
        self._given: deque[GivenBatch] = deque(maxlen=steps)

    def add(self, given: GivenBatch) -> None:
        """Remember a batch until `steps` later ones were added."""
        self._given.append(given)

    def write(self, step: int, facts: dict[str, Any]) -> str:
        """Keep the batch of `step` in a file that `torch.load` reads with weights_only. Returns a note for the user.

        It holds clips uint8 [B,T,crop,crop,3], targets float32 [B,K], videos (B names), epoch, step, learning_rate and
        `facts`. A disk that is full is no reason to hide what has happened: the note says that nothing was kept.
        """
        given = next((g for g in self._given if g.step == step), None)
        if given is None:
            return "its batch is not known"
        content = {
            "clips": given.batch.clips,
            "targets": given.batch.targets,
            "videos": list(given.batch.videos),
            "epoch": given.epoch,
            "step": given.step,
            "learning_rate": given.learning_rate,
            **facts,
        }
        try:
            with replacing(self.path) as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as err:
            return f"its batch could not be kept in {self.path}: {err}"
        return f"its batch is kept in {self.path}"


def forget_bad_batches(folder: Path) -> None:
    """Remove what an earlier run has kept in the folder."""
    for path in folder.glob("nan-batch*.pt"):
        with contextlib.suppress(OSError):
            path.unlink()


def not_finite(run: Path, *, epoch: int, step: int, what: str, kept: str, saved: int | None) -> TrainingDiverged:
    """The error that ends the run. what: the loss or the gradient; saved: the steps that last.pt has, None: none."""
    state = "nothing was saved before it" if saved is None else f"last.pt is of step {saved}, before it"
    return TrainingDiverged(
        f"{run}: the {what} of step {step} (epoch {epoch}) is not finite; {kept}; {state}. Look at that batch, then go "
        f"on with a lower --lr, a limit such as --clip-gradients 1, or --precision fp32: "
        f"tenclip train --resume {shlex.quote(str(run))} --clip-gradients 1"
    )
