"""Public checkpoints: read the tensors, recognise the network, map the names, check every value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError
from tenclip_data.wording import some_of
from tenclip_training.loaders.choose import Choice, check_family, choose
from tenclip_training.loaders.files import WeightsFile, read_weights
from tenclip_training.loaders.layouts import recognise
from tenclip_training.loaders.overrides import SpecChanges, in_words, override_spec, protocol_for
from tenclip_training.loaders.plans import Plan, UnknownLayoutError
from tenclip_training.loaders.presets import LABEL_SOURCES
from tenclip_training.models import ARCHITECTURES, VideoModel, create_model
from tenclip_training.models.registry import config_defaults
from tenclip_training.models.video_model import Head
from tenclip_video.spec import ClipSpec

SHOWN = 10  # names in each list of an error
WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class PublicCheckpoint(NamedTuple):
    """`model` is in eval mode, on the CPU. `provenance` are plain values: `family`, `preset`, `architecture`, `format`,
    `file` and `file_sha256`, `protocol`, `label_source` (the name of a public list of classes, or None), `published`,
    `source`, `prefix` (what stood before all names), `ignored` (tensors left out), `model_options` and
    `clip_spec_changes` (what differs from the preset, as field: [before, after]), and `notes`, sentences for people."""

    model: VideoModel
    clip_spec: ClipSpec
    provenance: dict[str, Any]


def load_public_checkpoint(
    path: Path | str,
    *,
    family: str | None = None,
    clip_spec: SpecChanges | None = None,
    head: Head | None = None,
    model_options: Mapping[str, Any] | None = None,
    features_only: bool = False,
) -> PublicCheckpoint:
    """Load a checkpoint of a public family: torchvision, VMZ (PyTorch and Caffe2), ig65m, 3D-ResNets (2018 and 2020),
    MMAction2 (0.x and 1.x), pytorchvideo, I3D, EfficientNet-Lite0, and torchvision's 2D ResNets.

    The family is recognised by names and shapes of tensors; the number of classes, width and depth come from shapes.
    Where the file carries its own configuration, that decides between networks and inputs alike in shape, or refuses.
    See `load_checkpoint` for the arguments.

    Raises CheckpointError that names the file: unreadable, of no family known, of several (with the names to choose
    from), at odds with its own configuration, or with tensors missing, unexpected, of a wrong shape or type, or not
    finite.
    """
    path = Path(path)
    check_family(family)
    weights = read_weights(path)
    if "architecture" in weights.beside and "clip_spec" in weights.beside:
        raise CheckpointError(f"{path}: a checkpoint of tenclip; tenclip_training.load_checkpoint reads it")
    try:
        found = recognise(weights)
    except UnknownLayoutError as err:
        raise CheckpointError(f"{path}: not a network of the zoo: {err}") from err
    if found is None:
        raise CheckpointError(
            f"{path}: weights of no family known here; they are named {', '.join(sorted(weights.tensors)[:5])}, ..."
        )
    plan, weights = found
    choice = choose(str(path), plan, weights.configuration, family, clip_spec)
    spec, changed = _override(path, choice.clip_spec, clip_spec)
    options = {**choice.options, **({} if head is None else {"head": head}), **(model_options or {})}
    model, left_out = _build(path, choice, spec, options, weights, features_only=features_only)
    provenance = _provenance(path, choice, weights, model)
    provenance |= {
        "protocol": protocol_for(choice.preset.protocol, spec),
        "model_options": options,
        "clip_spec_changes": {**choice.from_file, **changed},
        "ignored": sorted(left_out),
    }
    if changed or choice.from_file:
        provenance["published"] = None  # it was measured with the preset's input
    asked = {*(model_options or {}), *choice.options}
    provenance["notes"] += _notes(choice, weights, left_out, changed, options, asked)
    return PublicCheckpoint(model, spec, provenance)


def _override(path: Path, spec: ClipSpec, changes: SpecChanges | None) -> tuple[ClipSpec, dict[str, list[Any]]]:
    if changes is None:
        return spec, {}
    try:
        return override_spec(spec, changes)
    except (ValueError, TypeError) as err:
        raise CheckpointError(f"{path}: clip_spec: {err}") from err


def _build(
    path: Path, choice: Choice, spec: ClipSpec, options: Mapping[str, Any], weights: WeightsFile, *, features_only: bool
) -> tuple[VideoModel, dict[str, str]]:
    """(the network, the tensors left out and why)."""
    plan = choice.plan
    made_for = {"num_frames": spec.num_frames, "crop": choice.preset.made_for(spec.crop)}
    config = {**plan.config, **dict(choice.preset.model), **made_for, **options}
    fc = next((weights.tensors[theirs] for theirs, ours in plan.names.items() if ours == "fc.weight"), None)
    if not features_only and (fc is None or fc.dim() < 2):
        raise CheckpointError(
            f"{path}: {plan.architecture} without a classifier. For its features alone, load it with "
            "features_only=True (--features-only)"
        )
    classes = None if features_only or fc is None else fc.shape[0]
    with torch.device("meta"):  # weights are about to come, so none are made
        try:
            model = create_model(plan.architecture, num_classes=classes, **config)
        except (ValueError, TypeError) as err:
            raise CheckpointError(f"{path}: {err}") from err
    expected = model.state_dict()
    left_out = {**plan.ignored, **_left_out(plan, weights.tensors, expected, features_only=features_only)}
    state = map_tensors(path, plan, weights.tensors, expected, left_out)
    model.load_state_dict(state, assign=True)
    return model.eval(), left_out


def _left_out(
    plan: Plan, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, features_only: bool
) -> dict[str, str]:
    """Tensors that the network can do without: masks, counters and the like, and for `features_only` what is no part
    of the backbone."""
    backbone = {_module_of(theirs) for theirs, ours in plan.names.items() if ours in expected}
    unknown = {n: v for n, v in tensors.items() if plan.names.get(n) not in expected and n not in plan.ignored}
    left = {n: "no weights" for n, v in unknown.items() if not v.is_floating_point() and not v.is_complex()}
    if features_only:
        classifier = [n for n in unknown if plan.names.get(n, "").startswith("fc.")]
        left |= {name: "no part of the backbone" for name in unknown if _module_of(name) not in backbone}
        left |= dict.fromkeys(classifier, "the classifier")
    return left


def _module_of(name: str) -> str:
    """The outermost module, and of a list of modules the one in it.

    >>> _module_of("blocks.6.proj.weight"), _module_of("layer1.0.conv1.weight")
    ('blocks.6', 'layer1')
    """
    first, _, rest = name.partition(".")
    second = rest.partition(".")[0]
    return f"{first}.{second}" if second.isdigit() and not first[-1:].isdigit() else first


def map_tensors(
    path: Path,
    plan: Plan,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Every tensor once, under our names, float32; but those of `left_out`.

    Raises CheckpointError that lists what is missing, unexpected, of a wrong shape, of a type that holds no weights,
    or not finite.
    """
    left_out = plan.ignored if left_out is None else left_out
    unexpected = [name for name in tensors if name not in plan.names and name not in left_out]
    state: dict[str, Tensor] = {}
    misfits: list[str] = []
    for theirs, ours in plan.names.items():
        if theirs in left_out:
            continue
        if ours not in expected:
            unexpected.append(theirs)
            continue
        if ours in state:
            raise CheckpointError(f"{path}: {theirs} and another tensor are both {ours}")
        _check_type(path, theirs, tensors[theirs], expected[ours])
        value = _reshaped(tensors[theirs], expected[ours])
        if value.shape != expected[ours].shape:
            got, need = list(tensors[theirs].shape), list(expected[ours].shape)
            misfits.append(f"{theirs} is {got}, needed is {need}")
            value = expected[ours]
        # A copy, so that nothing holds on to the file's storage, which several tensors may share.
        state[ours] = value.detach().to(expected[ours].dtype, copy=True, memory_format=torch.contiguous_format)
    _fill_counters(state, expected)
    missing = [name for name in expected if name not in state]
    if missing or unexpected or misfits:
        lists = (("missing (by our names)", missing), ("unexpected", unexpected), ("of a wrong shape", misfits))
        raise CheckpointError(
            f"{path}: not a whole {plan.architecture}: "
            + "; ".join(f"{len(names)} {what}: {some_of(names, SHOWN)}" for what, names in lists if names)
        )
    _check_values(path, {ours: theirs for theirs, ours in plan.names.items()}, state)
    return state


