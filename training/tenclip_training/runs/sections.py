"""The sections of a TrainConfig: what belongs together and is set together, as `--set optimizer.lr=0.1`.

Every field is an option of `tenclip train`; its `Setting` has the help, the limits and the name of the option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tenclip_settings import Setting, TextForm, check_all

Algorithm = Literal["sgd", "adamw"]
LrScaling = Literal["none", "linear"]
ScheduleKind = Literal["cosine", "steps", "halvings", "plateau", "constant"]
WarmupStart = Literal["step", "one-gpu", "tenth", "zero"]
PlateauRule = Literal["torch", "literal"]

# Headings in --help.
MODEL, OPTIMISATION, SCHEDULE, SAMPLING = "Model", "Optimisation", "Learning rate", "Sampling"


def _parse_epochs(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("write epochs with commas between them, e.g. 16,16") from None


EPOCHS = TextForm(_parse_epochs, lambda values: ",".join(f"{v:g}" for v in values), metavar="N,N,...")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser. The defaults are this project's: Nesterov momentum, and no weight decay on biases and norms.

    VMZ, IG-65M and 3D-ResNets use plain momentum and decay every parameter: nesterov False and decay_all True.
    lr_scaling "linear": `lr` is that of one process (GPU), and the peak is it times processes and micro-batches.
    accumulate: micro-batches of `batch_size` clips in one step. Each has batch-norm statistics of its own, as the GPUs
    of a larger machine would: 64 of them on one GPU are a step of 64 GPUs.
    """

    algorithm: Annotated[
        Algorithm, Setting("SGD with momentum, or AdamW.", option="--optimizer", group=OPTIMISATION)
    ] = "sgd"
    lr: Annotated[
        float,
        Setting("Peak learning rate.", above=0, option="--learning-rate", aliases=("--lr",), group=SCHEDULE),
    ] = 0.01
    lr_scaling: Annotated[
        LrScaling,
        Setting(
            "none: --lr is for the batches of all processes; linear: for one process, times their number.",
            group=SCHEDULE,
        ),
    ] = "none"
    momentum: Annotated[float, Setting("Of SGD; beta 1 of AdamW.", lowest=0, below=1, group=OPTIMISATION)] = 0.9
    nesterov: Annotated[bool, Setting("Nesterov momentum; plain where not.", group=OPTIMISATION)] = True
    weight_decay: Annotated[float, Setting("L2 with SGD; decoupled with AdamW.", lowest=0, group=OPTIMISATION)] = 1e-4
    decay_all: Annotated[bool, Setting("Weight decay on biases and norms, too.", group=OPTIMISATION)] = False
    max_gradient_norm: Annotated[
        float,
        Setting(
            "Largest norm of a gradient; 0: any.",
            lowest=0,
            option="--clip-gradients",
            aliases=("--max-gradient-norm",),
            group=OPTIMISATION,
        ),
    ] = 0.0
    accumulate: Annotated[int, Setting("Batches whose gradients make one step.", lowest=1, group=OPTIMISATION)] = 1

    def __post_init__(self) -> None:
        check_all(self)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over a run, see `schedules.py`. A warm-up and a cosine by default, this project's own.

    warmup_epochs None becomes 5, or half of the epochs where that is less.
    warmup_start: step climbs from peak / (steps + 1); one-gpu from the rate of a single process (Goyal et al. 2017),
    tenth from a tenth of the peak, zero from 0.
    lr_steps: epochs of each segment of `steps`; after the warm-up and each of them the rate is times `lr_factor`.
    """

    kind: Annotated[
        ScheduleKind,
        Setting(
            "cosine to zero; steps: --lr-steps; halvings: IG-65M's pre-training; plateau: --lr-factor when the "
            "validation loss stays; constant.",
            option="--schedule",
            group=SCHEDULE,
        ),
    ] = "cosine"
    warmup_epochs: Annotated[
        float | None,
        Setting(
            "The rate climbs to its peak so long.",
            lowest=0,
            group=SCHEDULE,
            default="5, or half of the epochs where that is less",
        ),
    ] = None
    warmup_start: Annotated[
        WarmupStart,
        Setting("Where the warm-up starts: one step's share, the rate of one GPU, a tenth, or zero.", group=SCHEDULE),
    ] = "step"
    lr_steps: Annotated[
        tuple[float, ...],
        Setting("Epochs of each segment of schedule steps, e.g. 16,16.", form=EPOCHS, group=SCHEDULE),
    ] = ()
    lr_factor: Annotated[float, Setting("Of schedules steps and plateau.", above=0, below=1, group=SCHEDULE)] = 0.1
    halvings: Annotated[int, Setting("Of schedule halvings, at equal steps.", lowest=1, group=SCHEDULE)] = 13
    plateau_patience: Annotated[
        int, Setting("Validations without a better loss before the rate is lowered.", lowest=1, group=SCHEDULE)
    ] = 10
    plateau_rule: Annotated[
        PlateauRule,
        Setting("torch: lowered after more than --plateau-patience of them; literal: after so many.", group=SCHEDULE),
    ] = "torch"

    def __post_init__(self) -> None:
        check_all(self)
        if any(not step > 0 for step in self.lr_steps):
            raise ValueError(f"lr_steps must be above 0 epochs each, got {EPOCHS.show(self.lr_steps)}")
        if self.kind == "steps" and not self.lr_steps:
            raise ValueError("schedule steps needs lr_steps, the epochs of its segments, e.g. 16,16")
        if self.kind != "steps" and self.lr_steps:
            raise ValueError(f"lr_steps belong to schedule steps, not to {self.kind}")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which clips an epoch draws."""

    clips_per_video: Annotated[int, Setting("Random clips of each video in an epoch.", lowest=1, group=SAMPLING)] = 1

    def __post_init__(self) -> None:
        check_all(self)


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What a run minimises."""

    label_smoothing: Annotated[
        float, Setting("Part of a target that is spread over all classes.", lowest=0, below=1, group=OPTIMISATION)
    ] = 0.0

    def __post_init__(self) -> None:
        check_all(self)


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What a run starts from, and which of it is trained."""

    init_from: Annotated[
        str | None,
        Setting(
            "Checkpoint to fine-tune, ours or a public one; brings its architecture and clips.",
            is_path=True,
            group=MODEL,
            default="random weights",
        ),
    ] = None
    init_family: Annotated[
        str | None, Setting("Family of a public checkpoint.", group=MODEL, default="as its weights tell")
    ] = None

    def __post_init__(self) -> None:
        check_all(self)
