"""Whatever lies in a checkpoint file, ours or a public one, under one set of names: what export needs of it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.load import PublicCheckpoint, load_public_checkpoint
from tenclip_training.models import VideoModel
from tenclip_training.runs import checkpoint
from tenclip_video.protocols import DEFAULT_PROTOCOL
from tenclip_video.spec import ClipSpec

OWN_FAMILY = "tenclip"


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """`model` is in eval mode, on the CPU. `labels` are its classes in order, None where the file does not name them.

    `protocol` names one of `tenclip_video.protocols`; `notes` are for people, and `provenance` are plain values.
    """

    model: VideoModel
    clip_spec: ClipSpec
    labels: tuple[str, ...] | None
    family: str
    protocol: str
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_any(path: Path | str, *, family: str | None = None) -> Loaded:
    """Load a checkpoint of `tenclip train` or of a public family. See `load_public_checkpoint` for `family`.

    Raises CheckpointError that names the file; also where `family` is given for a checkpoint of ours, which carries its
    own input.
    """
    path = Path(path)
    if is_own(path):
        if family is not None:
            raise CheckpointError(f"{path}: a checkpoint of tenclip, which says its input itself; leave out --family")
        own = checkpoint.load_checkpoint(path)
        return Loaded(
            model=own.model,
            clip_spec=own.clip_spec,
            labels=own.labels,
            family=OWN_FAMILY,
            protocol=DEFAULT_PROTOCOL,
            provenance=own.provenance,
        )
    public = load_public_checkpoint(path, family=family)
    return Loaded(
        model=public.model,
        clip_spec=public.clip_spec,
        labels=None,
        family=public.provenance["family"],
        protocol=public.provenance["protocol"],
        provenance=public.provenance,
        notes=tuple(public.provenance["notes"]),
    )


def load_checkpoint(path: Path | str, *, family: str | None = None) -> PublicCheckpoint:
    """(model, clip_spec, provenance) of any checkpoint that `load_any` takes; raises what that does.

    >>> model, clip_spec, provenance = load_checkpoint("r2plus1d_34_clip32_ft_kinetics.pth", family="ig65m-32f")
    """
    loaded = load_any(path, family=family)
    return PublicCheckpoint(loaded.model, loaded.clip_spec, loaded.provenance)


def is_own(path: Path) -> bool:
    """Did `save_checkpoint` write this file? Nothing is unpickled to find out: its pickle names the format."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return any(checkpoint.FORMAT.encode() in archive.read(name) for name in pickles)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return False
