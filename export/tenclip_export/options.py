"""Options of `tenclip export`: the bundle, its variants, its checks. See `tenclip_client.cli.options` for groups."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tenclip_video.spec import ClipSpec

_BUNDLE, _VARIANTS, _CHECKS = "Bundle", "Variants and targets", "Checks"


class TargetOption(StrEnum):
    bundle = "bundle"
    torchserve = "torchserve"
    triton = "triton"


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """Place, name and version of the bundle."""

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
        """The names in the file of `labels`; None without it. Raises BundleError unless there are `num_classes`."""
        from tenclip_api.errors import BundleError
        from tenclip_data.manifest import read_labels

        if self.labels is None:
            return None
        names = read_labels(self.labels)
        if len(names) != num_classes:
            raise BundleError(f"{self.labels}: {len(names)} labels for a model of {num_classes} classes")
        return names


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
    """Checks and measurements beside the golden clips, and the form of the output."""

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


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
