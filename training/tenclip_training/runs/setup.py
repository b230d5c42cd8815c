"""The parts of a run, from its config: the splits, the network with its clips, the dataset, the order of videos."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tenclip_api.errors import InvalidRequest
from tenclip_data.manifest import Manifest, read_manifest
from tenclip_data.samples import split_name
from tenclip_training.data.augment import flip_is_safe
from tenclip_training.data.dataset import ClipDataset
from tenclip_training.data.samplers import DrawSampler
from tenclip_training.loaders import load_any
from tenclip_training.loaders.any import is_own
from tenclip_training.models import VideoModel, create_model
from tenclip_training.omni.stills import still_clips
from tenclip_training.runs.checkpoint import load_weights
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_video.spec import ClipSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """The videos of a run. val: None where nothing is validated.

    selects_best: whether the best epoch is chosen on `val`; never on a test split. `note` says why not.
    """

    train: Manifest
    val: Manifest | None
    val_split: str | None
    selects_best: bool
    note: str = ""


def read_splits(config: TrainConfig) -> Splits:
    """Read the manifest and take its training and validation splits. Raises DatasetError."""
    manifest = read_manifest(
        config.manifest,
        labels=config.labels,
        videos=config.videos,
        label_column=config.label_column,
        whole_videos=config.whole_videos,
        missing=config.missing,
        held_out=config.held_out,
        seed=config.seed,
        leaks=config.leaks,
        images=config.stills.images is not None,
    )
    name = config.val_split or ("val" if "val" in manifest.splits else None)
    train, val = manifest.split(config.train_split), None if name is None else manifest.split(name)
    val_split = None if name is None else split_name(name)
    if name is None:
        note = f"no best.pt: nothing was validated, for there is no split val; {config.out}/last.pt is the result"
        if any(map(is_test_split, manifest.splits)):
            note += ", and `tenclip evaluate` scores it on the test split"
    elif is_test_split(name):
        note = f"no best.pt: the best epoch is never chosen on a test split; {config.out}/last.pt is the result"
    else:
        return Splits(train=train, val=val, val_split=val_split, selects_best=True)
    return Splits(train=train, val=val, val_split=val_split, selects_best=False, note=note)


def is_test_split(name: str) -> bool:
    """Whether a split is one for final results, by its name: test, test2, testing, ...

    An epoch that was chosen on it would make its accuracy too good.
    """
    return split_name(name).lower().startswith("test")


def build_model(config: TrainConfig, labels: tuple[str, ...]) -> tuple[VideoModel, ClipSpec]:
    """The network, from random weights or a checkpoint, and its clips.

    A checkpoint's classifier is kept where its labels are exactly `labels`, and begins anew for other ones. A public
    backbone without a classifier, such as self-supervised weights, will do.
    Raises CheckpointError, and InvalidRequest for an architecture or a value of it that does not exist, and for clips
    that do not fit the checkpoint's.
    """
    if config.transfer.init_from is None:
        spec = config.resolve_clip_spec()
        values = {"num_frames": spec.num_frames, "crop": spec.crop, **config.model, "num_classes": len(labels)}
        return _create(config.architecture, values), spec
    # Classes of public files have no names, so their classifier would begin anew: it may be missing altogether.
    public = not is_own(Path(config.transfer.init_from))
    checkpoint = load_any(config.transfer.init_from, family=config.transfer.init_family, features_only=public)
    try:
        spec = config.resolve_clip_spec(checkpoint.clip_spec)
    except ValueError as err:
        raise InvalidRequest(f"the clips of {config.transfer.init_from} with the ones asked for: {err}") from err
    values = {**checkpoint.model.config, "num_frames": spec.num_frames, "crop": spec.crop, **config.model}
    model = _create(checkpoint.model.architecture, {**values, "num_classes": len(labels)})
    weights = checkpoint.model.state_dict()
    if checkpoint.labels != labels:
        weights.update({name: tensor for name, tensor in model.state_dict().items() if name.startswith("fc.")})
    load_weights(model, weights, source=config.transfer.init_from)
    return model, spec


def _create(architecture: str, values: dict[str, Any]) -> VideoModel:
    try:
        return create_model(architecture, **values)
    except (ValueError, TypeError) as err:
        raise InvalidRequest(str(err)) from err


def place_model(model: VideoModel, device: torch.device, *, channels_last: bool) -> None:
    """Move a model to where it is trained, in the memory layout and the execution that are fastest there."""
    model.to(device)
    if device.type == "cpu":
        model.set_execution("conv2d")
    elif channels_last:
        # On a CPU the layout of the clips decides, and that of the weights matters little.
        model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def build_dataset(config: TrainConfig, manifest: Manifest, spec: ClipSpec) -> ClipDataset:
    """The clips of a run; mirrored where the labels allow it, unless the config decides."""
    augmentation = config.augmentation
    if augmentation.flip is None:
        augmentation = dataclasses.replace(augmentation, flip=flip_is_safe(manifest.labels))
    return ClipDataset(manifest, spec, augmentation, seed=config.seed, stills=still_clips(config.stills, spec))


def build_sampler(config: TrainConfig, manifest: Manifest, world: World) -> DrawSampler:
    """This process's order of the videos, from the first step of the run."""
    return DrawSampler(
        num_samples=len(manifest.samples),
        batch_size=config.batch_size * config.optimizer.accumulate,
        epochs=config.epochs,
        seed=config.seed,
        clips_per_video=config.sampling.clips_per_video,
        rank=world.rank,
        world_size=world.size,
    )
