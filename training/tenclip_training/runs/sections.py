"""The sections of a TrainConfig: what belongs together and is set together, as `--set optimizer.lr=0.1`.

Every field is an option of `tenclip train`; its `Setting` has the help, the limits and the name of the option.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tenclip_settings import Setting, TextForm, check_all
from tenclip_training.data.tags import Tags

Algorithm = Literal["sgd", "adamw"]
LrScaling = Literal["none", "linear"]
ScheduleKind = Literal["cosine", "steps", "halvings", "plateau", "constant"]
WarmupStart = Literal["step", "one-gpu", "tenth", "zero"]
Turns = Literal["union", "alternate"]
PlateauRule = Literal["torch", "literal"]
Loss = Literal["softmax", "sigmoid", "softmax+sigmoid"]
BatchNorm = Literal["train", "frozen", "sync"]

# Headings in --help.
MODEL, OPTIMISATION, SCHEDULE, SAMPLING = "Model", "Optimisation", "Learning rate", "Sampling"
JOINT = "Joint training"


def _parse_epochs(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("write epochs with commas between them, e.g. 16,16") from None


def _parse_counts(separator: str, example: str) -> Callable[[str], tuple[int, ...]]:
    def parse(text: str) -> tuple[int, ...]:
        parts = [part.strip() for part in text.split(separator)]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ValueError(f"write whole numbers above 0, e.g. {example}")
        return tuple(int(part) for part in parts)

    return parse


RATIO = TextForm(_parse_counts(":", "2:1:1"), lambda values: ":".join(map(str, values)), metavar="N:N:...")
SIZES = TextForm(_parse_counts(",", "64,12"), lambda values: ",".join(map(str, values)), metavar="N,N,...")
EPOCHS = TextForm(_parse_epochs, lambda values: ",".join(f"{v:g}" for v in values), metavar="N,N,...")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser. The defaults are this project's: Nesterov momentum, and no weight decay on biases and norms.

    VMZ, IG-65M and 3D-ResNets use plain momentum and decay every parameter: nesterov False and decay_all True.
    lr_scaling "linear": `lr` is that of one process (GPU), and the peak is it times processes and micro-batches.
    accumulate: micro-batches of `batch_size` clips in one step. Each has batch-norm statistics of its own, as the GPUs
    of a larger machine would: 64 of them on one GPU are a step of 64 GPUs.
    ema: see `WeightAverage`; the averaged model is the one that is validated and saved.
    layer_lr: factors of the rate for stages of the network (see `VideoModel.stages`), 1 for those that it does not
    name. 0 leaves the weights of a stage as they are; its batch norm statistics still move, unlike with `freeze_to`.
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
    ema: Annotated[
        float,
        Setting(
            "Validate and save the moving average of the weights with this decay, e.g. 0.999; 0: the weights.",
            lowest=0,
            below=1,
            group=OPTIMISATION,
        ),
    ] = 0.0
    layer_lr: Annotated[
        dict[str, Any],
        Setting("STAGE=FACTOR of the learning rate, e.g. layer4=0.1; repeat for more stages.", group=SCHEDULE),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_all(self)
        for stage, factor in self.layer_lr.items():
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor < math.inf:
                raise ValueError(f"layer_lr of {stage} must be a number from 0 on, got {factor!r}")


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
    """Which clips an epoch draws, and what a softmax makes of videos with several tags.

    With class_power a or class_cap N a class is drawn first, with p ~ min(videos, N)^a: 0.5 is IG-65M's square root,
    0.2 OmniSource's power law, 0 balanced; N = 5000 as OmniSource clips, which is read here as
    a probability and not as a fixed subset of N videos a class. Without, every video is drawn.
    draws is the number of clips in an epoch, of all processes together; None: `clips_per_video` of each video.
    tags: see `data/tags.py`; IG-65M draws one.
    segments: see `data/segments.py`; tests then take protocol tsn-3 or tsn-25, on clips of one frame.
    """

    tags: Annotated[
        Tags,
        Setting(
            "Several labels of a video: soft, 1/k for each of the k; draw, one of them at each visit (IG-65M); fixed, "
            "one of them for good.",
            group=SAMPLING,
        ),
    ] = "soft"
    class_power: Annotated[
        float | None,
        Setting(
            "Draw a class first, by its number of videos to this power: 0.5 square root, 0.2 power law, 0 balanced.",
            lowest=0,
            highest=1,
            group=SAMPLING,
            default="every video in turn",
        ),
    ] = None
    class_cap: Annotated[
        int | None,
        Setting("Draw a class first, by its number of videos, or this if it is less.", lowest=1, group=SAMPLING),
    ] = None
    draws: Annotated[
        int | None,
        Setting("Clips in an epoch of all processes.", lowest=1, group=SAMPLING, default="as many as there are videos"),
    ] = None
    clips_per_video: Annotated[int, Setting("Random clips of each video in an epoch.", lowest=1, group=SAMPLING)] = 1
    shuffle_shards: Annotated[
        int,
        Setting(
            "Tar shards whose videos are mixed at a time; 0: all, best from local disks.", lowest=0, group=SAMPLING
        ),
    ] = 4
    segments: Annotated[
        int | None,
        Setting(
            "A clip is a frame of each of so many equal parts of the video (TSN); for networks of frames.",
            lowest=1,
            group=SAMPLING,
            default="consecutive frames",
        ),
    ] = None

    def __post_init__(self) -> None:
        check_all(self)
        if self.draws is not None and self.clips_per_video != 1:
            raise ValueError(
                f"draws ({self.draws}) is the number of clips in an epoch, and clips_per_video "
                f"({self.clips_per_video}) times the videos is, too: give one of them"
            )


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """Auxiliary sources that are learned from beside the target (OmniSource, 3.2 and 3.6); see `data/joint.py`.

    Their labels are the target's. ratio: clips of the target and of each source in a step; () is 2 to 1 each, as in the
    paper. turns "alternate": a step with each source by itself, as many in turn as the ratio says, as the code released
    with the paper does it; each of `batch_size` clips, or of `aux_batch`, one number a source.
    aux_power, aux_cap: as class_power and class_cap, within each source. OmniSource finds 0.2 best, 5000 second.
    cross_mixup: alpha of mixup of each auxiliary clip with one of the target; `mixup` blends within each source. The
    paper uses them from scratch only.
    """

    aux: Annotated[
        tuple[str, ...],
        Setting(
            "Manifest of an auxiliary source to learn from beside the target; one or more.", is_path=True, group=JOINT
        ),
    ] = ()
    ratio: Annotated[
        tuple[int, ...],
        Setting("Clips of the target, and of each source, e.g. 2:1:1.", form=RATIO, group=JOINT, default="2:1:1:..."),
    ] = ()
    turns: Annotated[
        Turns,
        Setting("All sources in each step, or steps with one source in turn.", option="--joint", group=JOINT),
    ] = "union"
    aux_batch: Annotated[
        tuple[int, ...],
        Setting(
            "With --joint alternate: clips in a batch of each source, e.g. 64,12.",
            form=SIZES,
            group=JOINT,
            default="--batch-size",
        ),
    ] = ()
    aux_power: Annotated[
        float | None,
        Setting(
            "Draw classes of each source by their number of files to this power, e.g. 0.2.",
            lowest=0,
            highest=1,
            group=JOINT,
            default="every file in turn",
        ),
    ] = None
    aux_cap: Annotated[
        int | None,
        Setting("Draw classes of each source by their number of files, or this if it is less.", lowest=1, group=JOINT),
    ] = None
    cross_mixup: Annotated[
        float,
        Setting(
            "Alpha of mixup of auxiliary clips with clips of the target; 0: none.",
            lowest=0,
            below=math.inf,
            group=JOINT,
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        check_all(self)
        if len(set(self.aux)) < len(self.aux):
            raise ValueError("an auxiliary source is named twice")
        if self.aux and self.ratio and len(self.ratio) != len(self.aux) + 1:
            raise ValueError(
                f"ratio {RATIO.show(self.ratio)} has {len(self.ratio)} parts for the target and {len(self.aux)} sources"
            )
        if self.aux_batch and self.turns != "alternate":
            raise ValueError("aux_batch is for turns 'alternate'; in a union the ratio decides")
        if self.aux and self.aux_batch and len(self.aux_batch) != len(self.aux):
            raise ValueError(f"aux_batch has {len(self.aux_batch)} numbers for {len(self.aux)} auxiliary sources")
        if self.cross_mixup and self.turns != "union":
            raise ValueError("cross_mixup blends clips of one step: it needs turns 'union'")

    def unused(self) -> tuple[str, ...]:
        """What is set, by name, although no source is named that it would be about."""
        if self.aux:
            return ()
        names = ("ratio", "turns", "aux_batch", "aux_power", "aux_cap", "cross_mixup")
        return tuple(name for name in names if getattr(self, name) != getattr(JointConfig(), name))

    @property
    def parts(self) -> tuple[int, ...]:
        """The ratio, of the target and of each source."""
        return self.ratio or (2, *([1] * len(self.aux)))


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What a run minimises: cross entropy of a softmax, the logistic loss of one sigmoid a class, or their sum.

    mixup: alpha of Beta(alpha, alpha), of which each batch draws its share lambda, see `mixup.py`. OmniSource (section
    3.6) uses it from scratch only, and gives no alpha; MMAction2 has 0.2.
    """

    loss: Annotated[
        Loss,
        Setting("softmax: one class a clip, see --tags; sigmoid: each class by itself.", group=OPTIMISATION),
    ] = "softmax"
    label_smoothing: Annotated[
        float, Setting("Part of a target that is spread over all classes.", lowest=0, below=1, group=OPTIMISATION)
    ] = 0.0
    mixup: Annotated[
        float,
        Setting("Alpha of mixup, which blends pairs of clips; 0: none.", lowest=0, below=math.inf, group=OPTIMISATION),
    ] = 0.0

    def __post_init__(self) -> None:
        check_all(self)
        if self.loss == "sigmoid" and self.label_smoothing:
            raise ValueError("label_smoothing spreads the target of a softmax; with loss sigmoid leave it at 0")


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What a run starts from, and which of it is trained.

    inflate: the checkpoint is a network of frames, of which `architecture` is inflated; see `models/inflate.py`.
    fc_only: everything but the classifier is frozen. freeze_to: everything up to and including that stage.
    What is frozen keeps its weights and its batch norm statistics to the bit.
    batch_norm: train: statistics of each process's own batch, and running ones that follow (IG-65M: per GPU); frozen:
    the checkpoint's statistics stay and are used, while gains and biases are trained as other weights; sync: statistics
    of the batches of all processes, on GPUs only.
    """

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
    inflate: Annotated[
        bool, Setting("--init-from is a network of frames: inflate it to --architecture.", group=MODEL)
    ] = False
    inflate_scale: Annotated[
        bool, Setting("Divide inflated kernels by their frames; without, repeat them alone (DistInit).", group=MODEL)
    ] = True
    fc_only: Annotated[bool, Setting("Train the classifier alone, on frozen features.", group=MODEL)] = False
    freeze_to: Annotated[
        str | None,
        Setting(
            "Freeze the network up to and including this stage, e.g. layer3 of a ResNet.",
            group=MODEL,
            default="nothing",
        ),
    ] = None
    batch_norm: Annotated[
        BatchNorm,
        Setting("Statistics of each process's batch; the checkpoint's; or of all processes (GPUs).", group=MODEL),
    ] = "train"

    def __post_init__(self) -> None:
        check_all(self)
        if self.fc_only and self.freeze_to is not None:
            raise ValueError("fc_only freezes all but the classifier: leave out freeze_to")
        if self.fc_only and self.batch_norm == "sync":
            raise ValueError("batch_norm sync has nothing to do with fc_only, which freezes every batch norm")
