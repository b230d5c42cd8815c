"""`tenclip train-sampler`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from tenclip_client.cli.options import ConnectionOptions
from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions, print_notes
from tenclip_training.commands.options import Json, ManifestOptions, print_json, usage_errors

if TYPE_CHECKING:
    from tenclip_training.sampler.fit import FitConfig
    from tenclip_training.sampler.run import Report, SamplerConfig
    from tenclip_training.sampler.teacher import WindowTeacher
    from tenclip_training.sampler.videos import SamplerVideos

TEACHER, SAMPLER, FIT, BOUNDS = "Heavy network", "Sampler", "Fitting", "Adaptive prediction"


@dataclass(frozen=True, kw_only=True)
class HeavyOptions:
    """The network whose scores are learned from."""

    teacher: Annotated[
        str | None,
        typer.Option(
            help="A bundle's folder or a checkpoint: it runs here.", show_default=False, rich_help_panel=TEACHER
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of --server instead: NAME or NAME:VERSION.", show_default=False, rich_help_panel=TEACHER
        ),
    ] = None
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of --teacher; 0: the runtime's choice.", rich_help_panel=TEACHER)
    ] = 0
    ask_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds that --server may take for a video.", rich_help_panel=TEACHER)
    ] = 600.0
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the scores and inputs of windows; runs may share it.",
            show_default="OUT",
            rich_help_panel=TEACHER,
        ),
    ] = None

    def open(self, labels: Path | None, connection: ConnectionOptions) -> WindowTeacher:
        """Load the teacher, or ask the server for it. Raises InvalidRequest unless one of the two is named."""
        from tenclip_api.errors import InvalidRequest

        if (self.teacher is None) == (self.model is None):
            raise InvalidRequest("name one heavy network: --teacher BUNDLE, or --model NAME of --server HOST:PORT")
        if self.teacher is not None:
            from tenclip_training.sampler.local_teacher import local_teacher

            return local_teacher(self.teacher, labels=labels, threads=self.threads)
        from tenclip_training.sampler.served_teacher import served_teacher

        settings = functools.partial(connection.client_settings, self.ask_timeout)
        return served_teacher(settings, self.model or "", labels=labels)


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How the sampler is fitted."""

    loss: Annotated[
        str,
        typer.Option(
            metavar="[rank|ac]",
            help="rank: the heavy network's order of a video's windows (SAL-RANK). ac: the classes.",
            rich_help_panel=FIT,
        ),
    ] = "rank"
    rank_form: Annotated[
        str,
        typer.Option(
            metavar="[margin|literal]",
            help="SAL-RANK as a symmetric margin, or letter by letter as the paper prints it.",
            rich_help_panel=FIT,
        ),
    ] = "margin"
    eta: Annotated[float, typer.Option(min=0, help="Margin of SAL-RANK.", rich_help_panel=FIT)] = 0.2
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="Pairs whose scores differ by no more are passed over.", rich_help_panel=FIT),
    ] = 0.01
    epochs: Annotated[int, typer.Option(min=1, help="Visits of each video.", rich_help_panel=FIT)] = 20
    batch_size: Annotated[int, typer.Option(min=1, help="Videos.", rich_help_panel=FIT)] = 16
    windows: Annotated[int, typer.Option(min=2, help="Windows of a video at each visit.", rich_help_panel=FIT)] = 8
    lr: Annotated[float, typer.Option(min=1e-8, help="Learning rate.", rich_help_panel=FIT)] = 2e-3

    def config(self, seed: int) -> FitConfig:
        """Raises InvalidRequest for words that are none."""
        from tenclip_api.errors import InvalidRequest
        from tenclip_training.sampler.fit import FitConfig
        from tenclip_training.sampler.losses import LossName, RankForm

        for option, word, words in (
            ("--loss", self.loss, get_args(LossName)),
            ("--rank-form", self.rank_form, get_args(RankForm)),
        ):
            if word not in words:
                raise InvalidRequest(f"{option} {word!r} is not one of {', '.join(words)}")
        return FitConfig(
            loss=self.loss,  # type: ignore[arg-type]
            rank_form=self.rank_form,  # type: ignore[arg-type]
            eta=self.eta,
            tolerance=self.tolerance,
            epochs=self.epochs,
            batch_size=self.batch_size,
            windows=self.windows,
            lr=self.lr,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """What the sampler looks at, and what it is to promise."""

    kind: Annotated[
        str,
        typer.Option(
            metavar="[compressed|keyframes|rgb|audio]", help="What the sampler looks at.", rich_help_panel=SAMPLER
        ),
    ] = "compressed"
    name: Annotated[
        str, typer.Option(help="What answers call it.", show_default="its kind", rich_help_panel=SAMPLER)
    ] = ""
    window_step: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Frames from one candidate window to the next.",
            show_default="half a clip",
            rich_help_panel=SAMPLER,
        ),
    ] = None
    max_windows: Annotated[
        int, typer.Option(min=2, help="Candidates of a long video, thinned evenly.", rich_help_panel=SAMPLER)
    ] = 128
    max_clips: Annotated[int, typer.Option(min=1, help="Clips that are taken of a video.", rich_help_panel=BOUNDS)] = 10
    error_bound: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Share of videos whose class may change by stopping early.",
            rich_help_panel=BOUNDS,
        ),
    ] = 0.05
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="With which that holds.", rich_help_panel=BOUNDS)
    ] = 0.95

    def config(self, fit: FitConfig) -> SamplerConfig:
        """Raises InvalidRequest for a kind that is none."""
        from tenclip_api.errors import InvalidRequest
        from tenclip_training.sampler.run import SamplerConfig
        from tenclip_video.salience import SamplerKind

        if self.kind not in get_args(SamplerKind):
            raise InvalidRequest(f"--kind {self.kind!r} is not one of {', '.join(get_args(SamplerKind))}")
        return SamplerConfig(
            kind=self.kind,  # type: ignore[arg-type]
            name=self.name,
            fit=fit,
            window_step=self.window_step,
            max_windows=self.max_windows,
            max_clips=self.max_clips,
            error_bound=self.error_bound,
            confidence=self.confidence,
        )


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
    titles = {"teacher": "scores of the heavy network", "inputs": "inputs of the sampler"}
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
                "fitting", e.epoch, config.fit.epochs, f"loss {e.loss:.3f}{_correlation(e.correlation)}"
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


