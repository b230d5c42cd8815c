"""The options of `tenclip export`, a dataclass for each group; see `tenclip_client.cli.options`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tenclip_video.spec import ClipSpec

_BUNDLE, _CHECKPOINT, _INPUT = "Bundle", "Checkpoint", "Input of the network"
_VARIANTS, _CHECKS = "Variants and targets", "Checks"


class TargetOption(StrEnum):
    bundle = "bundle"
    torchserve = "torchserve"
    triton = "triton"


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """Where the bundle goes and what it is called."""

    out: Annotated[
        Path, typer.Option(help="Folder of bundles to write into: OUT/NAME/VERSION.", rich_help_panel=_BUNDLE)
    ] = Path("models")
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model.", show_default="from the checkpoint's path", rich_help_panel=_BUNDLE),
    ] = None
    version: Annotated[
        str | None, typer.Option(help="Its version.", show_default="the next free integer", rich_help_panel=_BUNDLE)
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Text file, one class name a line.",
            show_default="the checkpoint's own, or numbers",
            rich_help_panel=_BUNDLE,
        ),
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the version if it exists.", rich_help_panel=_BUNDLE)
    ] = False

    def class_names(self, num_classes: int) -> tuple[str, ...] | None:
        """What `labels` names; None without it. Raises BundleError for another number than `num_classes`."""
        from tenclip_api.errors import BundleError
        from tenclip_data.manifest import read_labels

        if self.labels is None:
            return None
        names = read_labels(self.labels)
        if len(names) != num_classes:
            raise BundleError(f"{self.labels}: {len(names)} labels for a model of {num_classes} classes")
        return names


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


@dataclass(frozen=True, kw_only=True)
class VariantOptions:
    """Precisions, formats and targets beside the float32 ONNX graph."""

    variant: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Precisions, with commas: fp32, fp16, bf16, int8. One that drifts beyond its bound is left out.",
            rich_help_panel=_VARIANTS,
        ),
    ] = "fp32"
    format: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="With commas: onnx, torch (programs for --runtime torch), tensorrt (engines for the GPU of this "
            "machine).",
            rich_help_panel=_VARIANTS,
        ),
    ] = "onnx"
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            help="A video, or a folder of videos, to calibrate int8 on. Repeatable.",
            show_default=False,
            rich_help_panel=_VARIANTS,
        ),
    ] = None
    target: Annotated[
        list[TargetOption] | None,
        typer.Option(
            help="Also write, into OUT, what another server reads: an archive NAME-VERSION.mar for TorchServe, or "
            "NAME/config.pbtxt for Triton. Repeatable.",
            show_default="bundle",
            rich_help_panel=_VARIANTS,
        ),
    ] = None

    @property
    def precisions(self) -> list[str]:
        return _split(self.variant)

    @property
    def formats(self) -> list[str]:
        return _split(self.format)

    @property
    def targets(self) -> list[str]:
        return [str(target) for target in self.target or ()]

    def calibration_clips(self, spec: ClipSpec) -> NDArray[np.uint8] | None:
        """Clips of the calibration videos, uint8 [N,T,crop,crop,3]; None where none were given."""
        from tenclip_export.calibration import calibration_clips

        return calibration_clips(self.calibration, spec) if self.calibration else None


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What is checked and measured beside the golden clips, and how it is printed."""

    video: Annotated[
        list[Path] | None,
        typer.Option(help="A video whose clips to check parity on too. Repeatable.", rich_help_panel=_CHECKS),
    ] = None
    measure: Annotated[
        bool, typer.Option("--measure", help="Also time each runtime on this machine.", rich_help_panel=_CHECKS)
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False

    def real_clips(self, spec: ClipSpec) -> dict[int, NDArray[np.uint8]]:
        """The middle clip of each video, uint8 [B,T,size,size,3], by size: the crop and, if any, the larger crop."""
        import numpy as np

        from tenclip_export.golden import middle_clip

        if not self.video:
            return {}
        sizes = {spec.crop: False, **({spec.fully_convolutional_crop: True} if spec.fully_convolutional_crop else {})}
        return {
            size: np.concatenate([middle_clip(video, spec, fully_convolutional=larger) for video in self.video])
            for size, larger in sizes.items()
        }


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


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
