"""`tenclip probe`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tenclip_features.probe_options import FitOptions, LabelOptions, OutputOptions, SplitOptions
from tenclip_settings import with_option_groups


@with_option_groups
def probe(
    *,
    features: Annotated[
        list[Path], typer.Argument(help="Parquet files that tenclip features wrote.", show_default=False)
    ],
    output: OutputOptions,
    labels: LabelOptions,
    splits: SplitOptions,
    fit: FitOptions,
) -> None:
    """Fit a linear classifier on extracted features.

    L2-regularised logistic regression on standardised features; C is chosen by
    cross-validation on the training split. Needs no GPU and no torch. Gives
    accuracies for the mean features of each video, for the mean of its clips'
    probabilities and for single clips, each with its denominator; the mean
    average precision, too, where videos have several labels.

    With --knn the nearest training videos vote instead; k is chosen as C is.

    The saved probe can be served: tenclip export-probe.

    \b
    Examples:
      tenclip probe f.parquet --labels videos/manifest.csv --out probe
      tenclip probe f.parquet --labels clips.csv --cv 5 --group-column source
      tenclip probe f.parquet --labels trainlist01.txt --labels trainlist02.txt --labels trainlist03.txt
      tenclip probe f.parquet --labels clips.csv --knn
      tenclip probe f.parquet --labels clips.csv --predictions out.csv --json
    """
    from tenclip_features.table import read_feature_table

    splits.check(labels.labels, output.out)
    output.check()
    fit.check(output.out)
    manifests = labels.read(splits)
    table = read_feature_table(features)
    with _usage_errors():
        result = splits.fit(table, manifests, group_column=labels.group_column, **fit.settings())
    output.write(result)


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
