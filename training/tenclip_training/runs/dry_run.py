"""What a run would do: its videos, its steps and its learning rates, without taking any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenclip_training.data.joint import JointSampler
from tenclip_training.data.sampling import SamplingSummary
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.joint import method_of
from tenclip_training.runs.method import Method
from tenclip_training.runs.optimization import build_optimizer
from tenclip_training.runs.schedules import Schedule, build_schedule
from tenclip_training.runs.setup import build_model, describe_sampling, run_notes
from tenclip_training.runs.transfer import freeze
from tenclip_video.spec import ClipSpec

POINTS = 400  # of the curve in JSON


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPlan:
    """spec: the network's input. clips_per_step: of all processes; parameters: of the network, and of these those that
    are trained.

    sampling: None where videos have no labels. notes: what is said when the run begins.
    """

    config: TrainConfig
    spec: ClipSpec
    architecture: str
    world_size: int
    train_videos: int
    val_videos: int
    num_classes: int
    steps_per_epoch: int
    schedule: Schedule
    sampling: SamplingSummary | None
    parameters: int
    trained_parameters: int
    clips_per_step: int
    notes: tuple[str, ...] = ()

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def curve(self, points: int = POINTS) -> list[tuple[float, float]]:
        """(epoch, rate) at up to `points` steps, the first and the last among them."""
        count = min(points, self.total_steps)
        steps = sorted({round(i * (self.total_steps - 1) / max(count - 1, 1)) for i in range(count)})
        return [(s / self.steps_per_epoch, self.schedule.rate(s)) for s in steps]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "architecture": self.architecture,
            "train_videos": self.train_videos,
            "val_videos": self.val_videos,
            "classes": self.num_classes,
            "processes": self.world_size,
            "clips_per_step": self.clips_per_step,
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
            "peak_learning_rate": self.schedule.peak,
            "sampling": None if self.sampling is None else self.sampling.to_dict(),
            "parameters": self.parameters,
            "trained_parameters": self.trained_parameters,
            "notes": list(self.notes),
            "learning_rates": [{"epoch": e, "rate": r} for e, r in self.curve()],
            "config": self.config.to_dict(),
        }


def plan_run(config: TrainConfig, *, world_size: int = 1, method: Method | None = None) -> RunPlan:
    """Read the splits and make the network of a run, as `world_size` processes would train it. Writes nothing.

    method: as of `train`. Raises what `train` raises for a manifest, a checkpoint or an architecture that will not do.
    """
    method = method or method_of(config)
    splits = method.read_splits(config)
    start = build_model(config, splits.train.labels)
    model = start.model
    freeze(model, config.transfer)
    build_optimizer(model, config.optimizer)  # raises what it raises in a run
    sampler = method.build_sampler(config, splits.train, World(size=world_size))
    steps_per_epoch = sampler.steps_per_epoch
    clips = sum(sampler.batch_sizes) if isinstance(sampler, JointSampler) and sampler.turns is None else None
    return RunPlan(
        config=config,
        spec=start.clip_spec,
        architecture=model.architecture,
        world_size=world_size,
        train_videos=len(splits.train.samples),
        val_videos=0 if splits.val is None else len(splits.val.samples),
        num_classes=len(splits.train.labels),
        steps_per_epoch=steps_per_epoch,
        schedule=build_schedule(
            config.schedule,
            config.optimizer,
            epochs=config.epochs,
            steps_per_epoch=steps_per_epoch,
            world_size=world_size,
        ),
        sampling=describe_sampling(config, splits.train) if any(s.labels for s in splits.train.samples) else None,
        parameters=sum(p.numel() for p in model.parameters()),
        trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        clips_per_step=(clips or config.batch_size * config.optimizer.accumulate) * world_size,
        notes=(*start.notes, *run_notes(model, config), *method.notes),
    )


def plot_text(curve: Sequence[tuple[float, float]], *, width: int = 72, height: int = 14) -> str:
    """The curve (x, y) as lines of text: y logarithmic where it spans more than a factor of 20, zeros at the bottom.

    >>> print(plot_text([(0.0, 0.0), (1.0, 0.5), (2.0, 1.0)], width=6, height=3))
           1 |     *
         0.5 |   *
           0 |*
             +------
              0    2
    """
    xs, ys = [x for x, _ in curve], [y for _, y in curve]
    top = max(ys)
    positive = [y for y in ys if y > 0]
    log = bool(positive) and top > 20 * min(positive)
    low = math.log10(min(positive)) if log else 0.0
    high = math.log10(top) if log else top

    def row(y: float) -> int:
        if high == low or y <= 0:
            return height - 1 if y > 0 else 0
        return round(((math.log10(y) if log else y) - low) / (high - low) * (height - 1))

    span = max(xs) - min(xs)
    cells = [[" "] * width for _ in range(height)]
    for x, y in curve:
        column = min(int((x - min(xs)) / span * width), width - 1) if span else 0
        cells[row(y)][column] = "*"
    lines = []
    for i in reversed(range(height)):
        level = low + (high - low) * i / (height - 1)
        label = f"{10**level if log else level:.2g}" if i % max(1, (height - 1) // 4) == 0 or i == height - 1 else ""
        lines.append(f"{label:>12} |{''.join(cells[i])}".rstrip())
    first, last = f"{min(xs):g}", f"{max(xs):.4g}"
    lines += [f"{'':>12} +{'-' * width}", f"{'':>12}  {first}{last:>{width - len(first)}}"]
    return "\n".join(lines)
