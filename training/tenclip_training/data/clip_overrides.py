"""Changes to a ClipSpec, field by field: the clip options of a command, on top of those of a checkpoint or preset."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

from tenclip_settings import Setting, TextForm, check_all, numbers
from tenclip_video.spec import ClipSpec, ColorOrder, InterlacedMode, Resize, ResizeKernel, ValueRange

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
_CHANNELS = numbers(",", 3, "0.43,0.39,0.38", metavar="R,G,B")


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
        Setting("Mean of each channel.", form=_CHANNELS, group=CLIPS, default=f"Kinetics', or {_INHERITED}"),
    ] = None
    std: Annotated[
        tuple[float, float, float] | None,
        Setting(
            "Standard deviation of each channel.", form=_CHANNELS, group=CLIPS, default=f"Kinetics', or {_INHERITED}"
        ),
    ] = None
    value_range: Annotated[
        ValueRange | None,
        Setting("Range of the pixels that mean and std refer to.", group=CLIPS, default=f"0-1, or {_INHERITED}"),
    ] = None
    color_order: Annotated[
        ColorOrder | None, Setting("Order of the channels.", group=CLIPS, default=f"rgb, or {_INHERITED}")
    ] = None

    def __post_init__(self) -> None:
        check_all(self)

    def apply_to(self, spec: ClipSpec) -> ClipSpec:
        """`spec` with these fields replaced, and with crops that fit where they are not named.

        Where the frames become smaller than the crop, the crop shrinks with them; the fully convolutional crop, where
        the spec has one, is the largest square of the frame (IG-65M: 128 of 128x171). Raises ValueError.
        """
        if self == ClipOverrides():
            return spec
        plain = ("num_frames", "frame_stride", "mean", "std", "value_range", "color_order", "crop")
        changes: dict[str, Any] = {name: value for name in plain if (value := getattr(self, name)) is not None}
        if self.target_fps is not None:
            changes["target_fps"] = self.target_fps or None
        changes["resize"] = resize = self._resize(spec.resize)
        short = short_edge(resize)
        if self.crop is None and self.resize is not None and short is not None:
            changes["crop"] = min(spec.crop, short)
        if self.fully_convolutional_crop is not None:
            changes["fully_convolutional_crop"] = self.fully_convolutional_crop or None
        elif (self.crop is not None or self.resize is not None) and spec.fully_convolutional_crop is not None:
            crop = changes.get("crop", spec.crop)
            changes["fully_convolutional_crop"] = short if short is not None and short > crop else None
        changed = dataclasses.replace(spec, **changes)
        check_crop(changed)
        return changed

    def _resize(self, resize: Resize) -> Resize:
        changes: dict[str, Any] = {}
        if self.resize is not None and len(self.resize) == 2:
            changes = {"mode": "squash", "height": self.resize[0], "width": self.resize[1]}
        elif self.resize:
            changes = {"mode": "short_edge", "short_edge": self.resize[0]}
        elif self.resize is not None:
            changes = {"mode": "none"}
        if self.resize_kernel is not None:
            changes["kernel"] = self.resize_kernel
        if self.interlaced is not None:
            changes["interlaced"] = self.interlaced
        return dataclasses.replace(resize, **changes)


def short_edge(resize: Resize) -> int | None:
    """The shorter side of every resized frame in pixels; None where it depends on the video."""
    return {"squash": min(resize.height, resize.width), "short_edge": resize.short_edge, "none": None}[resize.mode]


def check_crop(spec: ClipSpec) -> None:
    """Raises ValueError when a crop of the spec does not fit into its frames."""
    short = short_edge(spec.resize)
    crop = max(spec.crop, spec.fully_convolutional_crop or 0)
    if short is not None and short < crop:
        raise ValueError(f"a crop of {crop} does not fit into frames of which one side is {short}")
