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
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for a page, the confusion matrix and the scores of each video; or one file of .html, .csv, "
            ".png, .parquet, .json.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="An earlier evaluation (its --out, or the JSON of --json) to compare with, video by video.",
            show_default=False,
        ),
    ] = None,
    reading: ManifestOptions,
    machine: DeviceOptions,
    json: Json = False,
) -> None:
    """Evaluate a model on labelled videos.

    Clips are read and averaged exactly as the server does it. Top-1 and top-5
    are counted for single clips and for videos; mean average precision and
    calibration for videos. Videos that cannot be decoded are listed, with
    reasons, and are not in the denominators. A checkpoint that was trained
    with a sigmoid for each class is scored by sigmoids. For verbs and nouns
    see tenclip evaluate-actions.

    \b
    Examples:
      tenclip evaluate run/best.pt videos/manifest.csv
      tenclip evaluate run/best.pt ucf/testlist01.txt --videos UCF-101
      tenclip evaluate run/best.pt list.csv --protocol fully-convolutional
      tenclip evaluate run/best.pt videos/manifest.csv --out evaluation
      tenclip evaluate new/best.pt videos/manifest.csv --against evaluation
      tenclip evaluate run/best.pt my-videos/ --split all --json
    """
    if protocol == "list":
        _list_protocols()
        return
    from tenclip_training.console import reporting
    from tenclip_training.evaluation.comparison import compare, read_evaluation
    from tenclip_training.evaluation.console import print_comparison, print_evaluation
    from tenclip_training.evaluation.evaluate import evaluate as run

    if out is not None:
        from tenclip_training.evaluation.report import check_out, write_evaluation

        check_out(out)
    before = read_evaluation(against) if against is not None else None
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
    title = f"{checkpoint} on {manifest}"
    files = [str(path) for path in write_evaluation(out, result, title=title)] if out is not None else []
    comparison = compare(result, before) if before is not None else None
    if json:
        compared = {} if comparison is None else {"comparison": comparison.to_dict()}
        names = {"checkpoint": str(checkpoint), "manifest": str(manifest)}
        print_json({**names, **result.to_dict(), "files": files, **compared})
        return
    print_evaluation(result, title=title)
    if comparison is not None:
        print_comparison(comparison)
    if files:
        typer.echo(f"wrote {', '.join(files)}")


def _list_protocols() -> None:
    from tenclip_video.protocols import PROTOCOLS

    for name, known in PROTOCOLS.items():
        typer.echo(f"{name:<22}{known.description}")
