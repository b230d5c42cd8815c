"""Changes to some fields of a ClipSpec, and the rule by which its crops follow.

`tenclip train` and `tenclip export` change clips by this one rule, and so do `load_checkpoint(..., clip_spec=...)` and
the configuration in a checkpoint file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from tenclip_video.spec import ClipSpec, Resize


def change_spec(spec: ClipSpec, changes: Mapping[str, Any]) -> ClipSpec:
    """`spec` with the fields of `changes`, and with crops that fit where `changes` does not name them.

    >>> changed = change_spec(ClipSpec(), {"num_frames": 8, "resize": {"height": 64, "width": 86}})
    >>> changed.num_frames, changed.crop, changed.fully_convolutional_crop
    (8, 64, None)

    changes: values by the names of `ClipSpec`; "resize" is a `Resize`, or some of its fields.
    Where the frames become smaller than the crop, the crop shrinks with them. After a change of size or crop, the
    larger crop of fully-convolutional tests, where the spec has one, is the largest square of the frame (IG-65M: 128
    of 128x171), and none where that is not larger than the crop.

    Raises ValueError for a field that `ClipSpec` does not have, a value that it does not take, or a named crop that
    does not fit into the frames.
    """
    before = spec.to_dict()
    resize = changes.get("resize", {})
    resize = {**before["resize"], **(asdict(resize) if isinstance(resize, Resize) else resize)}
    values = {**before, **changes, "resize": resize}
    # Until it is known what fits, no larger crop is there to contradict the crop.
    values["fully_convolutional_crop"] = changes.get("fully_convolutional_crop")
    try:
        short = shortest_side(Resize(**resize))
        if "crop" not in changes and "resize" in changes and short is not None:
            values["crop"] = min(spec.crop, short)
        changed = ClipSpec.from_dict(values)
    except TypeError as err:
        unknown = set(resize) - set(before["resize"])
        if unknown:
            raise ValueError(f"ClipSpec.resize has no field {', '.join(sorted(unknown))}") from err
        raise ValueError(f"a value of another type than ClipSpec takes ({err}): {dict(changes)}") from err
    if "fully_convolutional_crop" not in changes and spec.fully_convolutional_crop is not None:
        larger: int | None = spec.fully_convolutional_crop
        if "crop" in changes or "resize" in changes:
            larger = short if short is not None and short > changed.crop else None
        changed = replace(changed, fully_convolutional_crop=larger)
    check_crop(changed)
    return changed


def shortest_side(resize: Resize) -> int | None:
    """The shorter side of every resized frame in pixels; None where it depends on the video."""
    return {"squash": min(resize.height, resize.width), "short_edge": resize.short_edge, "none": None}[resize.mode]


def check_crop(spec: ClipSpec) -> None:
    """Raises ValueError when a crop of the spec does not fit into its frames."""
    short = shortest_side(spec.resize)
    crop = max(spec.crop, spec.fully_convolutional_crop or 0)
    if short is not None and short < crop:
        raise ValueError(f"a crop of {crop} pixels does not fit into frames resized to {short}")
