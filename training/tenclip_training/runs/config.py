"""TrainConfig: everything that decides what a training run does. A recipe is a function that returns one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from tenclip_api.errors import CheckpointError
from tenclip_data.manifest import DEFAULT_HELD_OUT, Missing
from tenclip_training.data.augment import Augmentation
from tenclip_video.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from tenclip_video.spec import ClipSpec

Optimizer = Literal["sgd", "adamw"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

# Where a run lies and how it is fed: a run may be resumed with other values of these, for they change no result.
RESUMABLE_FIELDS = frozenset(
    {"out", "workers", "cache_gib", "save_every_minutes", "manifest", "videos", "max_failures"}
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Defaults are those of IG-65M and VMZ (SGD, cosine after warm-up), scaled to one machine.

    Data: `manifest` to `held_out` as in `manifest.read_manifest`.
    `val_split` None takes "val", else "test", else none. `clips_per_video`: drawn from each video in one epoch.
    `max_failures`: the fraction of training videos that may be unreadable.

    Model: `architecture` and its `model` values; `clip_spec` gives num_frames and crop. `init_from`: a checkpoint to
    fine-tune from, ours or of a public family (`init_family` where its weights leave open which); it brings its
    architecture, and its clip_spec unless one is given.

    Optimisation: `learning_rate` is that of the whole batch at its peak: it climbs to it linearly over
    `warmup_epochs`, then follows a cosine to zero at the end of `epochs`. `weight_decay` leaves biases and norms alone.
    `batch_size` counts clips of one process. `max_gradient_norm` 0: no clipping.

    Machine: `precision` auto: bf16 or fp16 where the device gains from it. `cache_gib`: memory for decoded videos, 0
    decodes each clip anew. `workers` 0 reads clips in the training process.
    """

    manifest: str
    out: str
    videos: str | None = None
    labels: str | None = None
    label_column: str | None = None
    whole_videos: bool = False
    missing: Missing = "error"
    held_out: float = DEFAULT_HELD_OUT
    train_split: str = "train"
    val_split: str | None = None
    clips_per_video: int = 1
    max_failures: float = 0.1

    architecture: str = "r2plus1d_18"
    model: dict[str, Any] = field(default_factory=dict)
    clip_spec: ClipSpec | None = None
    init_from: str | None = None
    init_family: str | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    epochs: int = 45
    batch_size: int = 16
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 5.0
    label_smoothing: float = 0.0
    max_gradient_norm: float = 0.0
    seed: int = 0

    val_every: int = 1
    val_protocol: str = DEFAULT_PROTOCOL

    device: str = "auto"
    precision: Precision = "auto"
    channels_last: bool = True
    workers: int = 0
    cache_gib: float = 0.0
    save_every_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "clips_per_video", "val_every"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _require(self.learning_rate > 0, f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("weight_decay", "warmup_epochs", "max_gradient_norm", "workers", "cache_gib", "seed"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        _require(self.warmup_epochs < self.epochs, f"{self.warmup_epochs} warm-up epochs of {self.epochs} in all")
        for name in ("momentum", "label_smoothing"):
            _require(0 <= getattr(self, name) < 1, f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        _require(0 <= self.max_failures <= 1, f"max_failures is a fraction, got {self.max_failures}")
        _require(self.optimizer in get_args(Optimizer), f"optimizer {self.optimizer!r}: {get_args(Optimizer)}")
        _require(self.precision in get_args(Precision), f"precision {self.precision!r}: {get_args(Precision)}")
        _require(self.missing in get_args(Missing), f"missing {self.missing!r}: {get_args(Missing)}")
        _require(self.val_protocol in PROTOCOLS, f"val_protocol {self.val_protocol!r}: {', '.join(PROTOCOLS)}")
        if self.clip_spec is not None:
            _check_crop(self.clip_spec)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        values = dataclasses.asdict(self)
        values["augmentation"]["scale"] = self.augmentation.scale and list(self.augmentation.scale)
        if self.clip_spec is not None:
            spec = values["clip_spec"]
            spec["mean"], spec["std"] = list(self.clip_spec.mean), list(self.clip_spec.std)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises ValueError or TypeError for anything that `to_dict` of this version does not write."""
        values = dict(values)
        unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
        _require(not unknown, f"TrainConfig has no field {', '.join(sorted(unknown))}")
        augmentation = dict(values.get("augmentation", {}))
        if augmentation.get("scale") is not None:
            augmentation["scale"] = tuple(augmentation["scale"])
        values["augmentation"] = Augmentation(**augmentation)
        if values.get("clip_spec") is not None:
            values["clip_spec"] = ClipSpec.from_dict(values["clip_spec"])
        return cls(**values)


def read_config(run: Path | str) -> TrainConfig:
    """The config of a run, from the `config.json` in its folder. Raises CheckpointError."""
    path = Path(run) / "config.json"
    try:
        return TrainConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"{run}: no config.json, so this is not the folder of a training run") from None
    except (OSError, ValueError, TypeError, AttributeError) as err:
        raise CheckpointError(f"{path}: {err}") from err


def _check_crop(spec: ClipSpec) -> None:
    resize = spec.resize
    short = {"squash": min(resize.height, resize.width), "short_edge": resize.short_edge, "none": None}[resize.mode]
    crop = max(spec.crop, spec.fully_convolutional_crop or 0)
    _require(short is None or short >= crop, f"a crop of {crop} does not fit into frames of which one side is {short}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
