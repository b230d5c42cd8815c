"""`tenclip evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.options import (
    VIDEOS,
    DeviceOptions,
    Json,
    ManifestOptions,
    evaluated_split,
    print_json,
)


@with_option_groups
def evaluate(
    *,
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of tenclip train, or of a public family.", show_default=False)
    ],
    manifest: Annotated[
        Path, typer.Argument(help="Labelled videos, in any form that tenclip train reads.", show_default=False)
    ],
    split: Annotated[
        str | None,
        typer.Option(help="Split to evaluate, or all.", show_default="test, else val", rich_help_panel=VIDEOS),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Test protocol; `list` shows them all.", show_default="the family's; ten-clip for ours"),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Family of a public checkpoint.", show_default="as its weights tell")
    ] = None,
    reading: ManifestOptions,
    machine: DeviceOptions,
    json: Json = False,
) -> None:
    """Evaluate a model on labelled videos.

    Clips are read and averaged exactly as the server does it. Top-1 and top-5
    are counted for single clips and for videos; videos that cannot be decoded
    are listed, with reasons, and are not in the denominators.

    \b
    Examples:
      tenclip evaluate run/best.pt videos/manifest.csv
      tenclip evaluate run/best.pt ucf/testlist01.txt --videos UCF-101
      tenclip evaluate run/best.pt list.csv --protocol fully-convolutional
      tenclip evaluate run/best.pt my-videos/ --split all --json
    """
    if protocol == "list":
        _list_protocols()
        return
    from tenclip_training.console import print_evaluation, reporting
    from tenclip_training.evaluation.evaluate import evaluate as run

    read = reading.read(manifest, hold_out=split != "all")
    with reporting() as reporter:
        result = run(
            checkpoint,
            read,
            split=evaluated_split(read, split),
            protocol=protocol,
            family=family,
            device=machine.choose_device(),
            decode_threads=machine.threads(),
            progress=lambda done, total: reporter.update("evaluating", done, total, "videos"),
        )
    if json:
        print_json({"checkpoint": str(checkpoint), "manifest": str(manifest), **result.to_dict()})
    else:
        print_evaluation(result, title=f"{checkpoint} on {manifest}")


def _list_protocols() -> None:
    from tenclip_video.protocols import PROTOCOLS

    for name, known in PROTOCOLS.items():
        typer.echo(f"{name:<22}{known.description}")
