"""Changes to a ClipSpec, field by field: the clip options of a command, on top of those of a checkpoint or preset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from tenclip_settings import Setting, TextForm, check_all, numbers
from tenclip_video.flow import FLOW_MEAN, FLOW_STD
from tenclip_video.spec import ClipSpec, ColorOrder, InterlacedMode, Modality, ResizeKernel, ValueRange
from tenclip_video.spec_changes import change_spec

CLIPS = "Clips"  # heading in --help
_INHERITED = "as in --init-from"


def _parse_resize(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError("write HEIGHTxWIDTH, e.g. 128x171, a short edge, e.g. 128, or none")
    return tuple(int(side) for side in sides)


RESIZE = TextForm(_parse_resize, lambda sides: "x".join(map(str, sides)) or "none", metavar="HxW|SHORT|none")
CHANNELS = numbers(",", 3, "0.43,0.39,0.38", metavar="R,G,B")


@dataclass(frozen=True, kw_only=True)
class ClipOverrides:
    """The fields of a ClipSpec to replace; None keeps the spec's own.

    resize: (height, width) squashes, (short edge,) keeps the aspect ratio, () does not scale; the kernel and what is
    done with interlaced frames stay unless `resize_kernel` and `interlaced` say otherwise. target_fps 0: the videos'
    own rate. fully_convolutional_crop 0: none.

    >>> ClipOverrides(num_frames=8, resize=(64, 86)).apply_to(ClipSpec()).crop
    64
    """

    num_frames: Annotated[
        int | None,
        Setting("Frames in a clip.", option="--frames", lowest=1, group=CLIPS, default=f"16, or {_INHERITED}"),
    ] = None
    frame_stride: Annotated[
        int | None,
        Setting("Take every n-th frame.", option="--stride", lowest=1, group=CLIPS, default=f"1, or {_INHERITED}"),
    ] = None
    target_fps: Annotated[
        float | None,
        Setting(
            "Resample videos to this rate first; 0: their own.",
            option="--fps",
            lowest=0,
            group=CLIPS,
            default=f"their own, or {_INHERITED}",
        ),
    ] = None
    resize: Annotated[
        tuple[int, ...] | None,
        Setting(
            "Height and width, a short edge, or none.", form=RESIZE, group=CLIPS, default=f"128x171, or {_INHERITED}"
        ),
    ] = None
    resize_kernel: Annotated[
        ResizeKernel | None,
        Setting("How frames are scaled.", group=CLIPS, default=f"swscale_bilinear, or {_INHERITED}"),
    ] = None
    interlaced: Annotated[
        InterlacedMode | None,
        Setting(
            "Scale the two fields of an interlaced frame apart, or ignore that it is interlaced.",
            group=CLIPS,
            default=f"fields, or {_INHERITED}",
        ),
    ] = None
    crop: Annotated[
        int | None,
        Setting("Side of the square crop.", lowest=1, group=CLIPS, default=f"112 where it fits, or {_INHERITED}"),
    ] = None
    fully_convolutional_crop: Annotated[
        int | None,
        Setting(
            "Side of the larger crop of fully convolutional tests; 0: none.",
            lowest=0,
            group=CLIPS,
            default=f"the short edge, or {_INHERITED}",
        ),
    ] = None
    mean: Annotated[
        tuple[float, float, float] | None,
        Setting("Mean of each channel.", form=CHANNELS, group=CLIPS, default=f"Kinetics', or {_INHERITED}"),
    ] = None
    std: Annotated[
        tuple[float, float, float] | None,
        Setting(
            "Standard deviation of each channel.", form=CHANNELS, group=CLIPS, default=f"Kinetics', or {_INHERITED}"
        ),
    ] = None
    value_range: Annotated[
        ValueRange | None,
        Setting("Range of the pixels that mean and std refer to.", group=CLIPS, default=f"0-1, or {_INHERITED}"),
    ] = None
    color_order: Annotated[
        ColorOrder | None, Setting("Order of the channels.", group=CLIPS, default=f"rgb, or {_INHERITED}")
    ] = None

    modality: Annotated[
        Modality | None,
        Setting("Pictures, or optical flow from each frame to the next.", group=CLIPS, default=f"rgb, or {_INHERITED}"),
    ] = None

    def __post_init__(self) -> None:
        check_all(self)

    def apply_to(self, spec: ClipSpec) -> ClipSpec:
        """`spec` with these fields replaced, and with crops that fit where they are not named; see `change_spec`.

        Raises ValueError.
        """
        changes = self.changes()
        return change_spec(spec, changes) if changes else spec

    def changes(self) -> dict[str, Any]:
        """The fields that are not None as values of `ClipSpec`; {} for none."""
        plain = ("num_frames", "frame_stride", "crop", "mean", "std", "value_range", "color_order", "modality")
        changes = {name: value for name in plain if (value := getattr(self, name)) is not None}
        if self.modality == "flow":
            usual = {"mean": FLOW_MEAN, "std": FLOW_STD, "value_range": "0-255", "color_order": "rgb"}
            changes = {**usual, **changes}
        # For these two None is a value: the videos' own rate, no larger crop. Here it is 0.
        for name in ("target_fps", "fully_convolutional_crop"):
            if (value := getattr(self, name)) is not None:
                changes[name] = value or None
        resize = {} if self.resize is None else _resize_fields(self.resize)
        for name, value in (("kernel", self.resize_kernel), ("interlaced", self.interlaced)):
            if value is not None:
                resize[name] = value
        return {**changes, "resize": resize} if resize else changes


def _resize_fields(sides: tuple[int, ...]) -> dict[str, Any]:
    """Fields of `Resize`."""
    if not sides:
        return {"mode": "none"}
    if len(sides) == 1:
        return {"mode": "short_edge", "short_edge": sides[0]}
    return {"mode": "squash", "height": sides[0], "width": sides[1]}
