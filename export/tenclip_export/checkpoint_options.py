"""Options of `tenclip export` that say how a checkpoint is read and on what input its network works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from tenclip_settings import TextForm

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
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="HEAD",
            help="Of a checkpoint with several heads (tenclip train --heads), the one to export.",
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

        They mean what the same options of `tenclip train` mean. Raises InvalidRequest.
        """
        from tenclip_api.errors import InvalidRequest
        from tenclip_training.data.clip_overrides import CHANNELS, RESIZE, ClipOverrides

        try:
            return ClipOverrides(
                num_frames=self.frames,
                frame_stride=self.stride,
                target_fps=self.fps,
                resize=_parsed(RESIZE, "--resize", self.resize),
                resize_kernel=self.resize_kernel,
                interlaced=self.interlaced,
                crop=self.crop,
                fully_convolutional_crop=self.fully_convolutional_crop,
                mean=_parsed(CHANNELS, "--mean", self.mean),
                std=_parsed(CHANNELS, "--std", self.std),
                value_range=self.value_range,
                color_order=self.color_order,
            ).changes()
        except ValueError as err:
            raise InvalidRequest(str(err)) from err


def _parsed(form: TextForm, option: str, text: str | None) -> Any:
    try:
        return None if text is None else form.parse(text)
    except ValueError as err:
        raise ValueError(f"{option} {text!r}: {err}") from err


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
