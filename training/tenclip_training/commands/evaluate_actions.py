"""`tenclip evaluate-actions`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

if TYPE_CHECKING:
    from tenclip_data.manifest import Manifest

_COUNTING = "Counting"


@with_option_groups
def evaluate_actions(
    *,
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="One with two heads, or one of verbs and one of nouns.", show_default=False),
    ],
    manifest: Annotated[
        Path, typer.Argument(help="A table with a column of verbs and one of nouns.", show_default=False)
    ],
    verb_column: Annotated[
        str | None,
        typer.Option(help="Column of the first head.", show_default="as in the run, or verb", rich_help_panel=VIDEOS),
    ] = None,
    noun_column: Annotated[
        str | None,
        typer.Option(help="Column of the second head.", show_default="as in the run, or noun", rich_help_panel=VIDEOS),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to evaluate, or all.", show_default="test, else val", rich_help_panel=VIDEOS),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(
            help="Table of the training videos, for the pairs that were seen and many-shot classes.",
            show_default="split train of the manifest",
            rich_help_panel=VIDEOS,
        ),
    ] = None,
    pairs: Annotated[
        Literal["seen", "all"],
        typer.Option(help="Actions: the pairs seen in training, or all.", rich_help_panel=_COUNTING),
    ] = "seen",
    many_shot: Annotated[
        int,
        typer.Option(min=0, help="A class of more training videos is many-shot.", rich_help_panel=_COUNTING),
    ] = 100,
    protocol: Annotated[
        str | None, typer.Option(help="Test protocol.", show_default="the checkpoint's", rich_help_panel=_COUNTING)
    ] = None,
    reading: ManifestOptions,
    machine: DeviceOptions,
    json: Json = False,
) -> None:
    """Evaluate verbs, nouns and actions (EPIC-KITCHENS).

    The score of an action is the product of its verb's and its noun's.
    Top-1, top-5 and mean average precision are counted for each of the three,
    precision and recall over the many-shot classes. Any two columns will do
    for verb and noun. Train one network for both with tenclip train --heads
    verb,noun, or two with --label-column.

    \b
    Examples:
      tenclip evaluate-actions both/best.pt epic.csv
      tenclip evaluate-actions verb/best.pt noun/best.pt epic.csv --pairs all
      tenclip evaluate-actions both/best.pt EPIC_100_validation.csv --videos EPIC --training EPIC_100_train.csv
    """
    from tenclip_training.console import reporting
    from tenclip_training.evaluation.actions import evaluate_actions as run
    from tenclip_training.evaluation.actions import head_names, load_action_models
    from tenclip_training.evaluation.console import print_actions

    models = load_action_models(checkpoints, columns=(verb_column, noun_column))
    read = reading.read(manifest, hold_out=split != "all", heads=head_names(models))
    with reporting() as reporter:
        result = run(
            models,
            read,
            split=evaluated_split(read, split),
            training=_training_videos(read, training, reading, head_names(models)),
            pairs=pairs,
            more_than=many_shot,
            protocol=protocol,
            device=machine.choose_device(),
            decode_threads=machine.threads(),
            progress=lambda done, total: reporter.update("evaluating", done, total, "videos"),
        )
    if json:
        print_json({"manifest": str(manifest), **result.to_dict()})
    else:
        print_actions(result, title=f"{', '.join(map(str, checkpoints))} on {manifest}")


def _training_videos(
    read: Manifest, training: Path | None, reading: ManifestOptions, heads: tuple[str, str]
) -> Manifest | None:
    """The videos that a run was trained on; None where nothing says which. Their files need not be here."""
    if training is not None:
        options = replace(reading, keep_missing=True, leaks="allow")
        found = options.read(training, hold_out=False, heads=heads)
        return found.split("train") if "train" in found.splits else found
    return read.split("train") if "train" in read.splits else None
