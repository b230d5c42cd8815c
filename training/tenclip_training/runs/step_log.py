"""steps.jsonl of a run, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenclip_api.errors import CheckpointError, MissingDependency
from tenclip_data.atomic import replacing
from tenclip_training.runs.monitor import StepRecord
from tenclip_training.runs.results import EpochResult

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class StepLog:
    """A file with a line for each step, to which lines are added. Each step has one line, also in a resumed run."""

    def __init__(self, path: Path, *, steps_done: int) -> None:
        """Keep the lines of the first `steps_done` steps, and forget those that a run wrote after its last save.

        Raises CheckpointError when the file cannot be read or written.
        """
        self.path = path
        try:
            with replacing(path) as kept:
                if path.exists() and steps_done:
                    with path.open("rb") as before:
                        kept.writelines(line for line in before if 0 < _step_of(line) <= steps_done)
            self._file = path.open("a", encoding="utf-8")
        except OSError as err:
            raise CheckpointError(f"{path}: cannot be written: {err}") from err

    def write(self, records: Iterable[StepRecord]) -> None:
        """Add lines; they may be lost with the process until `flush`. Raises CheckpointError."""
        try:
            self._file.writelines(json.dumps(asdict(r), allow_nan=False) + "\n" for r in records)
            self._file.flush()
        except OSError as err:
            raise CheckpointError(f"{self.path}: cannot be written: {err}") from err

    def close(self) -> None:
        self._file.close()


def _step_of(line: bytes) -> int:
    """The step of a line; 0 for a line that was not written to its end."""
    try:
        step = json.loads(line)["step"] if line.endswith(b"\n") else 0
    except (ValueError, KeyError, TypeError):
        return 0
    return step if isinstance(step, int) else 0


class TensorBoard:
    """Event files in a folder: the numbers of each step under train/, of each epoch under epoch/ and val/."""

    def __init__(self, folder: Path, *, steps_done: int) -> None:
        """Steps after `steps_done` that an earlier part of the run has written are hidden by TensorBoard.

        Raises MissingDependency without the extra.
        """
        self._writer = _summary_writer(folder, steps_done)

    def write(self, records: Iterable[StepRecord]) -> None:
        """Add the numbers of steps."""
        for record in records:
            for name, value in asdict(record).items():
                if name not in ("epoch", "step", "clips") and value is not None:
                    self._add(f"train/{name}", value, record.step)

    def write_epoch(self, result: EpochResult, *, step: int) -> None:
        """Add the numbers of an epoch that ended with `step`."""
        for name, value in asdict(result).items():
            if isinstance(value, int | float) and name != "epoch":
                self._add(f"val/{name[4:]}" if name.startswith("val_") else f"epoch/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _add(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)


def _summary_writer(folder: Path, steps_done: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as err:
        raise MissingDependency(
            "--tensorboard needs the extra tensorboard: pip install 'tenclip[tensorboard]'"
        ) from err
    options: dict[str, Any] = {"purge_step": steps_done + 1}
    return SummaryWriter(str(folder), **options)
