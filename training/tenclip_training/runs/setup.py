"""The parts of a run, from its config: the splits, the network with its clips, the dataset, the order of videos."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenclip_api.errors import InvalidRequest
from tenclip_data.leaks import UNUSED_SPLIT
from tenclip_data.manifest import Manifest
from tenclip_data.samples import Sample, split_name
from tenclip_training.data import sampling
from tenclip_training.data.augment import flip_is_safe
from tenclip_training.data.dataset import ClipDataset
from tenclip_training.data.frame_store import FrameStore
from tenclip_training.data.samplers import EpochSampler
from tenclip_training.data.sampling import SamplingSummary
from tenclip_training.data.shards.order import by_shards
from tenclip_training.data.shards.read import CacheOptions, read_videos
from tenclip_training.data.tags import TargetKind
from tenclip_training.loaders import load_any
from tenclip_training.loaders.any import is_own
from tenclip_training.models import VideoModel, create_model
from tenclip_training.models.inflate import flow_stem, is_frame_model
from tenclip_training.omni.stills import still_clips
from tenclip_training.runs.checkpoint import load_weights
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.inflation import inflate_model, inflated_spec
from tenclip_training.runs.sections import TransferConfig
from tenclip_training.runs.transfer import classifier_note, classifier_weights, transfer_notes
from tenclip_video.spec import ClipSpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """The videos of a run. val: None where nothing is validated. held_out: the samples of every split that is neither
    learned from nor marked as unused; a test split is one of them.

    selects_best: whether the best epoch is chosen on `val`; never on a test split. `note` says why not.
    """

    train: Manifest
    val: Manifest | None
    val_split: str | None
    selects_best: bool
    note: str = ""
    held_out: tuple[Sample, ...] = ()


def read_splits(config: TrainConfig) -> Splits:
    """Read the manifest and take its training and validation splits. Raises DatasetError."""
    manifest = read_videos(
        config.manifest,
        labels=config.labels,
        videos=config.videos,
        label_column=config.label_column,
        heads=config.heads,
        whole_videos=config.whole_videos,
        missing=config.missing,
        held_out=config.held_out,
        seed=config.seed,
        leaks=config.leaks,
        cache=CacheOptions(folder=config.shard_cache, gib=config.shard_cache_gib),
        images=config.stills.images is not None,
    )
    name = config.val_split or ("val" if "val" in manifest.splits else None)
    train, val = manifest.split(config.train_split), None if name is None else manifest.split(name)
    val_split = None if name is None else split_name(name)
    no_test = {config.train_split, split_name(config.train_split), UNUSED_SPLIT}
    held_out = tuple(s for s in manifest.samples if s.split not in no_test)
    if name is None:
        note = f"no best.pt: nothing was validated, for there is no split val; {config.out}/last.pt is the result"
        if any(map(is_test_split, manifest.splits)):
            note += ", and `tenclip evaluate` scores it on the test split"
    elif is_test_split(name):
        note = f"no best.pt: the best epoch is never chosen on a test split; {config.out}/last.pt is the result"
    else:
        return Splits(train=train, val=val, val_split=val_split, selects_best=True, held_out=held_out)
    if config.schedule.kind == "plateau":
        has = "no validation split" if name is None else f"only the test split {name!r}, which may decide nothing"
        raise InvalidRequest(
            f"schedule plateau lowers the rate by the validation loss, and there is {has}: name another split of "
            f"{manifest.source} with --val-split ({', '.join(manifest.splits)}), or use another schedule"
        )
    return Splits(train=train, val=val, val_split=val_split, selects_best=False, note=note, held_out=held_out)


def is_test_split(name: str) -> bool:
    """Whether a split is one for final results, by its name: test, test2, testing, ...

    An epoch that was chosen on it would make its accuracy too good.
    """
    return split_name(name).lower().startswith("test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """The network that a run begins with, in training mode, and its clips. notes: where it is from, for people."""

    model: VideoModel
    clip_spec: ClipSpec
    notes: tuple[str, ...] = ()


def build_model(config: TrainConfig, labels: tuple[str, ...]) -> Start:
    """See `_build_model`; also raises InvalidRequest for segments of what is no network of single frames."""
    start = _build_model(config, labels)
    if config.sampling.segments is not None:
        if not is_frame_model(start.model):
            raise InvalidRequest(
                f"segments are single frames, and {start.model.architecture} looks over time: take a network of frames "
                "(tsn_r50, tsn_efficientnet_lite0, r2d_18, ...), or leave out --segments"
            )
        if start.clip_spec.num_frames != 1:
            raise InvalidRequest(
                f"segments: each is one frame, and the clips have {start.clip_spec.num_frames}; say --frames 1, and "
                "test with --val-protocol tsn-3 or tsn-25"
            )
    return start


def _build_model(config: TrainConfig, labels: tuple[str, ...]) -> Start:
    """The network, from random weights or a checkpoint, and its clips.

    A checkpoint's classifier is kept where its labels are those of the run, and begins anew for other ones. A public
    backbone without a classifier, such as self-supervised weights, will do. With `inflate` the checkpoint is a network
    of frames, which gives its weights to the architecture of the config.
    Raises CheckpointError, and InvalidRequest for an architecture or a value of it that does not exist, for clips that
    do not fit the checkpoint's, for what cannot be inflated, and for settings that mean nothing without a checkpoint.
    """
    if config.transfer.init_from is None:
        _require_no_checkpoint(config.transfer)
        spec = config.resolve_clip_spec()
        clips = {"num_frames": spec.num_frames, "crop": spec.crop, **channels_of(spec)}
        values = {**clips, **config.model, "num_classes": len(labels)}
        return Start(model=_create(config.architecture, values), clip_spec=spec)
    path = config.transfer.init_from
    # Classes of public files have no names, so their classifier would begin anew: it may be missing altogether.
    public = not is_own(Path(path))
    checkpoint = load_any(path, family=config.transfer.init_family, features_only=public)
    frames = checkpoint.model if config.transfer.inflate else None
    inherited = checkpoint.clip_spec if frames is None else inflated_spec(checkpoint.clip_spec, config.architecture)
    try:
        spec = config.resolve_clip_spec(inherited)
    except ValueError as err:
        raise InvalidRequest(f"the clips of {path} with the ones asked for: {err}") from err
    given = {"num_frames": spec.num_frames, "crop": spec.crop, **config.model, "num_classes": len(labels)}
    channels = channels_of(spec)
    if "in_channels" in checkpoint.model.config and not channels:
        raise InvalidRequest(f"{path}: a network of optical flow, which takes no pictures; leave out modality rgb")
    if frames is None:
        model = _create(checkpoint.model.architecture, {**checkpoint.model.config, **given, **channels})
        source = checkpoint.model.state_dict()
        origin = f"starts from {path}, a {model.architecture}"
    else:
        of_flow = channels if "in_channels" in frames.config else {}
        values = {**given, **of_flow}
        inflated = inflate_model(frames, config.architecture, values, scale=config.transfer.inflate_scale, source=path)
        model = _create(inflated.architecture, {**inflated.config, **channels, "num_classes": len(labels)})
        source = inflated.state_dict()
        origin = f"starts from {path}, a {frames.architecture} inflated to {model.architecture}"
    if channels and "in_channels" not in checkpoint.model.config:
        origin += ", whose first kernels are averaged over colours for optical flow"
        source = with_flow_stem(source, model)
    weights = classifier_weights(source, model.state_dict(), checkpoint.labels, labels)
    load_weights(model, weights, source=path)
    note = classifier_note(checkpoint.labels, checkpoint.model.num_classes, labels)
    return Start(model=model, clip_spec=spec, notes=(f"{origin}; {note}",))


def channels_of(spec: ClipSpec) -> dict[str, int]:
    """What a network of these clips has to be told of their channels: nothing for pictures, 2 for flow."""
    return {"in_channels": 2} if spec.modality == "flow" else {}


def with_flow_stem(weights: Mapping[str, Tensor], model: VideoModel) -> dict[str, Tensor]:
    """Weights of a network of pictures for one of flow: its first kernels are averaged over colours, and repeated."""
    name = f"{model.stem_name()}.weight"
    return {**weights, name: flow_stem(weights[name], model.in_channels)}


def run_notes(model: VideoModel, config: TrainConfig) -> tuple[str, ...]:
    """What a person should know of a run that begins, beside where its network is from; a line each."""
    notes = transfer_notes(model, config.transfer, config.optimizer)
    if config.objective.mixup > 0:
        notes += (
            f"mixup {config.objective.mixup:g}: clips are blended in pairs, and train clip top-1 counts a blend by the "
            "share of the clip that is right",
        )
    return notes


def _require_no_checkpoint(transfer: TransferConfig) -> None:
    """Raises InvalidRequest for settings that random weights would make senseless."""
    asked = {
        "inflate": transfer.inflate,
        "fc_only": transfer.fc_only,
        "freeze_to": transfer.freeze_to is not None,
        "batch_norm frozen": transfer.batch_norm == "frozen",
    }
    if names := [name for name, value in asked.items() if value]:
        raise InvalidRequest(f"{', '.join(names)} needs init_from: without a checkpoint the weights are random")


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


def _check_flow(config: TrainConfig) -> None:
    """Raises InvalidRequest for what only pictures have."""
    colors = config.augmentation
    if colors.brightness or colors.contrast or colors.saturation:
        raise InvalidRequest("optical flow has no colours: leave out brightness, contrast and saturation")
    if config.stills.images is not None:
        raise InvalidRequest("images do not move: modality flow takes videos alone, without --images")


def build_dataset(config: TrainConfig, manifest: Manifest, spec: ClipSpec) -> ClipDataset:
    """The clips of a run; mirrored where the labels allow it, unless the config decides."""
    if spec.modality == "flow":
        _check_flow(config)
    augmentation = config.augmentation
    if augmentation.flip is None:
        augmentation = dataclasses.replace(augmentation, flip=flip_is_safe(manifest.labels))
    if augmentation.train_short_edge is not None:
        resize = dataclasses.replace(spec.resize, mode="short_edge", short_edge=augmentation.train_short_edge)
        spec = dataclasses.replace(spec, resize=resize, fully_convolutional_crop=None)
    segments = config.sampling.segments
    stills = still_clips(config.stills, spec if segments is None else dataclasses.replace(spec, num_frames=segments))
    return ClipDataset(
        manifest,
        spec,
        augmentation,
        seed=config.seed,
        targets=_target_kind(config),
        stills=stills,
        segments=segments,
        store=frame_store(config),
    )


def frame_store(config: TrainConfig) -> FrameStore | None:
    """The folder of decoded videos that the run shares with others."""
    return None if config.cache_dir is None else FrameStore(Path(config.cache_dir))


def _target_kind(config: TrainConfig) -> TargetKind:
    return config.sampling.tags if config.objective.loss == "softmax" else "multi-hot"


def build_sampler(config: TrainConfig, manifest: Manifest, world: World) -> EpochSampler:
    """This process's order of the videos, from the first step of the run."""
    sampler = sampling.build_sampler(
        _label_numbers(manifest),
        len(manifest.labels),
        config.sampling,
        batch_size=config.batch_size,
        micro_batches=config.optimizer.accumulate,
        epochs=config.epochs,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
    )
    return by_shards(sampler, manifest, window=config.sampling.shuffle_shards)


def describe_sampling(config: TrainConfig, manifest: Manifest) -> SamplingSummary:
    """What the run's sampler draws in an epoch, and whether it repeats a video too often."""
    return sampling.describe(
        _label_numbers(manifest), manifest.labels, config.sampling, seed=config.seed, targets=_target_kind(config)
    )


def warn_of_repeats(config: TrainConfig, manifest: Manifest) -> None:
    """Log a warning where a video would be seen too often in an epoch."""
    if not any(sample.labels for sample in manifest.samples):
        return  # of no class
    if sampling.can_repeat(config.sampling) and (warning := describe_sampling(config, manifest).warning) is not None:
        _log.warning("%s", warning)


def _label_numbers(manifest: Manifest) -> list[tuple[int, ...]]:
    return [manifest.targets(sample) for sample in manifest.samples]
