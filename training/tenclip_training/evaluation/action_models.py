"""The checkpoints whose verbs and nouns are evaluated: one with two heads, or one for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import CheckpointError, InvalidRequest
from tenclip_data.heads import SEPARATOR
from tenclip_data.manifest import Manifest
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.loaders import load_any
from tenclip_training.models import VideoModel
from tenclip_video.spec import ClipSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class ActionModel:
    """A checkpoint that is evaluated. parts: (name, labels) of the heads that it has; one for a plain classifier."""

    path: Path
    model: VideoModel
    clip_spec: ClipSpec
    protocol: str
    scoring: Scoring
    parts: tuple[tuple[str, tuple[str, ...]], ...]


def load_action_models(
    checkpoints: Sequence[Path | str], *, columns: Sequence[str | None] = (None, None)
) -> tuple[ActionModel, ...]:
    """One checkpoint with two heads, or two with one classifier each: of the verbs, then of the nouns.

    columns: names of the two heads, which are the columns of the manifest. None takes those of the run: its heads, or
    its label column. Raises CheckpointError, and InvalidRequest where the checkpoints are not of these kinds.
    """
    if len(checkpoints) not in (1, 2):
        raise InvalidRequest(
            f"give one checkpoint with two heads, or one of verbs and one of nouns; got {len(checkpoints)}"
        )
    models = [_load(Path(path)) for path in checkpoints]
    names = [name for m in models for name, _ in m.parts]
    if len(models) == 2 and len(names) > 2:
        several = next(m for m in models if len(m.parts) > 1)
        raise InvalidRequest(f"{several.path}: has several heads; give it alone")
    if len(names) != 2:
        what = "has one classifier" if len(names) == 1 else f"has the heads {', '.join(names)}"
        raise InvalidRequest(f"{models[0].path}: {what}; a checkpoint with two heads is needed, or two checkpoints")
    fallback = ("verb", "noun")
    chosen = iter([given or own or standard for given, own, standard in zip(columns, names, fallback, strict=True)])
    named = [dataclasses.replace(m, parts=tuple((next(chosen), labels) for _, labels in m.parts)) for m in models]
    if len({name for m in named for name, _ in m.parts}) < 2:
        raise InvalidRequest("both heads have the same column; name the columns of verbs and of nouns")
    return tuple(named)


def _load(path: Path) -> ActionModel:
    loaded = load_any(path)
    if loaded.labels is None:
        raise CheckpointError(f"{path}: does not name its classes, which have to be matched with those of the videos")
    scoring = Scoring.of_checkpoint(loaded.labels, loaded.provenance, source=str(path))
    if scoring.heads is None:
        column = (loaded.provenance.get("config") or {}).get("label_column") or ""
        parts: tuple[tuple[str, tuple[str, ...]], ...] = ((column, loaded.labels),)
    else:
        parts = tuple((head.name, head.labels) for head in scoring.heads.heads)
    return ActionModel(
        path=path,
        model=loaded.model,
        clip_spec=loaded.clip_spec,
        protocol=loaded.protocol,
        scoring=scoring,
        parts=parts,
    )


def head_names(models: Sequence[ActionModel]) -> tuple[str, str]:
    """The columns from which the manifest has to be read: `read_manifest(heads=...)`."""
    verb, noun = (name for model in models for name, _ in model.parts)
    return verb, noun


def for_model(model: ActionModel, manifest: Manifest) -> Manifest:
    """The samples with the labels of this model's heads alone, in its label space. Raises DatasetError."""
    heads = model.scoring.heads
    samples = []
    for sample in manifest.samples:
        own = [label_of(sample.labels, name) for name, _ in model.parts]
        if heads is not None:  # by the names of the run, whatever the columns are called here
            own = [f"{head.name}{SEPARATOR}{label}" for head, label in zip(heads.heads, own, strict=True)]
        samples.append(dataclasses.replace(sample, labels=tuple(own)))
    space = heads.labels if heads is not None else model.parts[0][1]
    return dataclasses.replace(manifest, samples=tuple(samples), labels=()).with_labels(space)


def label_of(labels: Sequence[str], name: str) -> str:
    """The label of one head, without its prefix."""
    prefix = f"{name}{SEPARATOR}"
    return next(label[len(prefix) :] for label in labels if label.startswith(prefix))
