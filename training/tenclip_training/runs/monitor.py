"""What a run knows of itself while it runs: each step's numbers, its speed, and the time it waits for clips.

Numbers of a step stay on the device, and are read in blocks: at each step on a CPU, every so many steps on a GPU, which
works on meanwhile. All processes read together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from tenclip_training.runs.distributed import World

T = TypeVar("T")

# Reading a number from a GPU waits until it has done all its work.
GPU_STEPS_PER_BLOCK = 20


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A line of steps.jsonl. step counts from 1 over the whole run.

    loss: mean over the step's clips, of all processes; None where no video of the batch could be read. gradient_norm:
    before it was limited; None where float16's loss scaling left the step out. clips_per_second: of all processes.
    data_wait_share: the part of the time that went on waiting for clips. Both are means over the steps that are read
    together.
    """

    epoch: int
    step: int
    loss: float | None
    learning_rate: float
    gradient_norm: float | None
    clips: int
    clips_per_second: float
    data_wait_share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class StepNumbers:
    """Of one step in one process, on its device. loss, correct: sums over its clips; gradient_norm: of all clips."""

    loss: Tensor
    correct: Tensor
    gradient_norm: Tensor | None
    clips: int


@dataclass(frozen=True, kw_only=True)
class ReadStep:
    """The numbers of a step over all processes, and whether they are finite in each of them.

    loss, correct: sums over the step's clips; own_loss: the mean over those of this process.
    """

    record: StepRecord
    loss: float
    correct: float
    own_loss: float
    finite: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pending:
    epoch: int
    step: int
    learning_rate: float
    numbers: StepNumbers | None


class Monitor:
    """The steps that were not read yet, and the clocks. `wait_seconds` and `step_seconds` are of the last block."""

    def __init__(self, world: World, device: torch.device) -> None:
        self.world, self.device = world, device
        self.block = 1 if device.type == "cpu" else GPU_STEPS_PER_BLOCK
        self.step_seconds = self.wait_seconds = 0.0
        self._all_seconds, self._all_steps = 0.0, 0
        self._wait = _WaitTimer(device)
        self._pending: list[_Pending] = []
        self._busy = 0.0
        self._began = time.monotonic()

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, with the time that each is waited for."""
        iterator = iter(batches)
        while True:
            self._began = time.monotonic()
            self._wait.start()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._wait.stop()
            yield batch

    def add(self, epoch: int, step: int, learning_rate: float, numbers: StepNumbers | None) -> None:
        """Take down a step. numbers: None where it was passed over."""
        self._pending.append(_Pending(epoch=epoch, step=step, learning_rate=learning_rate, numbers=numbers))

    @property
    def is_full(self) -> bool:
        """Whether it is time to read."""
        return len(self._pending) >= self.block

    def end_step(self) -> None:
        """The step's work is done, or queued on the GPU; what follows is not its time."""
        self._busy += time.monotonic() - self._began

    @property
    def seconds_per_step(self) -> float | None:
        """The mean since the run was started or resumed, None before the first reading."""
        return self._all_seconds / self._all_steps if self._all_steps else None

    def read(self) -> list[ReadStep]:
        """The steps since the last reading, in their order. Every process has to call it at the same step."""
        pending, self._pending = self._pending, []
        if not pending:
            self.step_seconds = self.wait_seconds = 0.0
            return []
        began = time.monotonic()
        sums, losses, norms = self._over_processes(pending)
        self.step_seconds = self._busy + time.monotonic() - began
        self.wait_seconds = min(self._wait.seconds(), self.step_seconds)
        self._busy = 0.0
        self._all_seconds, self._all_steps = self._all_seconds + self.step_seconds, self._all_steps + len(pending)
        clips = sum(row[2] for row in sums)
        speed = clips / self.step_seconds if self.step_seconds > 0 else 0.0
        share = self.wait_seconds / self.step_seconds if self.step_seconds > 0 else 0.0
        return [
            _read(step, row, loss, norm, speed, share)
            for step, row, loss, norm in zip(pending, sums, losses, norms, strict=True)
        ]

    def _over_processes(self, pending: list[_Pending]) -> tuple[list[list[float]], list[float], list[float]]:
        """Of each step: sums over all processes (loss, correct, clips, how many have numbers that are not finite), the
        sum of the losses of this process, and the norm of the gradient."""
        zero = torch.zeros((), device=self.device, dtype=torch.float64)
        rows, losses, norms = [], [], []
        for step in pending:
            n = step.numbers or StepNumbers(loss=zero, correct=zero, gradient_norm=None, clips=0)
            loss, norm = n.loss.double(), zero if n.gradient_norm is None else n.gradient_norm.double()
            bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
            rows.append(torch.stack([loss, n.correct.double(), zero + n.clips, bad.double()]))
            losses.append(loss)
            norms.append(norm)
        sums: list[list[float]] = self.world.sum(torch.stack(rows)).tolist()
        return sums, torch.stack(losses).tolist(), torch.stack(norms).tolist()


def _read(step: _Pending, row: list[float], own_loss: float, norm: float, speed: float, share: float) -> ReadStep:
    loss, correct, clips, bad = row
    has_norm = step.numbers is not None and step.numbers.gradient_norm is not None and math.isfinite(norm)
    record = StepRecord(
        epoch=step.epoch,
        step=step.step,
        loss=loss / clips if clips and math.isfinite(loss) else None,
        learning_rate=step.learning_rate,
        gradient_norm=norm if has_norm else None,
        clips=int(clips),
        clips_per_second=round(speed, 3),
        data_wait_share=round(share, 4),
    )
    mean = own_loss / step.numbers.clips if step.numbers is not None and step.numbers.clips else math.nan
    return ReadStep(record=record, loss=loss, correct=correct, own_loss=mean, finite=not bad)


class _WaitTimer:
    """Seconds in which clips were waited for: by this process on a CPU, by the device itself on a GPU.

    A GPU has steps queued while the process waits for the next clips. Only where it runs dry is time lost, which is the
    time between two events around the wait, as the GPU sees them: close together as long as it is busy.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._total = 0.0
        self._began = 0.0

    def start(self) -> None:
        if self._on_gpu:
            self._first = _recorded_event()
        self._began = time.monotonic()

    def stop(self) -> None:
        if self._on_gpu:
            self._events.append((self._first, _recorded_event()))
        else:
            self._total += time.monotonic() - self._began

    def seconds(self) -> float:
        """Of all waits since the last call. Call it when the GPU has done its work."""
        dry: float = sum(a.elapsed_time(b) / 1000 for a, b in self._events)
        total, self._total = self._total + dry, 0.0
        self._events.clear()
        return total


def _recorded_event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
