"""Options that several commands share, and what all of them do with what a user typed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from tenclip_data.manifest import Manifest

# Headings in --help.
VIDEOS, MACHINE = "Videos", "Machine"

VideosFolder = Annotated[
    Path | None,
    typer.Option(help="Folder that relative paths start from.", show_default="the manifest's", rich_help_panel=VIDEOS),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="Column of the table to take labels from.", show_default="label", rich_help_panel=VIDEOS),
]
WholeVideos = Annotated[
    bool, typer.Option("--whole-videos", help="Ignore the start and end of each row.", rich_help_panel=VIDEOS)
]
KeepMissing = Annotated[
    bool,
    typer.Option("--keep-missing", help="Count videos that are not there as unreadable.", rich_help_panel=VIDEOS),
]
LeaksOption = Annotated[
    Literal["error", "warn", "allow"],
    typer.Option(
        "--leaks", help="A video that is in two splits: an error, a warning, or not looked for.", rich_help_panel=VIDEOS
    ),
]
HeldOut = Annotated[
    float,
    typer.Option(help="Part of each class that becomes split val where there are no splits.", rich_help_panel=VIDEOS),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.", rich_help_panel=MACHINE)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


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