def _check_type(path: Path, name: str, value: Tensor, like: Tensor) -> None:
    if like.is_floating_point() and value.dtype not in WEIGHT_DTYPES:
        readable = ", ".join(str(dtype).removeprefix("torch.") for dtype in WEIGHT_DTYPES)
        raise CheckpointError(
            f"{path}: {name} is of type {str(value.dtype).removeprefix('torch.')}, which is no weight: readable are "
            f"{readable}. Of a quantised network, save the weights before they were quantised"
        )


def _reshaped(value: Tensor, like: Tensor) -> Tensor:
    """The same values with the dimensions that our modules have and the authors' lack, or the other way."""
    if value.dim() == 4 and like.dim() == 5 and like.shape[2] == 1:
        value = value.unsqueeze(2)  # a frame model: [O,I,k,k] -> [O,I,1,k,k]
    if value.dim() == 5 and like.dim() == 2 and value.shape[2:] == (1, 1, 1):
        value = value.flatten(1)  # a linear layer that is a 1x1x1 convolution
    return value


def _fill_counters(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Caffe2 and old versions of torch do not count the batches of a batch norm; nothing depends on the count here."""
    for name in expected:
        if name.endswith("num_batches_tracked") and name not in state:
            state[name] = torch.zeros((), dtype=torch.int64)


def _check_values(path: Path, theirs: Mapping[str, str], state: Mapping[str, Tensor]) -> None:
    not_finite = [theirs[n] for n, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if not_finite:
        raise CheckpointError(f"{path}: {len(not_finite)} tensors hold NaN or infinity: {some_of(not_finite, SHOWN)}")
    negative = [theirs[n] for n, v in state.items() if n.endswith("running_var") and bool((v < 0).any())]
    if negative:
        raise CheckpointError(
            f"{path}: {len(negative)} batch norms have a negative variance: {some_of(negative, SHOWN)}"
        )


def _provenance(path: Path, choice: Choice, weights: WeightsFile, model: VideoModel) -> dict[str, Any]:
    plan, preset = choice.plan, choice.preset
    label_source = LABEL_SOURCES.get((preset.family, model.num_classes))
    notes: list[str] = []
    if model.num_classes == 0:
        notes.append("a backbone without a classifier: it gives features and no predictions")
    elif label_source is None:
        notes.append(
            f"no label list was published for {model.num_classes} classes of {preset.family}: "
            "labels are numbers unless a file of them is given"
        )
    return {
        "kind": "public checkpoint",
        "family": preset.family,
        "preset": preset.name,
        "architecture": plan.architecture,
        "format": weights.format,
        "layout": plan.layout,
        "file": path.name,
        "file_sha256": weights.sha256,
        "label_source": label_source,
        "published": preset.published,
        "source": preset.source,
        "prefix": weights.prefix,
        "notes": notes,
    }


def _notes(
    choice: Choice,
    weights: WeightsFile,
    left_out: Mapping[str, str],
    changed: Mapping[str, list[Any]],
    options: Mapping[str, Any],
    asked: set[str],
) -> list[str]:
    """Notes for the user: assumptions, then changes, then tensors and objects left out."""
    notes = list(choice.notes)
    notes += [
        f"{note} (model_options={{'{option}': ...}}, --model-option {option}=...)"
        for option, note in choice.plan.unseen.items()
        if option not in asked
    ]
    if changed:
        notes.append(f"input changed from {choice.preset.name}: {in_words(changed)}")
    defaults = config_defaults(ARCHITECTURES[choice.plan.architecture])
    differing = {name: value for name, value in options.items() if value != defaults[name]}
    if differing:
        notes.append("network: " + ", ".join(f"{name}={value}" for name, value in differing.items()))
    if weights.prefix:
        notes.append(f"{weights.prefix!r} stood before all names and was taken off")
    if left_out:
        count = "1 tensor" if len(left_out) == 1 else f"{len(left_out)} tensors"
        notes.append(f"{count} left out: {', '.join(sorted(set(left_out.values())))}")
    return [*notes, *weights.notes]
