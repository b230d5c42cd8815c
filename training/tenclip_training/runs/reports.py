"""What a run tells while it runs: its caller, history.jsonl, steps.jsonl and TensorBoard. The first process tells."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.epoch_meter import EpochMeter
from tenclip_training.runs.monitor import StepRecord
from tenclip_training.runs.results import EpochResult, Progress, Stage
from tenclip_training.runs.run_folder import RunFolder
from tenclip_training.runs.run_state import RunState
from tenclip_training.runs.step_log import StepLog, TensorBoard


class Reports:
    """The reports of one run. progress, on_epoch: see `train`."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        state: RunState,
        progress: Callable[[Progress], None] | None,
        on_epoch: Callable[[EpochResult], None] | None,
    ) -> None:
        self.config, self.folder, self.state = config, folder, state
        is_first = folder.world.is_first
        self._on_progress, self._on_epoch = progress if is_first else None, on_epoch if is_first else None
        self._log: StepLog | None = None
        self._board: TensorBoard | None = None

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Closes the files to which lines are added, however the run ends."""
        try:
            yield
        finally:
            for file in (self._log, self._board):
                if file is not None:
                    file.close()

    def open(self, *, steps_done: int) -> None:
        """Begin the files, or go on with them after `steps_done` steps. Raises CheckpointError, MissingDependency."""
        self.folder.write_history(self.state.history)
        if self.folder.world.is_first:
            self._log = StepLog(self.folder.steps, steps_done=steps_done)
            if self.config.tensorboard:
                self._board = TensorBoard(self.folder.tensorboard, steps_done=steps_done)

    def steps(self, records: Sequence[StepRecord]) -> None:
        """Take down steps. Raises CheckpointError when the disk is full."""
        if self._log is not None:
            self._log.write(records)
        if self._board is not None:
            self._board.write(records)

    def epoch(self, result: EpochResult, *, step: int) -> None:
        """Take down an epoch, the last one of the history, which ended with `step`."""
        self.folder.write_history(self.state.history)
        if self._board is not None:
            self._board.write_epoch(result, step=step)
        if self._on_epoch is not None:
            self._on_epoch(result)

    def step(self, meter: EpochMeter, *, steps: int, learning_rate: float, pace: float | None, validates: bool) -> None:
        """Tell the caller of a step, the newest of an epoch of `steps`. pace: seconds a step, None: not known yet."""
        left = self.config.epochs - self.state.epoch
        epoch_seconds = run_seconds = None
        if pace is not None:
            epoch_seconds = pace * (steps - self.state.step)
            validations = -(-left // self.config.val_every) if validates else 0
            run_seconds = epoch_seconds + (left - 1) * steps * pace + validations * self.state.val_seconds
        self.progress(
            "train",
            self.state.step,
            steps,
            loss=meter.mean_loss,
            learning_rate=learning_rate,
            clips_per_second=meter.clips_per_second,
            data_wait_share=meter.data_wait_share,
            epoch_seconds_left=epoch_seconds,
            run_seconds_left=run_seconds,
            val_video_top1=self.state.last_val_top1,
        )

    def progress(self, stage: Stage, done: int, total: int, **more: Any) -> None:
        """Tell the caller how far the run is."""
        if self._on_progress is not None:
            epoch = min(self.state.epoch + 1, self.config.epochs)
            self._on_progress(
                Progress(stage=stage, done=done, total=total, epoch=epoch, epochs=self.config.epochs, **more)
            )
