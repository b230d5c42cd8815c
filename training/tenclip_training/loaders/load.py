"""From a public checkpoint to a network of ours that gives the authors' numbers: read, recognise, map, check."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.files import WeightsFile, read_weights
from tenclip_training.loaders.layouts import Plan, UnknownLayoutError, recognise
from tenclip_training.loaders.presets import LABEL_SOURCES, PRESETS, Preset
from tenclip_training.models import VideoModel, create_model
from tenclip_video.spec import ClipSpec

SHOWN = 10  # names in each list of an error


class PublicCheckpoint(NamedTuple):
    """`model` is in eval mode, on the CPU. `provenance` are plain values: `family`, `preset`, `architecture`, `format`,
    `file` and `file_sha256`, `protocol`, `label_source` (the name of a public list of classes, or None), `published`,
    `source`, `ignored` (tensors left out and why) and `notes`."""

    model: VideoModel
    clip_spec: ClipSpec
    provenance: dict[str, Any]


def load_public_checkpoint(path: Path | str, *, family: str | None = None) -> PublicCheckpoint:
    """Load a checkpoint of a public family: torchvision, VMZ (PyTorch and Caffe2), ig65m, 3D-ResNets (2018 and 2020),
    MMAction2 (0.x and 1.x), pytorchvideo, I3D, EfficientNet-Lite0, and torchvision's 2D ResNets.

    The family is recognised by names and shapes of tensors; the number of classes, width and depth come from shapes.
    `family` is a name of `PRESETS` ("vmz-8f") or their family ("vmz"), and decides where weights alike in shape were
    trained on different inputs. Raises CheckpointError that names the file: unreadable, of no family known, of several
    (with the names to choose from), or with tensors missing, unexpected, of a wrong shape or not finite.
    """
    path = Path(path)
    _check_family(family)
    weights = read_weights(path)
    if "architecture" in weights.beside and "clip_spec" in weights.beside:
        raise CheckpointError(f"{path}: a checkpoint of tenclip; tenclip_training.load_checkpoint reads it")
    try:
        plan = recognise(weights)
    except UnknownLayoutError as err:
        raise CheckpointError(f"{path}: not a network of the zoo: {err}") from err
    if plan is None:
        raise CheckpointError(
            f"{path}: weights of no family known here; they are named {', '.join(sorted(weights.tensors)[:5])}, ..."
        )
    preset = _choose(path, plan, family)
    model = _build(path, plan, preset, weights)
    provenance = _provenance(path, plan, preset, weights, model)
    if family is None:
        provenance["notes"] += [f"taken for {preset.name}; {note}" for note in plan.assumed]
    return PublicCheckpoint(model, preset.clip_spec, provenance)


def _check_family(family: str | None) -> None:
    known = list(dict.fromkeys([*PRESETS, *(preset.family for preset in PRESETS.values())]))
    if family is not None and family not in known:
        near = get_close_matches(family, known, n=3) or sorted(PRESETS)
        raise CheckpointError(f"no family {family!r}; did you mean {', '.join(near)}?")


def _choose(path: Path, plan: Plan, family: str | None) -> Preset:
    if family is None:
        # What differs only in its name is one input: VMZ's and ig65m's R(2+1)D-34 are the same weights.
        inputs: dict[tuple[ClipSpec, object], Preset] = {}
        for preset in plan.candidates:
            inputs.setdefault((preset.clip_spec, preset.model), preset)
        fitting = list(inputs.values())[: 1 if plan.assumed else None]
    else:
        fitting = [p for p in plan.candidates if family in (p.name, p.family)]
        if not fitting:
            raise CheckpointError(
                f"{path}: its tensors are those of {plan.architecture}, which {family!r} does not have; "
                f"it may be {_names(plan.candidates)}"
            )
    if len(fitting) == 1:
        return fitting[0]
    choices = "; ".join(f"{p.name} ({p.description})" for p in fitting)
    raise CheckpointError(
        f"{path}: {plan.architecture}, but its weights do not show what input it was trained on; "
        f"choose with --family (family=...): {choices}"
    )


def _names(presets: tuple[Preset, ...]) -> str:
    return " or ".join(p.name for p in presets)


def _build(path: Path, plan: Plan, preset: Preset, weights: WeightsFile) -> VideoModel:
    spec = preset.clip_spec
    config = {"num_frames": spec.num_frames, "crop": spec.crop, **plan.config, **dict(preset.model)}
    fc = next((weights.tensors[theirs] for theirs, ours in plan.names.items() if ours == "fc.weight"), None)
    if fc is None or fc.dim() < 2:
        raise CheckpointError(f"{path}: {plan.architecture} without a classifier; tenclip needs whole networks")
    with torch.device("meta"):  # weights are about to come, so none are made
        try:
            model = create_model(plan.architecture, num_classes=fc.shape[0], **config)
        except ValueError as err:
            raise CheckpointError(f"{path}: {err}") from err
    state = map_tensors(path, plan, weights.tensors, model.state_dict())
    model.load_state_dict(state, assign=True)
    return model.eval()


def map_tensors(
    path: Path, plan: Plan, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Every tensor once, under our names, float32. Raises CheckpointError that lists what is missing, unexpected, of a
    wrong shape, or not finite."""
    unexpected = [name for name in tensors if name not in plan.names and name not in plan.ignored]
    state: dict[str, Tensor] = {}
    misfits: list[str] = []
    for theirs, ours in plan.names.items():
        if ours not in expected:
            unexpected.append(theirs)
            continue
        if ours in state:
            raise CheckpointError(f"{path}: {theirs} and another tensor are both {ours}")
        state[ours] = _fit(tensors[theirs], expected[ours])
        if state[ours].shape != expected[ours].shape:
            got, need = list(tensors[theirs].shape), list(expected[ours].shape)
            misfits.append(f"{theirs} is {got}, needed is {need}")
    _fill_counters(state, expected)
    missing = [name for name in expected if name not in state]
    if missing or unexpected or misfits:
        lists = (("missing (by our names)", missing), ("unexpected", unexpected), ("of a wrong shape", misfits))
        raise CheckpointError(
            f"{path}: not a whole {plan.architecture}: "
            + "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in lists if names)
        )
    _check_values(path, {ours: theirs for theirs, ours in plan.names.items()}, state)
    return state


