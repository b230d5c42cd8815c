"""A loss or a gradient that is not finite: the batch is kept, and the run ends with what can be done about it."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tenclip_api.errors import TrainingDiverged
from tenclip_data.atomic import replacing
from tenclip_training.data.dataset import Batch
from tenclip_training.data.joint import JointSampler
from tenclip_training.data.samplers import EpochSampler


def make_again(
    sampler: EpochSampler | JointSampler, dataset: Any, collate: Callable[[list[Any]], Batch], *, step: int
) -> Batch:
    """The batch of a step, which counts from 1 over the run: its clips follow from the seed and their place in it.

    So nothing has to be kept of the steps whose losses were not read yet.
    """
    epoch, within = divmod(step - 1, sampler.steps_per_epoch)
    rest = dataclasses.replace(sampler, first_epoch=epoch, first_step=within)
    draws: list[Any] = list(next(iter(rest)))
    return collate([dataset[draw] for draw in draws])


def keep_batch(path: Path, batch: Batch, facts: dict[str, Any]) -> str:
    """Write a batch to a file that `torch.load` reads with weights_only. Returns a note for the user.

    It holds clips uint8 [B,T,crop,crop,3], targets float32 [B,K], videos (B names) and `facts`. A disk that is full is
    no reason to hide what has happened: the note says that nothing was kept.
    """
    content = {"clips": batch.clips, "targets": batch.targets, "videos": list(batch.videos), **facts}
    try:
        with replacing(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as err:
        return f"its batch could not be kept in {path}: {err}"
    return f"its batch is kept in {path}"


def forget_bad_batches(folder: Path) -> None:
    """Remove what an earlier run has kept in the folder."""
    for path in folder.glob("nan-batch*.pt"):
        with contextlib.suppress(OSError):
            path.unlink()


def not_finite(
    run: Path,
    *,
    epoch: int,
    step: int,
    what: str,
    kept: str,
    saved: int | None,
    command: str = "tenclip train",
) -> TrainingDiverged:
    """The error that ends the run. what: the loss or the gradient; saved: the steps that last.pt has, None: none."""
    state = "nothing was saved before it" if saved is None else f"last.pt is of step {saved}, before it"
    return TrainingDiverged(
        f"{run}: the {what} of step {step} (epoch {epoch}) is not finite; {kept}; {state}. Look at that batch, then go "
        f"on with a lower --lr, a limit such as --clip-gradients 1, or --precision fp32: "
        f"{command} --resume {shlex.quote(str(run))} --clip-gradients 1"
    )
