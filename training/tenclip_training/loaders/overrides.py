"""Changes of a preset's input that a caller or a file's own configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenclip_training.loaders.configuration import Configuration
from tenclip_video.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from tenclip_video.spec import ClipSpec
from tenclip_video.spec_changes import change_spec, check_crop

# A whole spec, or some of its fields; "resize" may hold some fields of `Resize`.
SpecChanges = ClipSpec | Mapping[str, Any]


def override_spec(spec: ClipSpec, changes: SpecChanges) -> tuple[ClipSpec, dict[str, list[Any]]]:
    """(the spec with `changes`, what changed as field: [before, after] in plain values).

    >>> changed, log = override_spec(ClipSpec(), {"num_frames": 8, "resize": {"short_edge": 256, "mode": "short_edge"}})
    >>> changed.num_frames, log["num_frames"], log["resize.short_edge"]
    (8, [16, 8], [128, 256])

    Crops that `changes` does not name follow as `tenclip_video.spec_changes` says. Raises ValueError for a field that
    `ClipSpec` does not have, a value that it does not take, or a crop that is larger than the resized frames.
    """
    changed = changes if isinstance(changes, ClipSpec) else change_spec(spec, changes)
    check_crop(changed)
    return changed, _difference(spec.to_dict(), changed.to_dict())


def spec_changes(configuration: Configuration, spec: ClipSpec) -> dict[str, Any]:
    """The clip of a file's configuration, as changes of `spec`; {} where it agrees or says nothing."""
    found: dict[str, Any] = {
        "num_frames": configuration.num_frames,
        "frame_stride": configuration.frame_stride,
        "target_fps": configuration.target_fps,
        "crop": configuration.crop,
    }
    if configuration.mean is not None and configuration.std is not None:
        large = max(configuration.std) > 2
        found |= {"mean": configuration.mean, "std": configuration.std, "value_range": "0-255" if large else "0-1"}
    if configuration.bgr is not None:
        found["color_order"] = "bgr" if configuration.bgr else "rgb"
    found = {name: value for name, value in found.items() if value is not None and value != getattr(spec, name)}
    if set(found) == {"value_range"} or _same_affine(spec, found):
        found = {k: v for k, v in found.items() if k not in ("mean", "std", "value_range")}
    edge = configuration.short_edge or (configuration.crop if "crop" in found else None)
    if edge is not None and (edge != spec.resize.short_edge or spec.resize.mode != "short_edge"):
        found["resize"] = {"mode": "short_edge", "short_edge": edge, "height": edge, "width": edge}
    return found


def protocol_for(protocol: str, spec: ClipSpec) -> str:
    """`protocol`, or what is left of it where the spec has no larger crop for a fully-convolutional test."""
    if not PROTOCOLS[protocol].fully_convolutional or spec.fully_convolutional_crop is not None:
        return protocol
    return DEFAULT_PROTOCOL if PROTOCOLS[protocol].crop == "center" else "mmaction2-10x3"


def in_words(changed: Mapping[str, list[Any]]) -> str:
    """
    >>> in_words({"num_frames": [32, 16]})
    'num_frames 16 instead of 32'
    """
    # With a short edge the other sides of a resize are not used.
    unused = ("resize.height", "resize.width") if "resize.short_edge" in changed else ()
    shown = {name: values for name, values in changed.items() if name not in unused}
    return ", ".join(f"{name} {after} instead of {before}" for name, (before, after) in shown.items())


def _same_affine(spec: ClipSpec, found: Mapping[str, Any]) -> bool:
    """Whether mean and std are the spec's own, in other units or to fewer digits."""
    if "mean" not in found and "std" not in found:
        return False
    try:
        other, _ = override_spec(spec, {k: found[k] for k in ("mean", "std", "value_range") if k in found})
    except ValueError:
        return False
    pairs = zip(spec.affine(), other.affine(), strict=True)
    return all(bool((abs(a - b) <= 2e-3 * abs(a)).all()) for a, b in pairs)


def _difference(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, value in after.items():
        if isinstance(value, dict):
            found |= _difference(before[name], value, f"{name}.")
        elif value != before[name]:
            found[prefix + name] = [_plain(before[name]), _plain(value)]
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
