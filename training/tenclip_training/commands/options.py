"""Options that the commands of this package share, and what all of them do with what a user typed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_data.manifest import DEFAULT_HELD_OUT, Leaks, Manifest

if TYPE_CHECKING:
    import torch

# Headings in --help.
VIDEOS, MACHINE = "Videos", "Machine"

KeepMissing = Annotated[
    bool,
    typer.Option("--keep-missing", help="Count videos that are not there as unreadable.", rich_help_panel=VIDEOS),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@dataclass(frozen=True, kw_only=True)
class ManifestOptions:
    """How labelled videos are read; `tenclip train` has the same options from TrainConfig."""

    videos: Annotated[
        Path | None,
        typer.Option(
            help="Folder that relative paths start from.", show_default="the manifest's", rich_help_panel=VIDEOS
        ),
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File with the classes in order, for a checkpoint that does not name them.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of the table to take labels from.", show_default="label", rich_help_panel=VIDEOS),
    ] = None
    held_out: Annotated[
        float,
        typer.Option(
            help="Part of each class that becomes split val where there are no splits.", rich_help_panel=VIDEOS
        ),
    ] = DEFAULT_HELD_OUT
    seed: Annotated[
        int, typer.Option(help="Of the training run, where it chose what to hold out.", rich_help_panel=VIDEOS)
    ] = 0
    whole_videos: Annotated[
        bool, typer.Option("--whole-videos", help="Ignore the start and end of each row.", rich_help_panel=VIDEOS)
    ] = False
    keep_missing: KeepMissing = False
    leaks: Annotated[
        Leaks,
        typer.Option(
            help="A video that is in two splits: an error, a warning, or not looked for.", rich_help_panel=VIDEOS
        ),
    ] = "error"
    images: Annotated[
        bool,
        typer.Option("--images", help="Take images, too, as clips that stand still.", rich_help_panel=VIDEOS),
    ] = False

    def read(self, manifest: Path, *, hold_out: bool = True, heads: Sequence[str] = ()) -> Manifest:
        """The videos and labels of `manifest`; without `hold_out` nothing is split that has no splits.

        heads: the columns of several labels for each video, see `read_manifest`.

        Raises DatasetError.
        """
        from tenclip_training.data.shards.read import read_videos

        return read_videos(
            manifest,
            labels=self.labels,
            videos=self.videos,
            label_column=self.label_column,
            heads=heads,
            whole_videos=self.whole_videos,
            missing="keep" if self.keep_missing else "error",
            held_out=self.held_out if hold_out else None,
            seed=self.seed,
            leaks=self.leaks,
            images=self.images,
        )


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where a network runs, and how many videos are decoded beside it."""

    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.", rich_help_panel=MACHINE)] = "auto"
    decode_threads: Annotated[
        int | None,
        typer.Option(min=1, help="Videos decoded at once.", show_default="one a core", rich_help_panel=MACHINE),
    ] = None

    def choose_device(self) -> torch.device:
        """The device that is named; for auto the first GPU where there is one, else the CPU. Raises InvalidRequest."""
        from tenclip_training.devices import find_device

        return find_device(self.device)

    def threads(self) -> int:
        """Videos to decode at once: as many as are asked for, else the cores that this process may use."""
        from tenclip_video.cpus import usable_cpus

        return self.decode_threads or usable_cpus()


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns a ValueError over what a user typed into InvalidRequest, which is shown in one line."""
    from tenclip_api.errors import InvalidRequest, TenclipError

    try:
        yield
    except ValueError as error:
        if isinstance(error, TenclipError):
            raise
        raise InvalidRequest(str(error)) from error


def evaluated_split(manifest: Manifest, wanted: str | None) -> str:
    """The split to evaluate on: the one named, else test, else val; "" stands for all videos (`--split all`).

    Raises DatasetError where none was named and there is no test or val.
    """
    from tenclip_api.errors import DatasetError

    if wanted is not None:
        return "" if wanted == "all" else wanted
    for name in ("test", "val"):
        if name in manifest.splits:
            return name
    raise DatasetError(
        f"{manifest.source}: has neither a test nor a val split but {', '.join(manifest.splits)}; name one"
    )


def print_json(values: dict[str, Any]) -> None:
    """Print plain values on standard output; raises ValueError for NaN and infinity, which JSON lacks."""
    typer.echo(json.dumps(values, indent=2, allow_nan=False))
