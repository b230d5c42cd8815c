"""The option groups of `tenclip probe`, each with the part of the command that it decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tenclip_data.manifest import Manifest
    from tenclip_features.probe_results import ProbeResult, ProbeRuns
    from tenclip_features.table import FeatureTable

# Headings in --help.
_DATA, _FIT, _COUNT, _OUTPUT = "Videos", "Fit", "Count", "Output"


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Which files are written, and what is printed."""

    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Save the probe as OUT.npz and OUT.json.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write each test video's prediction to this .csv or .parquet.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.", rich_help_panel=_OUTPUT)] = (
        False
    )

    def check(self) -> None:
        """Raise InvalidRequest where predictions cannot be written under the name that was given."""
        from tenclip_features.probe_files import check_predictions_path

        if self.predictions is not None:
            check_predictions_path(self.predictions)

    def write(self, result: ProbeResult | ProbeRuns) -> None:
        """Save the files that were asked for, and print the result."""
        from tenclip_features.console import print_probe, print_runs
        from tenclip_features.probe_results import ProbeResult

        files = self._save(result)
        if self.json:
            _print_json({**result.to_dict(), "files": files})
            return
        print_probe(result) if isinstance(result, ProbeResult) else print_runs(result)
        if files:
            typer.echo(f"saved {' and '.join(files)}")

    def _save(self, result: ProbeResult | ProbeRuns) -> list[str]:
        from tenclip_features.probe_files import save_probe, write_predictions
        from tenclip_features.probe_results import ProbeResult

        files = [str(p) for p in save_probe(self.out, result)] if self.out is not None else []
        if self.predictions is not None:
            runs = [result] if isinstance(result, ProbeResult) else result.runs
            write_predictions(self.predictions, [r.predictions for r in runs])
            files.append(str(self.predictions))
        return files


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """The labels of the videos, and which videos belong together."""

    labels: Annotated[
        list[Path],
        typer.Option(
            help="Manifest with a label and a split for each video. Repeatable: the splits of one data set, which are "
            "averaged.",
            show_default=False,
        ),
    ]
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of the table to take labels from.", show_default="label", rich_help_panel=_DATA),
    ] = None
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Folder that relative paths start from.", show_default="the manifest's", rich_help_panel=_DATA
        ),
    ] = None
    classes: Annotated[
        Path | None,
        typer.Option(
            help="File with the classes in order, one a line, for lists that number them.",
            show_default="from the labels",
            rich_help_panel=_DATA,
        ),
    ] = None
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Column that says which videos belong together (one source, one person): they are never on both "
            "sides of a fold.",
            show_default="each file by itself",
            rich_help_panel=_DATA,
        ),
    ] = None

    def read(self, splits: SplitOptions) -> list[Manifest]:
        """One manifest for each --labels. Raises DatasetError."""
        from tenclip_data.manifest import read_manifest

        return [
            read_manifest(
                path,
                labels=self.classes,
                videos=self.videos,
                label_column=self.label_column,
                missing="keep",
                held_out=splits.held_out,
                seed=splits.seed,
                # Folds keep what belongs together apart, whatever splits the manifest has.
                leaks="error" if splits.cv is None else "allow",
            )
            for path in self.labels
        ]


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which videos the probe is fitted on, and which it is tested on."""

    train_split: Annotated[
        str | None,
        typer.Option(
            help="Split to fit on; with --cv the only one used.",
            show_default="train; with --cv all videos",
            rich_help_panel=_DATA,
        ),
    ] = None
    test_split: Annotated[
        str | None, typer.Option(help="Split to test on.", show_default="test, else val", rich_help_panel=_DATA)
    ] = None
    held_out: Annotated[
        float,
        typer.Option(
            help="Part of each class that becomes split val where there are no splits.", rich_help_panel=_DATA
        ),
    ] = 0.2
    cv: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="No test split: hold every video out once, in N folds.",
            show_default=False,
            rich_help_panel=_COUNT,
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Of the split and of the folds.", rich_help_panel=_COUNT)] = 0

    def check(self, labels: list[Path], out: Path | None) -> None:
        """Raise InvalidRequest for options that do not go together."""
        from tenclip_api.errors import InvalidRequest

        if self.cv is not None and len(labels) > 1:
            raise InvalidRequest("--cv splits the videos itself, so it takes one --labels")
        if self.cv is not None and self.test_split is not None:
            raise InvalidRequest("--cv has no test split: leave --test-split out")
        if out is not None and len(labels) > 1:
            raise InvalidRequest(
                "several --labels give a probe each: save one with --out and one --labels, or with --cv"
            )
        if len(set(labels)) < len(labels):
            raise InvalidRequest(f"--labels {next(p for p in labels if labels.count(p) > 1)} is given twice")

    def fit(self, table: FeatureTable, manifests: list[Manifest], **settings: Any) -> ProbeResult | ProbeRuns:
        """One probe for each manifest, or one over all folds of a cross-validation.

        settings: arguments of `fit_probe` other than its splits. Raises ValueError, DatasetError.
        """
        from tenclip_features.console import fit_progress
        from tenclip_features.probe import average_splits, cross_validate_probe, fit_probe

        settings["seed"] = self.seed
        with fit_progress() as progress:
            settings["progress"] = progress
            if self.cv is not None:
                return cross_validate_probe(table, manifests[0], cv=self.cv, split=self.train_split, **settings)
            settings["train_split"] = self.train_split or "train"
            tests = [self.test_split or _held_out_split(m) for m in manifests]
            if len(manifests) == 1:
                return fit_probe(table, manifests[0], test_split=tests[0], **settings)
            return average_splits(table, manifests, test_splits=tests, **settings)


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The logistic regression, or the votes in its place."""

    fit_on: Annotated[str, typer.Option(help="videos (their mean features) or clips.", rich_help_panel=_FIT)] = "videos"
    strength: Annotated[
        list[float] | None,
        typer.Option(
            "--strength",
            "-C",
            help="Inverse strength of the regularisation. Repeatable: the best in cross-validation is taken.",
            show_default="0.0001 to 100",
            rich_help_panel=_FIT,
        ),
    ] = None
    folds: Annotated[int, typer.Option(help="Of the cross-validation that chooses C.", rich_help_panel=_FIT)] = 5
    tune_on: Annotated[
        float | None,
        typer.Option(
            metavar="PART",
            help="Choose C on this part of the training videos, held out once (IG-65M: 0.1), not by cross-validation.",
            show_default=False,
            rich_help_panel=_FIT,
        ),
    ] = None
    multi_label: Annotated[
        bool | None,
        typer.Option(
            "--multi-label/--single-label",
            help="A regression for each class against the rest, or one for all.",
            show_default="multi-label where a video has several labels",
            rich_help_panel=_FIT,
        ),
    ] = None

    knn: Annotated[
        bool,
        typer.Option(
            "--knn",
            help="Not a linear classifier: the labels of the nearest training videos (or clips) vote, weighted by "
            "their cosine, as in DINO. Nothing is saved.",
            rich_help_panel=_FIT,
        ),
    ] = False
    neighbours: Annotated[
        list[int] | None,
        typer.Option(
            "--neighbours",
            "-k",
            min=1,
            help="How many vote in --knn. Repeatable: the best in cross-validation is taken.",
            show_default="1 to 200",
            rich_help_panel=_FIT,
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Of the votes of --knn: lower, and the nearest count more.",
            show_default="0.07",
            rich_help_panel=_FIT,
        ),
    ] = None

    def check(self, out: Path | None) -> None:
        """Raise InvalidRequest for options that do not go together."""
        from tenclip_api.errors import InvalidRequest

        if self.knn and self.strength:
            raise InvalidRequest("--knn has no regularisation: leave -C out, or --knn")
        if self.knn and out is not None:
            raise InvalidRequest(
                "--knn saves nothing: its training rows are all there is, and `tenclip index build --labels` keeps "
                "those; leave --out out"
            )
        if not self.knn and (self.neighbours or self.temperature is not None):
            raise InvalidRequest("--neighbours and --temperature are of --knn, which is not given")

    def settings(self) -> dict[str, Any]:
        """Arguments of `fit_probe`. Raises ValueError."""
        from tenclip_features.knn import NEIGHBOURS, TEMPERATURE, KnnSettings
        from tenclip_features.probe import STRENGTHS

        knn = None
        if self.knn:
            temperature = TEMPERATURE if self.temperature is None else self.temperature
            knn = KnnSettings(neighbours=tuple(self.neighbours or NEIGHBOURS), temperature=temperature)
        return {
            "knn": knn,
            "fit_on": self.fit_on,
            "strengths": self.strength or STRENGTHS,
            "folds": self.folds,
            "tune_on": self.tune_on,
            "multi_label": self.multi_label,
        }


def _held_out_split(manifest: Manifest) -> str:
    from tenclip_api.errors import DatasetError

    for name in ("test", "val"):
        if name in manifest.splits:
            return name
    raise DatasetError(
        f"{manifest.source}: has neither a test nor a val split but {', '.join(manifest.splits)}; name one with "
        "--test-split, or hold every video out once with --cv"
    )


def _print_json(values: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(values, indent=2, allow_nan=False))
