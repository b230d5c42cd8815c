"""Options that the sub-commands of `tenclip curate` share, and the notes that they print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenclip_training.commands.options import VIDEOS

if TYPE_CHECKING:
    from tenclip_data.samples import Manifest

Source = Annotated[Path, typer.Argument(help="Labelled videos, in any form that tenclip train reads.")]
Videos = Annotated[
    Path | None,
    typer.Option(help="Folder that relative paths start from.", show_default="the list's", rich_help_panel=VIDEOS),
]

LabelColumn = Annotated[
    str | None,
    typer.Option(help="Column of the table to take labels from.", show_default="label", rich_help_panel=VIDEOS),
]


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How videos are decoded beside one another."""

    workers: Annotated[int | None, typer.Option(min=1, help="Videos decoded at once.", show_default="one a core")] = (
        None
    )
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which a video's decoder is stopped.")] = 600.0

    def num_workers(self) -> int:
        """Videos to decode at once: as many as are asked for, else the cores that this process may use."""
        from tenclip_video.cpus import usable_cpus

        return self.workers or usable_cpus()


def with_notes_printed(manifest: Manifest) -> Manifest:
    """The manifest, after its warnings are printed on standard error."""
    print_notes(manifest.warnings)
    return manifest


def print_notes(lines: Sequence[str]) -> None:
    """Print what a user should know, on standard error."""
    for line in lines:
        typer.echo(line, err=True)