def _fit(value: Tensor, like: Tensor) -> Tensor:
    """The same values as float32, with the dimensions that our modules have and the authors' lack, or the other way."""
    value = value.detach().to(like.dtype)
    if value.dim() == 4 and like.dim() == 5 and like.shape[2] == 1:
        value = value.unsqueeze(2)  # a frame model: [O,I,k,k] -> [O,I,1,k,k]
    if value.dim() == 5 and like.dim() == 2 and value.shape[2:] == (1, 1, 1):
        value = value.flatten(1)  # a classifier that is a 1x1x1 convolution
    # A copy, so that nothing holds on to the file's storage, which several tensors may share.
    return value.clone(memory_format=torch.contiguous_format)


def _fill_counters(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Caffe2 and old versions of torch do not count the batches of a batch norm; nothing depends on the count here."""
    for name in expected:
        if name.endswith("num_batches_tracked") and name not in state:
            state[name] = torch.zeros((), dtype=torch.int64)


def _check_values(path: Path, theirs: Mapping[str, str], state: Mapping[str, Tensor]) -> None:
    not_finite = [theirs[n] for n, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if not_finite:
        raise CheckpointError(f"{path}: {len(not_finite)} tensors hold NaN or infinity: {_some(not_finite)}")
    negative = [theirs[n] for n, v in state.items() if n.endswith("running_var") and bool((v < 0).any())]
    if negative:
        raise CheckpointError(f"{path}: {len(negative)} batch norms have a negative variance: {_some(negative)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _provenance(path: Path, plan: Plan, preset: Preset, weights: WeightsFile, model: VideoModel) -> dict[str, Any]:
    label_source = LABEL_SOURCES.get((preset.family, model.num_classes))
    notes: list[str] = []
    if label_source is None:
        notes.append(
            f"no label list was published for {model.num_classes} classes of {preset.family}: "
            "labels are numbers unless a file of them is given"
        )
    if plan.ignored:
        notes.append(f"{len(plan.ignored)} tensors left out: {', '.join(sorted(set(plan.ignored.values())))}")
    return {
        "kind": "public checkpoint",
        "family": preset.family,
        "preset": preset.name,
        "architecture": plan.architecture,
        "format": weights.format,
        "layout": plan.layout,
        "file": path.name,
        "file_sha256": weights.sha256,
        "protocol": preset.protocol,
        "label_source": label_source,
        "published": preset.published,
        "source": preset.source,
        "ignored": sorted(plan.ignored),
        "notes": notes,
    }
