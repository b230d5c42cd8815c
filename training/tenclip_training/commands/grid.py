"""`tenclip grid`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tenclip_settings import fields_of, flag_values, parse_assignments, with_options_of
from tenclip_training.commands.options import Json, KeepMissing, print_json, usage_errors
from tenclip_training.commands.run_options import INTERRUPTED, RecipeName, Width
from tenclip_training.recipes.resolve import resolve_config
from tenclip_training.runs.config import TrainConfig

if TYPE_CHECKING:
    from tenclip_training.console import Reporter
    from tenclip_training.runs.grid import Events
    from tenclip_training.runs.grid_points import Point
    from tenclip_training.runs.grid_results import GridResult, Row

SEARCH = "Search"  # heading in --help


@with_options_of(TrainConfig)
def grid(
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE,VALUE,...",
            help="Values to try, e.g. optimizer.lr=0.1,0.01; a single one is set for all runs.",
            show_default=False,
            rich_help_panel=SEARCH,
        ),
    ] = None,
    part: Annotated[
        float,
        typer.Option(
            min=0.001, max=0.9, help="Part of each class's training videos to score on.", rich_help_panel=SEARCH
        ),
    ] = 0.1,
    by: Annotated[
        Literal["top1", "map", "loss"] | None,
        typer.Option(
            help="What decides, of the videos held out.",
            show_default="map with --loss sigmoid, else top1",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    recipe: RecipeName = None,
    keep_missing: KeepMissing = False,
    width: Width = None,
    json: Json = False,
    **flags: Any,
) -> None:
    """Choose settings of a run by a grid search, on a part of the training videos.

    A tenth of each class's training videos is held out, and one run for each
    combination of values learns from the rest; the splits val and test are
    never looked at. The options are those of `tenclip train`, which is what
    the best settings are printed as. Several values are separated by commas,
    or by semicolons where one value has commas itself.
    Run it again to go on: what is done is not done again. A run whose loss
    is no longer a number is a row of the table, not the end.

    \b
    Examples:
      tenclip grid list.csv -o g --init-from r.pt --set optimizer.lr=0.01,0.001
      tenclip grid list.csv -o g --fc-only --init-from r.pt --epochs 10 \\
        --set lr=1,0.1 --set weight_decay=0,1e-4
      tenclip grid list.csv -o g --set 'schedule.lr_steps=16,16;20,20' \\
        --schedule steps
    """
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.console import reporting
    from tenclip_training.runs.grid import search
    from tenclip_training.runs.grid_points import build_points, split_assignments

    given = {name: value for name, value in flags.items() if value is not None and value != []}
    if "manifest" not in given or "out" not in given:
        raise InvalidRequest("tenclip grid needs a manifest and --out")
    folder = Path(given["out"])
    options = dict(given)
    if keep_missing:
        options["missing"] = "keep"
    if width is not None:
        options["model"] = [f"width={width}", *options.get("model", [])]
    with usage_errors():
        single, swept = split_assignments(assignments or [])
        parse_assignments(TrainConfig, single)
        if not swept:
            raise InvalidRequest("nothing to search: give several values, e.g. --set optimizer.lr=0.1,0.01,0.001")
        if clash := [f for f in swept if f in flag_values(TrainConfig, options)]:
            raise InvalidRequest(f"{', '.join(clash)}: given as an option and searched; leave out one of the two")
        points = build_points(
            swept,
            lambda chosen: resolve_config(
                options, recipe=recipe, assignments=[*single, *(f"{swept[n][0]}={t}" for n, t in chosen.items())]
            ),
        )
    with reporting() as reporter:
        result = search(points, folder, part=part, by=by, events=_events(reporter, points))
    if os.environ.get("RANK", "0") == "0":
        command = None
        if result.best is not None:
            chosen = [f"{swept[name][0]}={value}" for name, value in result.best.values.items()]
            extra = {"--recipe": recipe, "--width": width, "--keep-missing": keep_missing or None}
            command = train_command(given, extra, [*single, *chosen])
        _print(result, command, json=json)
    if not result.completed:
        typer.echo(
            f"stopped after {len(result.rows)} of {result.points} runs; the same command goes on with them", err=True
        )
        raise typer.Exit(INTERRUPTED)
    if result.best is None:
        raise typer.Exit(1)


def train_command(given: Mapping[str, Any], extra: Mapping[str, Any], assignments: list[str]) -> str:
    """The `tenclip train` command of a search's options with the values that were chosen."""
    fields = fields_of(TrainConfig)
    words = ["tenclip", "train", str(given["manifest"]), "--out", "RUN"]
    for name, value in given.items():
        if name not in ("manifest", "out"):
            words += _words(fields[name].option, value)
    for option, value in extra.items():
        if value is not None:
            words += _words(option, value)
    for text in assignments:
        words += ["--set", text]
    return shlex.join(words)


