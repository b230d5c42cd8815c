"""The choice between networks and inputs that tensors alone leave open.

A file's own configuration decides or refuses. Then the caller's `family`. What neither says is assumed and noted, or
asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.configuration import Configuration
from tenclip_training.loaders.overrides import SpecChanges, in_words, override_spec, spec_changes
from tenclip_training.loaders.plans import Plan
from tenclip_training.loaders.presets import PRESETS, Preset
from tenclip_training.models import ARCHITECTURES
from tenclip_training.models.registry import config_defaults
from tenclip_video.spec import ClipSpec

# What MMAction2's ResNet3d does where a config says nothing.
DEFAULTS: dict[str, dict[str, Any]] = {"ResNet3d": {"conv1_stride_t": 2, "pool1_stride_t": 2, "with_pool2": True}}
# PySlowFast's MODEL.ARCH, and the architectures that it means.
PYSLOWFAST_ARCHITECTURES = {
    "c2d": ("pytorchvideo_c2d_r50",),
    "i3d": ("pytorchvideo_i3d_r50",),
    "slow": ("pytorchvideo_slow_r50",),
    "csn": ("pytorchvideo_csn_r101",),
    "2plus1d": ("pytorchvideo_r2plus1d_r50",),
    "r2plus1d": ("pytorchvideo_r2plus1d_r50",),
    "slowfast": ("pytorchvideo_slowfast_r50", "pytorchvideo_slowfast_r101"),
    "x3d": ("pytorchvideo_x3d_m", "pytorchvideo_x3d_l"),
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`options` are config values of the network that the configuration set; `from_file` says which parts of the clip
    it changed, as field: [before, after]."""

    plan: Plan
    preset: Preset
    clip_spec: ClipSpec
    options: dict[str, Any] = field(default_factory=dict)
    from_file: dict[str, list[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check_family(family: str | None) -> None:
    """Raises CheckpointError for a name that is neither a preset nor a family of presets."""
    known = list(dict.fromkeys([*PRESETS, *(preset.family for preset in PRESETS.values())]))
    if family is not None and family not in known:
        near = get_close_matches(family, known, n=3) or sorted(PRESETS)
        raise CheckpointError(f"no family {family!r}; did you mean {', '.join(near)}?")


def choose(
    source: str, plan: Plan, configuration: Configuration, family: str | None, changes: SpecChanges | None = None
) -> Choice:
    """The network and the input. `source` names the file in errors; `changes` are those that the caller will make to
    the input, so that presets which they make equal need not be told apart.

    Raises CheckpointError where the configuration or `family` says another network than the tensors do, and where
    several inputs are possible and nothing decides.
    """
    named = _named(source, plan, configuration)
    plan = _of_family(source, named or plan, family, () if named else plan.alternatives, by_file=named is not None)
    options = _options(source, plan, configuration)
    preset = _preset(source, plan, configuration, family, changes)
    notes: list[str] = []
    told = configuration.num_frames is not None and (named is not None or not plan.alternatives)
    if family != preset.name and not told:
        notes += [f"taken for {preset.name}; {note}" for note in plan.assumed]
    by_file = spec_changes(configuration, preset.clip_spec)
    if not by_file:
        return Choice(plan=plan, preset=preset, clip_spec=preset.clip_spec, options=options, notes=tuple(notes))
    try:
        spec, changed = override_spec(preset.clip_spec, by_file)
    except ValueError as err:
        raise CheckpointError(f"{source}: the input in its own configuration cannot be used: {err}") from err
    if family == preset.name:
        notes.append(f"its own configuration says {in_words(changed)}; {family} was chosen")
        return Choice(plan=plan, preset=preset, clip_spec=preset.clip_spec, options=options, notes=tuple(notes))
    notes.append(f"from its own configuration: {in_words(changed)} (of {preset.name})")
    return Choice(plan=plan, preset=preset, clip_spec=spec, options=options, from_file=changed, notes=tuple(notes))


def _named(source: str, plan: Plan, configuration: Configuration) -> Plan | None:
    """The network that the configuration names, None where it names none."""
    plans = (plan, *plan.alternatives)
    kind = configuration.backbone.get("type")
    if isinstance(kind, str) and plan.backbones:
        found = next((p for p in plans if kind.rpartition(".")[2] in p.backbones), None)
        if found is None:
            raise CheckpointError(
                f"{source}: its own configuration says that it is a {kind}, but its tensors are those of "
                f"{plan.architecture}; a {kind} of this form is not in the zoo"
            )
        return found
    texts = _network_names(configuration)
    if plan.layout == "pytorchvideo":
        # "slow_r50" and "x3d_m" of the hub, "slow" and "x3d" of PySlowFast
        for text in texts:
            fitting = PYSLOWFAST_ARCHITECTURES.get(text.partition("_")[0])
            if fitting is not None and plan.architecture not in fitting:
                raise CheckpointError(
                    f"{source}: its own configuration says that it is {text}, but its tensors are those of "
                    f"{plan.architecture}"
                )
    return next((p for p in plan.alternatives if any(b.lower() in t for b in p.backbones for t in texts)), None)


def _network_names(configuration: Configuration) -> list[str]:
    """Names of the network in the options of training scripts, in lower case."""
    keys = ("model", "model_name", "arch", "architecture", "backbone")
    return [v.lower() for k, v in configuration.options.items() if k in keys and isinstance(v, str)]


def _of_family(source: str, plan: Plan, family: str | None, alternatives: tuple[Plan, ...], *, by_file: bool) -> Plan:
    """The plan, or the alternative, that has a preset of `family`."""
    plans = (plan, *alternatives)
    found = next((p for p in plans if family is None or any(family in (c.name, c.family) for c in p.candidates)), None)
    if found is None:
        what = "tensors and its own configuration" if by_file else "tensors"
        candidates = " or ".join(c.name for p in plans for c in p.candidates)
        raise CheckpointError(
            f"{source}: its {what} are those of {plan.architecture}, which {family!r} does not have; "
            f"it may be {candidates}"
        )
    return found


def _preset(
    source: str, plan: Plan, configuration: Configuration, family: str | None, changes: SpecChanges | None
) -> Preset:
    fitting = [p for p in plan.candidates if family is None or family in (p.name, p.family)]
    fitting = _by_configuration(fitting, configuration)
    # What differs only in its name is one input: VMZ's and ig65m's R(2+1)D-34 are the same weights.
    inputs: dict[tuple[ClipSpec, object], Preset] = {}
    for preset in fitting:
        by_file = _with(preset.clip_spec, spec_changes(configuration, preset.clip_spec))
        inputs.setdefault((_with(by_file, changes), preset.model), preset)
    distinct = list(inputs.values())
    if len(distinct) == 1 or plan.assumed:
        return distinct[0]
    choices = "; ".join(f"{p.name} ({p.description})" for p in distinct)
    raise CheckpointError(
        f"{source}: {plan.architecture}, but its weights do not show what input it was trained on; "
        f"choose with --family (family=...): {choices}"
    )


def _with(spec: ClipSpec, changes: SpecChanges | None) -> ClipSpec:
    """The spec after the caller's changes; unchanged where those are invalid, which `load` reports."""
    try:
        return spec if changes is None else override_spec(spec, changes)[0]
    except ValueError:
        return spec


def _by_configuration(presets: list[Preset], configuration: Configuration) -> list[Preset]:
    """Those that agree with the configuration in most of frames, stride and mean; all where it says none of them."""

    def agreement(preset: Preset) -> int:
        spec = preset.clip_spec
        mean = configuration.mean
        scale = 255 if mean is not None and max(mean) > 2 and spec.value_range == "0-1" else 1
        named = any(preset.name.endswith(f"-{text.replace('_', '-')}") for text in _network_names(configuration))
        return (
            8 * named
            + 4 * (configuration.num_frames == spec.num_frames)
            + 2 * (configuration.frame_stride == spec.frame_stride)
            + (mean is not None and abs(mean[0] - spec.mean[0] * scale) < 0.05 * scale)
        )

    best = max(agreement(preset) for preset in presets)
    return [preset for preset in presets if agreement(preset) == best]


def _options(source: str, plan: Plan, configuration: Configuration) -> dict[str, Any]:
    """Config values that the configuration sets. Raises CheckpointError for settings that the zoo does not have."""
    kind = str(configuration.backbone.get("type", "")).rpartition(".")[2]
    backbone = {**DEFAULTS.get(kind, {}), **configuration.backbone} if configuration.backbone else {}
    for name, expected in plan.fixed.items():
        value = backbone.get(name)
        if value is not None and value != expected and name not in plan.settings:
            raise CheckpointError(
                f"{source}: its own configuration says {name}={value}; {plan.architecture} in the zoo has {expected}"
            )
    pooling = configuration.head.get("spatial_type", "avg")
    if configuration.head and pooling != "avg":
        raise CheckpointError(f"{source}: its own configuration pools by {pooling!r}; the networks here average")
    if backbone.get("resample_rate", 0) != backbone.get("speed_ratio", 0):
        raise CheckpointError(f"{source}: its own configuration has a fast pathway that skips frames")
    options = _settings(plan, {**configuration.options, **backbone})
    accepted = config_defaults(ARCHITECTURES[plan.architecture])
    norm = backbone.get("norm_cfg")
    if isinstance(norm, dict) and norm.get("eps", 1e-5) != accepted["bn_eps"]:
        options["bn_eps"] = float(norm.get("eps", 1e-5))
    return options


def _settings(plan: Plan, values: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for theirs, ours in plan.settings.items():
        value = values.get(theirs)
        if value is None:
            continue
        if ours.startswith("!"):
            options[ours[1:]] = not value
        elif ours.startswith("+"):
            options[ours[1:]] = 2 if value else 1
        else:
            options[ours] = value
    return options
