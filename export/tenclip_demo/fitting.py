"""A training run as a piece of work that is gone on with: of the demo, and of every experiment on generated videos."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tenclip_api.errors import CheckpointError
from tenclip_training.runs import train as training
from tenclip_training.runs.config import TrainConfig

# (done, of how many, what)
Progress = Callable[[int, int, str], None]


def train_or_resume(
    config: TrainConfig, progress: Progress | None = None, *, resumed: bool = True
) -> training.TrainResult:
    """Train, or go on with the run in `config.out`; begin anew where it cannot be gone on with.

    resumed: whether a run of this very config may be there; without it, whatever is there is removed.
    Raises what `train` raises, and KeyboardInterrupt where the run was stopped: it is saved.
    """
    folder = Path(config.out)
    if not resumed:
        shutil.rmtree(folder, ignore_errors=True)

    def report(p: training.Progress) -> None:
        assert progress is not None
        if p.stage == "train":
            done = (p.epoch - 1) * p.total + p.done
            progress(done, p.epochs * p.total, f"epoch {p.epoch} of {p.epochs}, loss {p.loss:.3f}")
        else:
            progress(p.done, p.total, "videos into memory" if p.stage == "cache" else "videos validated")

    told = report if progress is not None else None
    try:
        result = training.train(config, resume=True, progress=told)
    except CheckpointError:
        if not resumed:
            raise
        shutil.rmtree(folder)
        result = training.train(config, resume=True, progress=told)
    if not result.completed:
        raise KeyboardInterrupt  # the trainer has caught Ctrl-C, finished its step and saved
    return result
