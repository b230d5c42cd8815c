"""One loader for any checkpoint, ours or a public one: what export, evaluation and fine-tuning need of it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.load import PublicCheckpoint, load_public_checkpoint
from tenclip_training.loaders.overrides import SpecChanges, in_words, override_spec
from tenclip_training.models import VideoModel, create_model
from tenclip_training.models.video_model import Head
from tenclip_training.runs import checkpoint
from tenclip_video.protocols import DEFAULT_PROTOCOL
from tenclip_video.spec import ClipSpec

OWN_FAMILY = "tenclip"


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """`model` is in eval mode, on the CPU. `labels` are its classes in order, None where the file does not name them.

    `protocol` names one of `tenclip_video.protocols`; `notes` are for people, and `provenance` are plain values.
    A backbone without a classifier has `model.num_classes` 0 and gives logits of [B,0,P].
    """

    model: VideoModel
    clip_spec: ClipSpec
    labels: tuple[str, ...] | None
    family: str
    protocol: str
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_any(
    path: Path | str,
    *,
    family: str | None = None,
    clip_spec: SpecChanges | None = None,
    head: Head | None = None,
    model_options: Mapping[str, Any] | None = None,
    features_only: bool = False,
) -> Loaded:
    """Load a checkpoint of `tenclip train` or of a public family. See `load_checkpoint` for the arguments.

    Raises CheckpointError that names the file; also where `family` is given for a checkpoint of ours, which carries its
    own input.
    """
    path = Path(path)
    if is_own(path):
        if family is not None:
            raise CheckpointError(f"{path}: a checkpoint of tenclip, which says its input itself; leave out --family")
        return _own(path, clip_spec, head, model_options, features_only=features_only)
    public = load_public_checkpoint(
        path, family=family, clip_spec=clip_spec, head=head, model_options=model_options, features_only=features_only
    )
    return Loaded(
        model=public.model,
        clip_spec=public.clip_spec,
        labels=None,
        family=public.provenance["family"],
        protocol=public.provenance["protocol"],
        provenance=public.provenance,
        notes=tuple(public.provenance["notes"]),
    )


def load_checkpoint(
    path: Path | str,
    *,
    family: str | None = None,
    clip_spec: SpecChanges | None = None,
    head: Head | None = None,
    model_options: Mapping[str, Any] | None = None,
    features_only: bool = False,
) -> PublicCheckpoint:
    """(model, clip_spec, provenance) of any checkpoint: of `tenclip train`, or of a public family.

    >>> model, clip_spec, provenance = load_checkpoint("r2plus1d_34_clip32_ft_kinetics.pth", family="ig65m-32f")
    >>> load_checkpoint("fine_tuned.pth", family="vmz", clip_spec={"num_frames": 16, "crop": 128})

    `family`: a name of `PRESETS` ("vmz-8f") or their family ("vmz"), where weights alike in shape were trained on
    different inputs. Only for public checkpoints.

    `clip_spec`: the input, where it is not the preset's (or the checkpoint's own): a whole `ClipSpec`, or a dict of the
    fields that differ: `num_frames`, `frame_stride`, `target_fps` (frames per second), `resize` (a dict of `Resize`'s
    fields, in pixels), `crop` and `fully_convolutional_crop` (pixels), `mean`, `std` (three numbers in units of
    `value_range`), `value_range`, `color_order`, `padding`.

    `head`: "global" averages over the whole final map, "fixed" gives logits at each position of the map, "mean"
    averages those; None is what the family has.

    `model_options`: other values for `create_model`, for settings that leave no trace in the weights: `stem_pool` of
    VMZ's R(2+1)D and of 3D-ResNets, `alpha` of SlowFast, `stem_time_stride` of I3D-R50.

    `features_only`: leave the classifier out, or do without one that the file does not have. The model has then
    `num_classes` 0 and logits of [B,0,P]; its features are as always.

    What these arguments changed stands in `provenance` ("clip_spec_changes", "model_options", "notes"). Raises
    CheckpointError that names the file.
    """
    loaded = load_any(
        path, family=family, clip_spec=clip_spec, head=head, model_options=model_options, features_only=features_only
    )
    return PublicCheckpoint(loaded.model, loaded.clip_spec, loaded.provenance)


def is_own(path: Path) -> bool:
    """Did `save_checkpoint` write this file? Nothing is unpickled to find out: its pickle names the format."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return any(checkpoint.FORMAT.encode() in archive.read(name) for name in pickles)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return False


def _own(
    path: Path,
    changes: SpecChanges | None,
    head: Head | None,
    model_options: Mapping[str, Any] | None,
    *,
    features_only: bool,
) -> Loaded:
    own = checkpoint.load_checkpoint(path)
    options = {**({} if head is None else {"head": head}), **(model_options or {})}
    spec = own.clip_spec
    changed: dict[str, list[Any]] = {}
    model, provenance, notes = own.model, own.provenance, []
    try:
        if changes is not None:
            spec, changed = override_spec(spec, changes)
        if options or changed or features_only:
            model = _rebuilt(own.model, spec, options, features_only=features_only)
    except (ValueError, TypeError, RuntimeError) as err:
        raise CheckpointError(f"{path}: {err}") from err
    if changed:
        notes.append(f"input changed: {in_words(changed)}")
    if options:
        notes.append("network: " + ", ".join(f"{name}={value}" for name, value in options.items()))
    if features_only:
        notes.append("a backbone without a classifier: it gives features and no predictions")
    if notes:
        provenance = {**provenance, "clip_spec_changes": changed, "model_options": options, "notes": notes}
    return Loaded(
        model=model,
        clip_spec=spec,
        labels=None if features_only else own.labels,
        family=OWN_FAMILY,
        protocol=DEFAULT_PROTOCOL,
        provenance=provenance,
        notes=tuple(notes),
    )


def _rebuilt(model: VideoModel, spec: ClipSpec, options: Mapping[str, Any], *, features_only: bool) -> VideoModel:
    """The same weights in a network that is made for another input."""
    config = {**model.config, "num_frames": spec.num_frames, "crop": spec.crop, **options}
    if features_only:
        config["num_classes"] = None
    made = create_model(model.architecture, **config)
    state = {n: v for n, v in model.state_dict().items() if not (features_only and n.startswith("fc."))}
    made.load_state_dict(state)
    return made.eval()
