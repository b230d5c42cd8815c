"""`tenclip train-sampler`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_client.cli.options import ConnectionOptions
from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions, print_notes
from tenclip_training.commands.options import Json, ManifestOptions, print_json, usage_errors
from tenclip_training.commands.sampler_options import FitOptions, HeavyOptions, SamplerOptions, rule_words

if TYPE_CHECKING:
    from tenclip_training.sampler.run import Report, SamplerConfig
    from tenclip_training.sampler.videos import SamplerVideos


@with_option_groups
def train_sampler(
    *,
    manifest: Annotated[Path, typer.Argument(help="Videos with splits train and val, as tenclip train reads them.")],
    out: Annotated[Path, typer.Option(help="Folder for the sampler, its figures, and what it was made from.")],
    heavy: HeavyOptions,
    sampling: SamplerOptions,
    fitting: FitOptions,
    data: ManifestOptions,
    val_split: Annotated[str, typer.Option(help="Split to choose and to calibrate by.")] = "val",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="There are no labels: take the class that the heavy network says.")
    ] = False,
    connection: ConnectionOptions,
    decoding: DecodingOptions,
    json: Json = False,
) -> None:
    """Train a light network that finds the clips of a video worth classifying (SCSampler).

    The heavy network scores every window of every video once; the light one
    learns the order of a video's windows from low-resolution input. Split val
    is halved: by one half the best epoch is chosen, on the other the figures
    are taken, and the stopping rule and the temperature calibrated. Scores and
    inputs are kept: a run that was stopped goes on where it was.

    \b
    Examples:
      tenclip train-sampler videos.csv --teacher models/moves/1 --out sampler
      tenclip train-sampler videos.csv --server gpu:7411 --model moves --out sampler --kind rgb
      tenclip train-sampler folder/ --teacher models/moves/1 --out sampler --unlabelled
      tenclip add-sampler models/moves/1 sampler
    """
    from tenclip_training.commands.omni.teacher_options import decoding_of
    from tenclip_training.console import reporting
    from tenclip_training.sampler.run import train_sampler as run

    config = sampling.config(fitting.config(data.seed))
    with usage_errors():
        teacher = heavy.open(data.labels, connection)
        videos = _videos(manifest, data, teacher.labels, val_split, unlabelled=unlabelled)
    titles = {
        "teacher": "scores of the heavy network",
        "inputs": "inputs of the sampler",
        "motion": "motion energy, to compare with",
    }
    with reporting() as reporter:
        report = run(
            videos,
            teacher,
            out,
            config,
            cache=heavy.cache,
            decoding=decoding_of(decoding),
            progress=lambda what, done, total: reporter.update(titles[what], done, total, "videos"),
            on_epoch=lambda e: reporter.update(
                "fitting", e.epoch, config.fit.epochs, f"loss {e.loss:.3f}{_agreement(e.agreement)}"
            ),
        )
    if json:
        print_json(report.to_dict())
    else:
        _print(report, config)


def _videos(
    source: Path, data: ManifestOptions, classes: tuple[str, ...], val: str, *, unlabelled: bool
) -> SamplerVideos:
    from tenclip_api.errors import DatasetError
    from tenclip_training.sampler.videos import labelled_videos, unlabelled_videos

    if unlabelled:
        from tenclip_training.curation.video_sets import read_set

        found, notes = read_set(source, videos=data.videos)
        print_notes(notes)
        return unlabelled_videos(found)
    try:
        manifest = data.read(source)
    except DatasetError as err:
        raise DatasetError(
            f"{err.message} (where videos have no labels, --unlabelled takes the class that the heavy network says)"
        ) from err
    print_notes(manifest.warnings)
    return labelled_videos(manifest, classes, val=val)


def _agreement(value: float | None) -> str:
    return "" if value is None else f", {value:.1%} of the order right"


def _print(report: Report, config: SamplerConfig) -> None:
    from rich.table import Table

    from tenclip_client.cli.output import output_console

    console = output_console()
    metrics = report.spec.metrics
    if metrics["videos"]:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in (
            *("clips", "salient", "motion energy", "uniform", "oracle", "all windows"),
            *("action found", "motion energy", "uniform"),
        ):
            table.add_column(column)
        for count in config.counts:
            names = [f"top1_{choice}_{count}" for choice in ("salient", "motion", "uniform", "oracle")]
            names += ["top1_all", *(f"action_recall_{choice}_{count}" for choice in ("salient", "motion", "uniform"))]
            table.add_row(str(count), *(f"{metrics[n]:.1%}" if n in metrics else "-" for n in names))
        console.print(table)
    for line in _lines(report):
        console.print(line, markup=False, soft_wrap=True, highlight=False)


def _lines(report: Report) -> list[str]:
    metrics, result = report.spec.metrics, report.result
    counts: dict[str, Any] = dict(report.videos)
    epochs = len(report.history)
    chosen = (
        f"epoch {report.best_epoch} of {epochs}, the last: no video of val has an order to choose by"
        if report.history[-1].agreement is None
        else f"epoch {report.best_epoch} of {epochs}, chosen by {counts['select']} videos of val"
    )
    if report.best_epoch == 0:
        chosen += ": none was better than how much moves, by which it begins"
    lines = [f"learned from {counts['train']} videos; {chosen}"]
    if metrics["videos"]:
        lines += [
            f"figures are of the other {counts['held_out']} videos of val, which chose nothing: top-1 by the heavy "
            "network's scores of the windows that are taken; oracle takes those where it is surest of the class",
        ]
    else:
        lines.append("no figures: no video of val is held out for them")
    if "rank_correlation" in metrics:
        lines.append(f"rank correlation with the heavy network: {metrics['rank_correlation']:.3f}")
    if report.unpaired:
        lines.append(f"left out, no two of their windows are told apart: {report.unpaired} training videos")
    lines += [f"{note} ({count} videos)" for note, count in report.notes.items()]
    if report.failures:
        lines.append(f"not usable: {len(report.failures)} videos, listed in {report.path.parent / 'failures.jsonl'}")
    lines += [
        f"adaptive{' (default)' if rule is result.stopping else ''}, {rule_words(rule)}; {rule.num_different} of "
        f"{rule.num_videos} videos changed their class"
        for rule in result.rules
    ]
    if result.stopping_refused:
        lines.append(f"no {'other ' if result.rules else ''}stopping rule: {result.stopping_refused}")
    if (scaling := result.calibration) is not None:
        lines.append(
            f"temperature {scaling.temperature:.2f}: calibration error {scaling.ece_before:.3f} before, "
            f"{scaling.ece_after:.3f} after"
        )
    else:
        lines.append(f"no temperature: {result.calibration_refused}")
    return [*lines, f"wrote {report.path}"]