def _correlation(value: float | None) -> str:
    return "" if value is None else f", rank correlation {value:.3f}"


def _print(report: Report, config: SamplerConfig) -> None:
    from rich.table import Table

    from tenclip_client.cli.output import output_console

    console = output_console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("clips", "salient", "uniform", "oracle", "all windows", "action found", "uniform"):
        table.add_column(column)
    metrics = report.spec.metrics
    for count in config.counts if metrics["videos"] else ():
        names = [f"top1_{choice}_{count}" for choice in ("salient", "uniform", "oracle")]
        names += ["top1_all", *(f"action_recall_{choice}_{count}" for choice in ("salient", "uniform"))]
        table.add_row(str(count), *(f"{metrics[n]:.1%}" if n in metrics else "-" for n in names))
    console.print(table)
    for line in _lines(report):
        console.print(line, markup=False, soft_wrap=True, highlight=False)


def _lines(report: Report) -> list[str]:
    metrics, result = report.spec.metrics, report.result
    counts: dict[str, Any] = dict(report.videos)
    lines = [
        f"learned from {counts['train']} videos; epoch {report.best_epoch} of {len(report.history)} chosen by "
        f"{counts['select']} of val; figures of the other {counts['held_out']} of val",
        "top-1 is what the heavy network says of the windows taken, oracle of those where it is surest of the class",
    ]
    if "rank_correlation" in metrics:
        lines.append(f"rank correlation with the heavy network: {metrics['rank_correlation']:.3f}")
    if report.unpaired:
        lines.append(f"left out, no two of their windows are told apart: {report.unpaired} training videos")
    if report.failures:
        lines.append(f"not usable: {len(report.failures)} videos, listed in {report.path.parent / 'failures.jsonl'}")
    if (rule := result.stopping) is not None:
        lines.append(
            f"adaptive: stops at a margin of {rule.threshold:g}, {rule.mean_clips:.1f} of {rule.max_clips} clips on "
            f"average; {rule.num_different} of {rule.num_videos} videos changed their class"
        )
    else:
        lines.append(f"no stopping rule: {result.stopping_refused}")
    if (scaling := result.calibration) is not None:
        lines.append(
            f"temperature {scaling.temperature:.2f}: calibration error {scaling.ece_before:.3f} before, "
            f"{scaling.ece_after:.3f} after"
        )
    else:
        lines.append(f"no temperature: {result.calibration_refused}")
    return [*lines, f"wrote {report.path}"]
