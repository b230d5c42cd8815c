"""`tenclip probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenclip_training.commands.options import (
    VIDEOS,
    HeldOut,
    Json,
    LabelColumn,
    evaluated_split,
    print_json,
    usage_errors,
)


def probe(
    features: Annotated[
        list[Path], typer.Argument(help="Parquet files that tenclip features wrote.", show_default=False)
    ],
    labels: Annotated[Path, typer.Option(help="Manifest with a label and a split for each video.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Save the probe as OUT.npz and OUT.json.", show_default=False)
    ] = None,
    label_column: LabelColumn = None,
    train_split: Annotated[str, typer.Option(help="Split to fit on.", rich_help_panel=VIDEOS)] = "train",
    test_split: Annotated[
        str | None, typer.Option(help="Split to test on.", show_default="test, else val", rich_help_panel=VIDEOS)
    ] = None,
    held_out: HeldOut = 0.2,
    seed: Annotated[int, typer.Option(help="Of the split and of the folds.", rich_help_panel=VIDEOS)] = 0,
    fit_on: Annotated[str, typer.Option(help="videos (their mean features) or clips.")] = "videos",
    strength: Annotated[
        list[float] | None,
        typer.Option(
            "--strength", "-C", help="Inverse strength of the regularisation.", show_default="cross-validated"
        ),
    ] = None,
    folds: Annotated[int, typer.Option(help="Of the cross-validation.")] = 5,
    json: Json = False,
) -> None:
    """Fit a linear classifier on extracted features.

    L2-regularised logistic regression on standardised features; C is chosen by
    cross-validation on the training split. Needs no GPU and no torch. Gives
    accuracies for the mean features of each video, for the mean of its clips'
    probabilities and for single clips, each with its denominator.

    \b
    Examples:
      tenclip probe f.parquet --labels videos/manifest.csv --out probe
      tenclip probe f.parquet --labels videos/manifest.csv --label-column speed
      tenclip probe a.parquet b.parquet --labels ucf/trainlist01.txt -C 1 --json
    """
    from tenclip_data.manifest import read_manifest
    from tenclip_features.probe import STRENGTHS, fit_probe, save_probe
    from tenclip_features.table import read_features
    from tenclip_training.console import print_probe, reporting

    manifest = read_manifest(labels, label_column=label_column, missing="keep", held_out=held_out, seed=seed)
    table = read_features(features)
    with reporting() as reporter, usage_errors():
        result = fit_probe(
            table,
            manifest,
            train_split=train_split,
            test_split=evaluated_split(manifest, test_split),
            fit_on=fit_on,  # type: ignore[arg-type]
            strengths=strength or STRENGTHS,
            folds=folds,
            seed=seed,
            progress=lambda done, total: reporter.update("fitting", done, total),
        )
    files = [str(p) for p in save_probe(out, result)] if out is not None else []
    if json:
        print_json({**result.to_dict(), "files": files})
        return
    print_probe(result)
    if files:
        typer.echo(f"saved {' and '.join(files)}")
