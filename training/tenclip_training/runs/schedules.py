"""Learning-rate schedules: pure functions of the step, which counts from 0 over all epochs of a run.

A rate is a peak times a factor, with a linear warm-up in front. Nothing is remembered from step to step: the plateau
follows from the validation losses so far, which a run has in its history. So a resumed run has the same rates.

Sources: IG-65M section 3.3 (13 halvings) and tables 8 to 17 (step lists), Kataoka et al. 2020 section 3.4 (plateau),
Goyal et al. 2017 (linear scaling, warm-up from the rate of one GPU), Loshchilov and Hutter 2017 (cosine).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tenclip_training.runs.sections import OptimizerConfig, PlateauRule, ScheduleConfig

# Of torch's ReduceLROnPlateau, with which the mega-scale paper's authors train: a loss counts as better below
# (1 - threshold) of the best one.
PLATEAU_THRESHOLD = 1e-4


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The rate of every step of a run.

    peak: the rate after the warm-up; one_gpu: that of a single process, from which a warm-up may start.
    total_steps counts all epochs; warmup_epochs of `config` must be resolved.
    """

    config: ScheduleConfig
    peak: float
    one_gpu: float
    steps_per_epoch: int
    total_steps: int

    @property
    def warmup_steps(self) -> int:
        assert self.config.warmup_epochs is not None
        return round(self.config.warmup_epochs * self.steps_per_epoch)

    @property
    def milestones(self) -> tuple[int, ...]:
        """Steps before which `steps` multiplies the rate by its factor: the warm-up and the segments summed up."""
        assert self.config.warmup_epochs is not None
        ends = accumulate(self.config.lr_steps, initial=self.config.warmup_epochs)
        return tuple(round(end * self.steps_per_epoch) for end in ends)[1:]

    def rate(self, step: int, val_losses: Sequence[float] = ()) -> float:
        """The rate of a step. val_losses: of the validations so far, in their order; only the plateau looks at them."""
        if step < self.warmup_steps:
            return self._warmup(step)
        return self.peak * self._factor(step, val_losses)

    def _warmup(self, step: int) -> float:
        if self.config.warmup_start == "step":
            return self.peak * (step + 1) / (self.warmup_steps + 1)
        start = {"one-gpu": self.one_gpu, "tenth": self.peak / 10, "zero": 0.0}[self.config.warmup_start]
        return start + (self.peak - start) * step / self.warmup_steps

    def _factor(self, step: int, val_losses: Sequence[float]) -> float:
        config = self.config
        if config.kind == "cosine":
            return cosine_factor(step - self.warmup_steps, self.total_steps - self.warmup_steps)
        if config.kind == "steps":
            return float(config.lr_factor ** sum(step >= m for m in self.milestones))
        if config.kind == "halvings":
            return halvings_factor(step, self.total_steps, config.halvings)
        if config.kind == "plateau":
            return float(
                config.lr_factor ** plateau_reductions(val_losses, config.plateau_patience, config.plateau_rule)
            )
        return 1.0


def build_schedule(
    config: ScheduleConfig, optimizer: OptimizerConfig, *, epochs: int, steps_per_epoch: int, world_size: int
) -> Schedule:
    """The schedule of a run of `world_size` processes. Micro-batches that are accumulated count as processes."""
    one_gpu, peak = rates(optimizer, world_size)
    return Schedule(
        config=config,
        peak=peak,
        one_gpu=one_gpu,
        steps_per_epoch=steps_per_epoch,
        total_steps=epochs * steps_per_epoch,
    )


def rates(optimizer: OptimizerConfig, world_size: int) -> tuple[float, float]:
    """(rate of one GPU, peak rate). Linear scaling (Goyal et al. 2017): the peak is that of a GPU times their number.

    >>> rates(OptimizerConfig(lr=0.0003, lr_scaling="linear"), world_size=64)[1]
    0.0192
    """
    parts = world_size * optimizer.accumulate
    return (
        (optimizer.lr, optimizer.lr * parts)
        if optimizer.lr_scaling == "linear"
        else (optimizer.lr / parts, optimizer.lr)
    )


def cosine_factor(step: int, total_steps: int) -> float:
    """Half a cosine from 1 to 0 at `total_steps` (Loshchilov and Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * (step / max(total_steps, 1))))


def halvings_factor(step: int, total_steps: int, halvings: int) -> float:
    """Halved `halvings` times at equal steps, so in halvings + 1 equal segments (IG-65M, section 3.3).

    >>> [halvings_factor(n, 490, 13) for n in (34, 35, 245, 489)] == [1, 1 / 2, 1 / 2**7, 1 / 2**13]
    True
    """
    return float(2.0 ** -((halvings + 1) * step // total_steps))


def plateau_reductions(losses: Sequence[float], patience: int, rule: PlateauRule = "torch") -> int:
    """How often the rate was lowered after these validation losses.

    torch: as ReduceLROnPlateau, after more than `patience` losses in a row that are no better than the best one.
    literal: after `patience` of them, as the paper says it.

    >>> flat = [1.0] + [1.1] * 30
    >>> [next(n for n in range(31) if plateau_reductions(flat[:n], 10, rule)) for rule in ("torch", "literal")]
    [12, 11]
    """
    best, bad, reductions = math.inf, 0, 0
    for loss in losses:
        better = loss < best * (1 - PLATEAU_THRESHOLD) if rule == "torch" else loss < best
        best, bad = (loss, 0) if better else (best, bad + 1)
        if bad > patience or (rule == "literal" and bad == patience):
            reductions, bad = reductions + 1, 0
    return reductions
