"""Checkpoints: one file that rebuilds a model, says what its input is, and lets training go on.

Everything in it is tensors and plain values, so it is read with `weights_only=True`: loading a checkpoint runs no code
of its author. Files are written whole or not at all.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError
from tenclip_data.atomic import replacing
from tenclip_training.models import VideoModel, create_model
from tenclip_video.spec import ClipSpec

FORMAT = "tenclip-checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """The content of a checkpoint file.

    `model` is in eval mode, on the CPU. `labels` are its classes in order, None where they have no names.
    `weights_sha256` identifies the weights, whatever else the file says. `training_state`: from what a run goes on, in
    last.pt alone; see `train.py`.
    """

    model: VideoModel
    clip_spec: ClipSpec
    labels: tuple[str, ...] | None
    provenance: dict[str, Any]
    weights_sha256: str
    training_state: dict[str, Any] | None = None


def save_checkpoint(
    path: Path | str,
    model: VideoModel,
    *,
    clip_spec: ClipSpec,
    labels: Sequence[str] | None,
    provenance: Mapping[str, Any],
    training_state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint, atomically. `provenance` and `training_state` hold plain values and tensors only.

    Raises CheckpointError when the labels do not fit the model or the file cannot be written.
    """
    path = Path(path)
    if labels is not None and len(labels) != model.num_classes:
        raise CheckpointError(f"{path}: {len(labels)} labels for a model of {model.num_classes} classes")
    state_dict = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    payload = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": model.architecture,
        "model_config": dict(model.config),
        "clip_spec": clip_spec.to_dict(),
        "labels": None if labels is None else list(labels),
        "provenance": dict(provenance),
        "weights_sha256": weights_sha256(state_dict),
        "state_dict": state_dict,
        "training_state": None if training_state is None else dict(training_state),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(payload, file)
    except (OSError, RuntimeError, pickle.PicklingError) as err:
        raise CheckpointError(f"{path}: cannot be written: {err}") from err


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Raises CheckpointError that names the file for everything else: absent, truncated, another format, weights that are
    missing, unexpected, of another shape, not finite, or not those that were written.
    """
    path = Path(path)
    payload = _read(path)
    try:
        model = create_model(payload["architecture"], **payload["model_config"])
        clip_spec = ClipSpec.from_dict(payload["clip_spec"])
        labels = payload["labels"]
        state_dict, sha256 = payload["state_dict"], payload["weights_sha256"]
        provenance, training_state = payload["provenance"], payload["training_state"]
    except KeyError as err:
        raise CheckpointError(f"{path}: has no field {err}") from err
    except (ValueError, TypeError, AttributeError) as err:
        raise CheckpointError(f"{path}: {err}") from err
    if labels is not None and len(labels) != model.num_classes:
        raise CheckpointError(f"{path}: {len(labels)} labels for a model of {model.num_classes} classes")
    load_weights(model, state_dict, source=str(path))
    if weights_sha256(state_dict) != sha256:
        raise CheckpointError(f"{path}: its weights are not those that were written; the file is damaged")
    return Checkpoint(
        model=model.eval(),
        clip_spec=clip_spec,
        labels=None if labels is None else tuple(labels),
        provenance=provenance,
        weights_sha256=sha256,
        training_state=training_state,
    )


def load_weights(model: VideoModel, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights into a model, all of them or none. Raises CheckpointError that names the first that differ."""
    expected = model.state_dict()
    missing = [name for name in expected if name not in state_dict]
    unexpected = [name for name in state_dict if name not in expected]
    if missing or unexpected:
        parts = [f"{len(k)} {what} ({_some(k)})" for what, k in (("missing", missing), ("unexpected", unexpected)) if k]
        raise CheckpointError(f"{source}: weights do not fit {model.architecture}: {', '.join(parts)}")
    for name, tensor in state_dict.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: {name} is {list(tensor.shape)}, {model.architecture} needs {list(expected[name].shape)}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{source}: {name} holds values that are not finite (NaN or infinity)")
    model.load_state_dict(dict(state_dict))


def weights_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles that torch.save never writes: they fail anyway
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile, pickle.UnpicklingError) as err:
        first_line = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise CheckpointError(f"{path}: not a checkpoint, or damaged: {first_line}") from err
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: a torch file, but not a {FORMAT}; `tenclip export` reads checkpoints of other projects"
        )
    if payload.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: {FORMAT} version {payload.get('format_version')!r}; this tenclip reads {FORMAT_VERSION}"
        )
    return payload


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
