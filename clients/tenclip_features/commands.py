"""`tenclip probe`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tenclip_data.manifest import Manifest
    from tenclip_features.probe import ProbeResult, ProbeRuns
    from tenclip_features.table import FeatureTable

_DATA, _FIT, _COUNT, _OUTPUT = "Videos", "Fit", "Count", "Output"


def probe(
    features: Annotated[
        list[Path], typer.Argument(help="Parquet files that tenclip features wrote.", show_default=False)
    ],
    labels: Annotated[
        list[Path],
        typer.Option(
            help="Manifest with a label and a split for each video. Repeatable: the splits of one data set, which are "
            "averaged.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Save the probe as OUT.npz and OUT.json.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of the table to take labels from.", show_default="label", rich_help_panel=_DATA),
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Folder that relative paths start from.", show_default="the manifest's", rich_help_panel=_DATA
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="File with the classes in order, one a line, for lists that number them.",
            show_default="from the labels",
            rich_help_panel=_DATA,
        ),
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Column that says which videos belong together (one source, one person): they are never on both "
            "sides of a fold.",
            show_default="each file by itself",
            rich_help_panel=_DATA,
        ),
    ] = None,
    train_split: Annotated[
        str | None,
        typer.Option(
            help="Split to fit on; with --cv the only one used.",
            show_default="train; with --cv all videos",
            rich_help_panel=_DATA,
        ),
    ] = None,
    test_split: Annotated[
        str | None, typer.Option(help="Split to test on.", show_default="test, else val", rich_help_panel=_DATA)
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(
            help="Part of each class that becomes split val where there are no splits.", rich_help_panel=_DATA
        ),
    ] = 0.2,
    cv: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="No test split: hold every video out once, in N folds.",
            show_default=False,
            rich_help_panel=_COUNT,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split and of the folds.", rich_help_panel=_COUNT)] = 0,
    fit_on: Annotated[
        str, typer.Option(help="videos (their mean features) or clips.", rich_help_panel=_FIT)
    ] = "videos",
    strength: Annotated[
        list[float] | None,
        typer.Option(
            "--strength",
            "-C",
            help="Inverse strength of the regularisation. Repeatable: the best in cross-validation is taken.",
            show_default="0.0001 to 100",
            rich_help_panel=_FIT,
        ),
    ] = None,
    folds: Annotated[int, typer.Option(help="Of the cross-validation that chooses C.", rich_help_panel=_FIT)] = 5,
    multi_label: Annotated[
        bool | None,
        typer.Option(
            "--multi-label/--single-label",
            help="A regression for each class against the rest, or one for all.",
            show_default="multi-label where a video has several labels",
            rich_help_panel=_FIT,
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write each test video's prediction to this .csv or .parquet.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Fit a linear classifier on extracted features.

    L2-regularised logistic regression on standardised features; C is chosen by
    cross-validation on the training split. Needs no GPU and no torch. Gives
    accuracies for the mean features of each video, for the mean of its clips'
    probabilities and for single clips, each with its denominator; the mean
    average precision, too, where videos have several labels.

    The saved probe can be served: tenclip export-probe.

    \b
    Examples:
      tenclip probe f.parquet --labels videos/manifest.csv --out probe
      tenclip probe f.parquet --labels clips.csv --cv 5 --group-column source
      tenclip probe f.parquet --labels trainlist01.txt --labels trainlist02.txt --labels trainlist03.txt
      tenclip probe f.parquet --labels clips.csv --predictions out.csv --json
    """
    from tenclip_data.manifest import read_manifest
    from tenclip_features.console import print_probe, print_runs
    from tenclip_features.probe import STRENGTHS, ProbeResult
    from tenclip_features.probe_files import check_predictions_path, save_probe, write_predictions
    from tenclip_features.table import read_feature_table

    _check_options(labels, cv=cv, test_split=test_split, out=out)
    if predictions is not None:
        check_predictions_path(predictions)
    manifests = [
        read_manifest(
            path,
            labels=classes,
            videos=videos,
            label_column=label_column,
            missing="keep",
            held_out=held_out,
            seed=seed,
            # Folds keep what belongs together apart, whatever splits the manifest has.
            leaks="error" if cv is None else "allow",
        )
        for path in labels
    ]
    table = read_feature_table(features)
    with _usage_errors():
        result = _fit(
            table,
            manifests,
            cv=cv,
            train_split=train_split,
            test_split=test_split,
            fit_on=fit_on,
            strengths=strength or STRENGTHS,
            folds=folds,
            seed=seed,
            group_column=group_column,
            multi_label=multi_label,
        )
    files = [str(p) for p in save_probe(out, result)] if out is not None else []
    if predictions is not None:
        runs = [result] if isinstance(result, ProbeResult) else result.runs
        write_predictions(predictions, [r.predictions for r in runs])
        files.append(str(predictions))
    if json:
        _print_json({**result.to_dict(), "files": files})
        return
    print_probe(result) if isinstance(result, ProbeResult) else print_runs(result)
    if files:
        typer.echo(f"saved {' and '.join(files)}")


def _check_options(labels: list[Path], *, cv: int | None, test_split: str | None, out: Path | None) -> None:
    from tenclip_api.errors import InvalidRequest

    if cv is not None and len(labels) > 1:
        raise InvalidRequest("--cv splits the videos itself, so it takes one --labels")
    if cv is not None and test_split is not None:
        raise InvalidRequest("--cv has no test split: leave --test-split out")
    if out is not None and len(labels) > 1:
        raise InvalidRequest("several --labels give a probe each: save one with --out and one --labels, or with --cv")
    if len(set(labels)) < len(labels):
        raise InvalidRequest(f"--labels {next(p for p in labels if labels.count(p) > 1)} is given twice")


def _fit(
    table: FeatureTable,
    manifests: list[Manifest],
    *,
    cv: int | None,
    train_split: str | None,
    test_split: str | None,
    **settings: Any,
) -> ProbeResult | ProbeRuns:
    from tenclip_features.console import fit_progress
    from tenclip_features.probe import average_splits, cross_validate_probe, fit_probe

    with fit_progress() as progress:
        if cv is not None:
            return cross_validate_probe(table, manifests[0], cv=cv, split=train_split, progress=progress, **settings)
        settings = {**settings, "train_split": train_split or "train", "progress": progress}
        tests = [test_split or _held_out_split(m) for m in manifests]
        if len(manifests) == 1:
            return fit_probe(table, manifests[0], test_split=tests[0], **settings)
        return average_splits(table, manifests, test_splits=tests, **settings)


def _held_out_split(manifest: Manifest) -> str:
    from tenclip_api.errors import DatasetError

    for name in ("test", "val"):
        if name in manifest.splits:
            return name
    raise DatasetError(
        f"{manifest.source}: has neither a test nor a val split but {', '.join(manifest.splits)}; name one with "
        "--test-split, or hold every video out once with --cv"
    )


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Settings that make no sense are refused in one line."""
    from tenclip_api.errors import InvalidRequest, TenclipError

    try:
        yield
    except TenclipError:
        raise
    except ValueError as err:
        raise InvalidRequest(str(err)) from err


def _print_json(values: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(values, indent=2, allow_nan=False))
