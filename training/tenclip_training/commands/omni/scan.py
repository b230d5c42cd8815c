"""`tenclip omni scan`: which videos and images can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions, LabelColumn, Videos
from tenclip_training.commands.curate.scan import run_scan
from tenclip_training.commands.options import Json


@with_option_groups
def scan(
    *,
    source: Annotated[Path, typer.Argument(help="A folder, a list or a table of videos and images; no labels needed.")],
    out: Annotated[Path, typer.Option(help="The ledger: JSON lines, one a file.")],
    quick: Annotated[bool, typer.Option("--quick", help="Decode the first frame of a video only.")] = False,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="Write SOURCE without unreadable files as a manifest; it must have labels.", show_default=False
        ),
    ] = None,
    videos: Videos = None,
    label_column: LabelColumn = None,
    decoding: DecodingOptions,
    json: Json = False,
) -> None:
    """Find corrupt videos and images, and write a manifest of what can be used.

    As `tenclip curate scan`, which passes images over. Of the web's files many
    are cut off, empty, or pages that say that there is none any more; each is
    named with what is wrong with it. A scan that was stopped goes on where it
    was.

    \b
    Examples:
      tenclip omni scan web-images/ --out ledger.jsonl --kept readable.csv
      tenclip omni scan web.csv --out ledger.jsonl --quick --json
    """
    run_scan(
        source,
        out,
        quick=quick,
        kept=kept,
        videos=videos,
        label_column=label_column,
        decoding=decoding,
        json=json,
        images=True,
    )
