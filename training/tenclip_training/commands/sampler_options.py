"""Options of `tenclip train-sampler`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tenclip_client.cli.options import ConnectionOptions

if TYPE_CHECKING:
    from tenclip_training.sampler.fit import FitConfig
    from tenclip_training.sampler.run import SamplerConfig
    from tenclip_training.sampler.teacher import WindowTeacher
    from tenclip_video.salience import StoppingRule


def rule_words(rule: StoppingRule) -> str:
    """What a rule promises and what it costs, in a line."""
    return (
        f"error bound {rule.error_bound:g}: stops at a margin of {rule.threshold:g}, {rule.mean_clips:.1f} of "
        f"{rule.max_clips} clips on average"
    )


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
    ] = 0.1
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
        list[float] | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Share of videos whose class may change by stopping early; once for each that requests may choose, "
            "first the one that they get without choosing.",
            show_default="0.05, 0.02, 0.1, 0.2, 0.3",
            rich_help_panel=BOUNDS,
        ),
    ] = None
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="With which each of these holds.", rich_help_panel=BOUNDS)
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
            confidence=self.confidence,
            **({"error_bounds": tuple(self.error_bound)} if self.error_bound else {}),
        )
