"""TrainConfig: everything that decides what a training run does. A recipe is a function that returns one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from tenclip_api.errors import CheckpointError, DatasetError
from tenclip_data.heads import check_heads
from tenclip_data.manifest import DEFAULT_HELD_OUT, Leaks, Missing
from tenclip_settings import Setting, TextForm, check_all, replaced
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.clip_overrides import ClipOverrides
from tenclip_training.data.ratios import joint_batch_sizes
from tenclip_training.data.shards.places import as_url
from tenclip_training.data.shards.storage import DEFAULT_CACHE_GIB
from tenclip_training.omni.stills_config import StillsConfig
from tenclip_training.runs.sections import (
    MODEL,
    OPTIMISATION,
    JointConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SamplingConfig,
    ScheduleConfig,
    TransferConfig,
)
from tenclip_video.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from tenclip_video.spec import ClipSpec, require_types
from tenclip_video.spec_changes import check_crop

Precision = Literal["auto", "fp32", "bf16", "fp16"]

DEFAULT_WARMUP_EPOCHS = 5.0
# Where a run lies and how it is fed: a run may be resumed with other values of these, for they change no result.
RESUMABLE_FIELDS = frozenset(
    {"manifest", "videos", "out", "leaks", "max_failures", "workers", "cache_gib", "save_every_minutes", "tensorboard"}
    | {"cache_dir", "shard_cache", "shard_cache_gib"}
)
# A run whose loss was not finite may be resumed with other values of these, too, and says so in its checkpoints.
RESCUE_FIELDS = frozenset({"optimizer.lr", "optimizer.max_gradient_norm", "precision"})
# Headings in --help.
VIDEOS, VALIDATION, MACHINE = "Videos", "Validation", "Machine"

NAMES = TextForm(
    lambda text: tuple(name.strip() for name in text.split(",") if name.strip()), ",".join, metavar="NAME,NAME"
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run: each field says in its `Setting` what it is, its limits and its option of `tenclip train`.

    Its sections (`optimizer`, `schedule`, `sampling`, ...) are dataclasses of their own. No two fields of all of them
    share a name, so `changed` takes a value by its name alone.

    The defaults are this project's own, for one machine: SGD with Nesterov momentum, no weight decay on biases and
    norms, a linear warm-up and a cosine. Momentum 0.9 is VMZ's, weight decay 1e-4 that of IG-65M's fine-tuning, and a
    random 112x112 of 128x171 that of both. They do otherwise with the rest: VMZ uses plain momentum and decays every
    parameter, and both divide the rate in steps. `tenclip recipes` has the papers' own settings.

    clip_spec: the clips as a whole; None takes those of `init_from`, or ClipSpec's defaults. `clip` then replaces
    single fields of it.
    Raises ValueError for a value that cannot work, naming the field.

    >>> TrainConfig(manifest="videos/manifest.csv", out="run", epochs=4).schedule.warmup_epochs
    2.0
    """

    manifest: Annotated[
        str,
        Setting(
            "A table (.csv, .parquet), a list as the public data sets have it, a folder of class-named sub-folders, "
            "or a folder or URL of tar shards.",
            option="MANIFEST",
            is_path=True,
        ),
    ]
    out: Annotated[str, Setting("Folder of the run.", aliases=("-o",), is_path=True)]

    videos: Annotated[
        str | None,
        Setting("Folder that relative paths start from.", is_path=True, group=VIDEOS, default="the manifest's"),
    ] = None
    labels: Annotated[
        str | None,
        Setting("File with the classes in order, one a line.", is_path=True, group=VIDEOS, default="sorted"),
    ] = None
    label_column: Annotated[
        str | None, Setting("Column of the table to take labels from.", group=VIDEOS, default="label")
    ] = None
    heads: Annotated[
        tuple[str, ...],
        Setting(
            "Columns of the table to learn at once, a classifier for each, e.g. verb,noun.",
            form=NAMES,
            group=VIDEOS,
            default="one classifier",
        ),
    ] = ()
    train_split: Annotated[str, Setting("Split to train on.", group=VIDEOS)] = "train"
    val_split: Annotated[
        str | None,
        Setting(
            "Split to validate on. On one called test nothing is chosen: there is no best.pt.",
            group=VIDEOS,
            default="val, where there is one",
        ),
    ] = None
    held_out: Annotated[
        float, Setting("Part of each class that becomes split val where there are no splits.", group=VIDEOS)
    ] = DEFAULT_HELD_OUT
    whole_videos: Annotated[bool, Setting("Ignore the start and end of each row.", group=VIDEOS)] = False
    missing: Annotated[
        Missing, Setting("Videos that are not there: an error, or kept and counted as unreadable.", group=VIDEOS)
    ] = "error"
    leaks: Annotated[
        Leaks, Setting("A video that is in two splits: an error, a warning, or not looked for.", group=VIDEOS)
    ] = "error"
    max_failures: Annotated[
        float, Setting("Part of the training videos that may be unreadable.", lowest=0, highest=1, group=VIDEOS)
    ] = 0.1

    clip_spec: Annotated[ClipSpec | None, Setting("The clips as a whole.", exposed=False)] = None
    clip: ClipOverrides = field(default_factory=ClipOverrides)
    augmentation: Augmentation = field(default_factory=Augmentation)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    stills: StillsConfig = field(default_factory=StillsConfig)
    joint: JointConfig = field(default_factory=JointConfig)

    architecture: Annotated[
        str,
        Setting("Name of the network; that of a checkpoint goes first.", aliases=("-a",), group=MODEL),
    ] = "r2plus1d_18"
    model: Annotated[
        dict[str, Any],
        Setting("Further NAME=JSON of the architecture, e.g. bn_eps=1e-5.", option="--model-option", group=MODEL),
    ] = field(default_factory=dict)
    transfer: TransferConfig = field(default_factory=TransferConfig)

    epochs: Annotated[int, Setting("Passes over the videos.", lowest=1, group=OPTIMISATION)] = 45
    batch_size: Annotated[
        int, Setting("Clips in a batch of one process.", lowest=1, aliases=("-b",), group=OPTIMISATION)
    ] = 16
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    seed: Annotated[int, Setting("The same seed gives the same run.", lowest=0, group=OPTIMISATION)] = 0

    val_every: Annotated[int, Setting("Validate every n epochs.", lowest=1, group=VALIDATION)] = 1
    val_protocol: Annotated[
        str, Setting("Test protocol; `tenclip evaluate x y --protocol list` shows them all.", group=VALIDATION)
    ] = DEFAULT_PROTOCOL

    device: Annotated[str, Setting("cpu, cuda, cuda:1, ... or auto.", group=MACHINE)] = "auto"
    precision: Annotated[Precision, Setting("auto: bf16 or fp16 on a GPU, fp32 on a CPU.", group=MACHINE)] = "auto"
    channels_last: Annotated[bool, Setting("Memory layout of clips and weights.", group=MACHINE)] = True
    workers: Annotated[int, Setting("Processes that read clips; 0: the trainer itself.", lowest=0, group=MACHINE)] = 0
    cache_gib: Annotated[
        float,
        Setting("GiB of memory for decoded videos; 0: decode anew.", lowest=0, option="--cache", group=MACHINE),
    ] = 2.0
    cache_dir: Annotated[
        str | None,
        Setting(
            "Folder that decoded videos are kept in, for this run and later ones; they then take no memory.",
            is_path=True,
            group=MACHINE,
            default="none",
        ),
    ] = None
    shard_cache: Annotated[
        str | None,
        Setting(
            "Folder that shards behind a URL are fetched into.",
            is_path=True,
            group=MACHINE,
            default="the user's cache",
        ),
    ] = None
    shard_cache_gib: Annotated[
        float, Setting("GiB that this folder may hold; what was not used for longest goes.", above=0, group=MACHINE)
    ] = DEFAULT_CACHE_GIB
    save_every_minutes: Annotated[
        float, Setting("Minutes between saves of last.pt within an epoch.", lowest=0, group=MACHINE)
    ] = 10.0
    tensorboard: Annotated[
        bool, Setting("Also write event files for TensorBoard (extra tensorboard).", group=MACHINE)
    ] = False

    def __post_init__(self) -> None:
        check_all(self)
        if (url := as_url(self.manifest)) is not None:
            object.__setattr__(self, "manifest", url)  # a command line may have taken it for a path
        if self.heads:
            try:
                check_heads(self.heads, self.label_column)
            except DatasetError as err:
                raise ValueError(str(err)) from err
            self._check_heads()
        warmup = self.schedule.warmup_epochs
        if warmup is None:
            warmup = min(DEFAULT_WARMUP_EPOCHS, self.epochs / 2)
            object.__setattr__(self, "schedule", dataclasses.replace(self.schedule, warmup_epochs=warmup))
        if warmup >= self.epochs:
            raise ValueError(f"warmup_epochs: {warmup:g} of {self.epochs} epochs in all; make it less")
        if self.val_protocol not in PROTOCOLS:
            raise ValueError(f"val_protocol {self.val_protocol!r} is not one of {', '.join(PROTOCOLS)}")
        if self.objective.loss != "softmax" and self.sampling.tags != "soft":
            raise ValueError(
                f"tags {self.sampling.tags} gives a clip one class; loss {self.objective.loss} learns all of them"
            )
        if self.joint.aux:
            self._check_joint()
        if self.sampling.segments is not None and self.stills.images not in (None, "replicate"):
            raise ValueError(f"images {self.stills.images}: with segments an image stays an image; use replicate")
        if self.clip_spec is not None or self.transfer.init_from is None:
            self.resolve_clip_spec()

    def _check_joint(self) -> None:
        if self.heads:
            raise ValueError("heads: auxiliary sources have one label a file; leave out aux")
        if self.joint.turns == "union":
            try:
                joint_batch_sizes(self.batch_size, self.joint.parts)
            except ValueError as err:
                raise ValueError(f"batch_size and ratio: {err}") from err

    def _check_heads(self) -> None:
        """Each head has a softmax, and each clip a label of every head."""
        if self.objective.loss != "softmax":
            raise ValueError(f"heads have a softmax each; with heads leave loss at softmax, not {self.objective.loss}")
        if self.sampling.tags != "soft":
            raise ValueError(f"tags {self.sampling.tags!r} would train one head of each clip; with heads leave it soft")

    def resolve_clip_spec(self, inherited: ClipSpec | None = None) -> ClipSpec:
        """The clips of the run. inherited: those of the checkpoint that is fine-tuned. Raises ValueError."""
        spec = self.clip.apply_to(self.clip_spec or inherited or ClipSpec())
        check_crop(spec)
        return spec

    def changed(self, **values: Any) -> Self:
        """A copy with other values of fields, of any section: `config.changed(lr=0.1, epochs=3)`.

        Raises ValueError for a value that cannot work, and TypeError for a field that does not exist.
        """
        return replaced(self, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @classmethod
    def sections(cls) -> dict[str, type[Any]]:
        """The fields that are dataclasses of their own, with their types."""
        return SECTIONS

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises ValueError or TypeError for anything that `to_dict` of this version does not write."""
        values = dict(values)
        unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
        for name, kind in cls.sections().items():
            if name in values:
                values[name] = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values[name].items()})
                require_types(values[name])
        if isinstance(values.get("heads"), list):
            values["heads"] = tuple(values["heads"])
        if values.get("clip_spec") is not None:
            values["clip_spec"] = ClipSpec.from_dict(values["clip_spec"])
        config = cls(**values)
        require_types(config)
        return config


SECTIONS: dict[str, type[Any]] = {
    "clip": ClipOverrides,
    "augmentation": Augmentation,
    "sampling": SamplingConfig,
    "stills": StillsConfig,
    "joint": JointConfig,
    "transfer": TransferConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "objective": ObjectiveConfig,
}


Config = TypeVar("Config", bound=TrainConfig)


def read_config(run: Path | str) -> TrainConfig:
    """The config of a run of `tenclip train`, see `read_config_of`."""
    return read_config_of(TrainConfig, run)


def read_config_of(kind: type[Config], run: Path | str) -> Config:
    """The config of a run, from the `config.json` in its folder. Raises CheckpointError."""
    path = Path(run) / "config.json"
    try:
        return kind.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"{run}: no config.json, so this is not the folder of a training run") from None
    except (OSError, ValueError, TypeError, AttributeError) as err:
        raise CheckpointError(f"{path}: {err}") from err
