"""Options of `tenclip export` that say how a checkpoint is read and on what input its network works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

_CHECKPOINT, _INPUT = "Checkpoint", "Input of the network"


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """How the checkpoint is read."""

    family: Annotated[
        str | None,
        typer.Option(
            help="Family of a public checkpoint whose weights do not show on what input it was trained; "
            "`tenclip models --catalog` lists them.",
            show_default="as its tensors say",
            rich_help_panel=_CHECKPOINT,
        ),
    ] = None
    head: Annotated[
        Literal["fixed", "global", "mean"] | None,
        typer.Option(
            help="How the last map is pooled: all of it (global), a window that slides over larger clips (fixed), or "
            "the mean of its positions (mean).",
            show_default="the family's",
            rich_help_panel=_CHECKPOINT,
        ),
    ] = None
    model_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A setting of the network that leaves no trace in its weights, e.g. stem_pool=true. Repeatable.",
            show_default=False,
            rich_help_panel=_CHECKPOINT,
        ),
    ] = None
    features_only: Annotated[
        bool,
        typer.Option(
            "--features-only",
            help="Export the backbone without a classifier: the bundle answers features and refuses predictions.",
            rich_help_panel=_CHECKPOINT,
        ),
    ] = False

    @property
    def model_options(self) -> dict[str, Any]:
        """`model_option` as values: JSON where it is JSON, else text. Raises InvalidRequest."""
        return dict(_name_and_value(text) for text in self.model_option or ())


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """The input of the network, where it is not the preset's or the checkpoint's own. None leaves a part as it is."""

    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of a clip.", show_default="the preset's", rich_help_panel=_INPUT)
    ] = None
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="Take every n-th frame.", show_default="the preset's", rich_help_panel=_INPUT),
    ] = None
    fps: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Resample videos to this rate first, in frames per second; 0: take their own frames.",
            show_default="the preset's",
            rich_help_panel=_INPUT,
        ),
    ] = None
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="How frames are scaled, in pixels: HEIGHTxWIDTH, a short edge such as 256, or none.",
            show_default="the preset's",
            rich_help_panel=_INPUT,
        ),
    ] = None
    resize_kernel: Annotated[
        Literal["swscale_fast_bilinear", "swscale_bilinear", "opencv_bilinear", "pil_bilinear", "torch_bilinear"]
        | None,
        typer.Option(
            help="Whose interpolation scales the frames.", show_default="the preset's", rich_help_panel=_INPUT
        ),
    ] = None
    interlaced: Annotated[
        Literal["fields", "progressive"] | None,
        typer.Option(
            help="Scale the two fields of an interlaced frame apart, or ignore that it is interlaced.",
            show_default="the preset's",
            rich_help_panel=_INPUT,
        ),
    ] = None
    crop: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side of the square crop, in pixels.", show_default="the preset's", rich_help_panel=_INPUT
        ),
    ] = None
    fully_convolutional_crop: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Side of the larger crop of fully-convolutional tests, in pixels; 0: none.",
            show_default="the preset's, where it fits",
            rich_help_panel=_INPUT,
        ),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="R,G,B",
            help="Mean of the channels, in the order of --color-order and units of --value-range.",
            show_default="the preset's",
            rich_help_panel=_INPUT,
        ),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(
            metavar="R,G,B",
            help="Standard deviation of the channels, as --mean.",
            show_default="the preset's",
            rich_help_panel=_INPUT,
        ),
    ] = None
    value_range: Annotated[
        Literal["0-1", "0-255", "-1-1"] | None,
        typer.Option(
            help="Values of a pixel before --mean and --std.", show_default="the preset's", rich_help_panel=_INPUT
        ),
    ] = None
    color_order: Annotated[
        Literal["rgb", "bgr"] | None,
        typer.Option(help="Order of the channels.", show_default="the preset's", rich_help_panel=_INPUT),
    ] = None

    def changes(self) -> dict[str, Any]:
        """The fields of `ClipSpec` that were given, for `load_checkpoint(..., clip_spec=...)`; {} for none.

        Raises InvalidRequest for text that is no size or no three numbers.
        """
        found: dict[str, Any] = {
            "num_frames": self.frames,
            "frame_stride": self.stride,
            "crop": self.crop,
            "mean": None if self.mean is None else _three_numbers("--mean", self.mean),
            "std": None if self.std is None else _three_numbers("--std", self.std),
            "value_range": self.value_range,
            "color_order": self.color_order,
        }
        found = {name: value for name, value in found.items() if value is not None}
        # For these two None is a value: the video's own frames, no larger crop. The command line says 0.
        for name, number in (("target_fps", self.fps), ("fully_convolutional_crop", self.fully_convolutional_crop)):
            if number is not None:
                found[name] = number or None
        resize = {} if self.resize is None else _resize(self.resize)
        for name, value in (("kernel", self.resize_kernel), ("interlaced", self.interlaced)):
            if value is not None:
                resize[name] = value
        return {**found, "resize": resize} if resize else found


def _name_and_value(text: str) -> tuple[str, Any]:
    import json

    from tenclip_api.errors import InvalidRequest

    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise InvalidRequest(f"--model-option {text!r}: write NAME=VALUE, e.g. stem_pool=true")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def _three_numbers(option: str, text: str) -> list[float]:
    from tenclip_api.errors import InvalidRequest

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3:
        raise InvalidRequest(f"{option} {text!r}: write three numbers with commas, e.g. 0.45,0.45,0.45")
    return numbers


def _resize(text: str) -> dict[str, Any]:
    """Fields of `Resize`: `128x171` squashes to height x width, `256` scales the short edge, `none` does nothing."""
    from tenclip_api.errors import InvalidRequest

    sides = text.lower().split("x")
    if text.lower() == "none":
        return {"mode": "none"}
    if not all(side.strip().isdecimal() and int(side) > 0 for side in sides) or len(sides) > 2:
        raise InvalidRequest(f"--resize {text!r}: write HEIGHTxWIDTH, e.g. 128x171, a short edge, e.g. 256, or none")
    if len(sides) == 2:
        return {"mode": "squash", "height": int(sides[0]), "width": int(sides[1])}
    return {"mode": "short_edge", "short_edge": int(sides[0])}
