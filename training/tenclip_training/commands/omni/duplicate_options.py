"""The option groups of `tenclip omni duplicates`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tenclip_training.commands.options import MACHINE


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Which features are compared."""

    network: Annotated[
        str,
        typer.Option(help="efficientnet-lite0 (ImageNet weights of a package), a bundle's folder, or a checkpoint."),
    ] = "efficientnet-lite0"
    rate: Annotated[float, typer.Option(min=0.01, help="Frames a second of videos.")] = 1.0
    features: Annotated[
        Path | None,
        typer.Option(help="Folder where features are kept; runs may share it.", show_default="OUT/features"),
    ] = None
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of the network; 0: the runtime's choice.", rich_help_panel=MACHINE)
    ] = 0


@dataclass(frozen=True, kw_only=True)
class CosineOptions:
    """What counts as a duplicate."""

    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, help="Least cosine of a pair.", show_default="the mean between crops of the same frame"
        ),
    ] = None
    crop_files: Annotated[int, typer.Option(min=1, help="Target files whose crops the threshold is taken from.")] = 500
    fit_on: Annotated[
        Path | None,
        typer.Option(
            help="More files of the target's kind to fit whitening to: its training split.", show_default=False
        ),
    ] = None
    shrinkage: Annotated[
        float, typer.Option(min=0, help="Part of the mean eigenvalue that whitening adds to each.")
    ] = 1e-3
    reviewed: Annotated[
        Path | None,
        typer.Option(help="CSV with columns source and target: pairs that are no duplicates.", show_default=False),
    ] = None
