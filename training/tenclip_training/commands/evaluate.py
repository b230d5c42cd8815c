"""`tenclip evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenclip_data.manifest import DEFAULT_HELD_OUT
from tenclip_training.commands.options import (
    MACHINE,
    VIDEOS,
    Device,
    HeldOut,
    Json,
    KeepMissing,
    LabelColumn,
    LeaksOption,
    VideosFolder,
    WholeVideos,
    evaluated_split,
    print_json,
)


def evaluate(
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
    videos: VideosFolder = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File with the classes in order, for a checkpoint that does not name them.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None,
    label_column: LabelColumn = None,
    held_out: HeldOut = DEFAULT_HELD_OUT,
    seed: Annotated[
        int, typer.Option(help="Of the training run, where it chose what to hold out.", rich_help_panel=VIDEOS)
    ] = 0,
    whole_videos: WholeVideos = False,
    keep_missing: KeepMissing = False,
    leaks: LeaksOption = "error",
    device: Device = "auto",
    decode_threads: Annotated[
        int | None, typer.Option(help="Videos decoded at once.", show_default="one a core", rich_help_panel=MACHINE)
    ] = None,
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
    from tenclip_video.protocols import PROTOCOLS

    if protocol == "list":
        for name, known in PROTOCOLS.items():
            typer.echo(f"{name:<22}{known.description}")
        return
    import torch

    from tenclip_data.manifest import read_manifest
    from tenclip_training.console import print_evaluation, reporting
    from tenclip_training.evaluation.evaluate import evaluate as run
    from tenclip_video.cpus import usable_cpus

    read = read_manifest(
        manifest,
        labels=labels,
        videos=videos,
        label_column=label_column,
        whole_videos=whole_videos,
        missing="keep" if keep_missing else "error",
        held_out=held_out,
        seed=seed,
        leaks=leaks,
    )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with reporting() as reporter:
        result = run(
            checkpoint,
            read,
            split=evaluated_split(read, split),
            protocol=protocol,
            family=family,
            device=device,
            decode_threads=decode_threads or usable_cpus(),
            progress=lambda done, total: reporter.update("evaluating", done, total, "videos"),
        )
    if json:
        print_json({"checkpoint": str(checkpoint), "manifest": str(manifest), **result.to_dict()})
    else:
        print_evaluation(result, title=f"{checkpoint} on {manifest}")