def _words(option: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if isinstance(value, list | tuple):
        return [word for one in value for word in (option, str(one))]
    # A value that begins with a dash would be taken for an option.
    return [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]


def _events(reporter: Reporter, points: tuple[Point, ...]) -> Events:
    from tenclip_training.runs.grid import Events
    from tenclip_training.runs.results import EpochResult, Progress

    def begin(number: int, point: Point) -> None:
        reporter.say(f"run {number} of {len(points)}: {_values(point.values)}")

    def row(number: int, found: Row) -> None:
        reporter.say(f"  {_outcome(found)}")

    def epoch(found: EpochResult) -> None:
        if found.val_video_top1 is not None:
            reporter.say(f"  epoch {found.epoch}: loss {found.loss:.3f}, held-out top-1 {found.val_video_top1:.1%}")

    def progress(number: int, p: Progress) -> None:
        what = {"cache": "decoding", "train": f"epoch {p.epoch} of {p.epochs}", "evaluate": "scoring"}[p.stage]
        reporter.update(f"run {number} of {len(points)}, {what}", p.done, p.total)

    return Events(on_begin=begin, on_row=row, on_epoch=epoch, progress=progress)


def _values(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _outcome(row: Row) -> str:
    if row.status == "diverged":
        return f"diverged: {row.note}"
    loss = "" if row.loss is None else f", loss {row.loss:.3f}"
    asked = "" if row.videos == row.videos_asked else f" (asked for {row.videos_asked})"
    precision = "" if row.mean_average_precision is None else f"mAP {row.mean_average_precision:.1%}, "
    return f"held-out {precision}top-1 {_number(row.top1, '{:.1%}')} of {row.videos}{asked}{loss}"


def _print(result: GridResult, command: str | None, *, json: bool) -> None:
    if json:
        print_json({**result.to_dict(), "command": command})
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"{result.holdout_videos} training videos held out, {result.train_videos} learned from",
        title_justify="left",
    )
    for name in result.rows[0].values if result.rows else ():
        table.add_column(name, justify="right")
    precise = any(row.mean_average_precision is not None for row in result.rows)
    for name in (*(("mAP",) if precise else ()), "top-1", "of", "loss", "train loss", "seconds"):
        table.add_column(name, justify="right")
    for row in result.rows:
        values = [escape(v) for v in row.values.values()]
        if row.status == "diverged":
            table.add_row(*values, "diverged")
            continue
        precision = [_number(row.mean_average_precision, "{:.1%}")] if precise else []
        of = str(row.videos) if row.videos == row.videos_asked else f"{row.videos} ({row.videos_asked} asked for)"
        numbers = [_number(row.top1, "{:.1%}"), of, _number(row.loss, "{:.3f}")]
        table.add_row(*values, *precision, *numbers, _number(row.train_loss, "{:.3f}"), f"{row.seconds:.0f}")
    Console().print(table)
    if command is not None:
        typer.echo(f"best: {_values(result.rows[0].values)}. Train with it on all training videos:\n{command}")
    elif result.completed:
        typer.echo("every run diverged: try lower rates, or --clip-gradients 1")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
