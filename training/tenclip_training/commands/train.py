"""`tenclip train`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_settings import fields_of, flag_values, parse_assignments, with_options_of
from tenclip_training.commands.options import Json, KeepMissing, print_json, usage_errors
from tenclip_training.commands.run_options import (
    INTERRUPTED,
    Assignments,
    ColorJitter,
    DryRun,
    Processes,
    RecipeName,
    Resume,
    Width,
)
from tenclip_training.recipes.resolve import resolve_config
from tenclip_training.runs.config import RESCUE_FIELDS, RESUMABLE_FIELDS, Config, TrainConfig, read_config_of

if TYPE_CHECKING:
    from tenclip_training.runs.results import TrainResult


@with_options_of(TrainConfig)
def train(
    resume: Resume = None,
    resume_if_exists: Annotated[
        bool, typer.Option("--resume-if-exists", help="Go on with the run in --out where there is one, else begin it.")
    ] = False,
    recipe: RecipeName = None,
    assignments: Assignments = None,
    dry_run: DryRun = False,
    processes: Processes = 1,
    keep_missing: KeepMissing = False,
    color_jitter: ColorJitter = None,
    width: Width = None,
    json: Json = False,
    **flags: Any,
) -> None:
    """Train a model.

    The run's folder gets last.pt (to resume from), best.pt (best video top-1
    on the validation split, never on a test split), history.jsonl,
    steps.jsonl, failures.jsonl and damaged.jsonl. Ctrl-C saves and ends; a
    run that is resumed ends with the same weights as one that never stopped.
    Several labels of a video are joined by ';' or '|'; --tags and --loss say
    what is made of them. --class-power evens out how often classes are seen.
    With --init-from, a clip option replaces only its part of the checkpoint's
    clips.
    On several GPUs: torchrun --nproc-per-node N --no-python tenclip train ...

    \b
    Examples:
      tenclip train videos/manifest.csv --out run -a r2plus1d_10 --width 16
      tenclip train ucf/trainlist01.txt --videos UCF-101 --out ucf --fps 15
      tenclip train my-videos/ --out mine --init-from run/best.pt --epochs 15
      tenclip train list.csv --out r --recipe megascale/pretrain/r3d-18 --dry-run
      tenclip train list.csv --out r --recipe demo --set optimizer.lr=0.001
      tenclip train web.csv --out web --tags draw --class-power 0.5
      tenclip train --resume run
      torchrun --nproc-per-node 4 --max-restarts 3 --no-python \\
        tenclip train videos/ --out run --resume-if-exists
    """
    from tenclip_api.errors import InvalidRequest

    given = given_settings(flags, color_jitter=color_jitter, keep_missing=keep_missing, width=width)
    with usage_errors():
        if resume is not None:
            if recipe is not None:
                raise InvalidRequest(f"--resume goes on with the settings of {resume}: it takes no --recipe")
            config = resumed_config(TrainConfig, resume, given, assignments or [])
        elif "manifest" not in given or "out" not in given:
            raise InvalidRequest("tenclip train needs a manifest and --out, or --resume RUN")
        else:
            config = resolve_config(given, recipe=recipe, assignments=assignments or [])
        if dry_run:
            _show_plan(config, processes=processes, json=json)
            return
    _run(config, resume=resume is not None or resume_if_exists, json=json, folder=resume or given["out"])


def _show_plan(config: TrainConfig, *, processes: int, json: bool) -> None:
    from tenclip_training.commands.plan_screen import print_plan
    from tenclip_training.runs.dry_run import plan_run

    plan = plan_run(config, world_size=processes)
    if json:
        print_json(plan.to_dict())
    else:
        print_plan(
            plan, learns=f"{plan.num_classes} classes", sampling=[] if plan.sampling is None else plan.sampling.lines()
        )


def given_settings(
    flags: dict[str, Any], *, color_jitter: float | None, keep_missing: bool, width: int | None
) -> dict[str, Any]:
    """The options that a user gave, by the names of settings; those that stand for several are taken apart."""
    given = {name: value for name, value in flags.items() if value is not None and value != []}
    for name in ("brightness", "contrast", "saturation"):
        if color_jitter is not None:
            given.setdefault(name, color_jitter)
    if keep_missing:
        given["missing"] = "keep"
    if width is not None:
        given["model"] = [f"width={width}", *given.get("model", [])]
    return given


def resumed_config(kind: type[Config], folder: Path, flags: dict[str, Any], assignments: list[str]) -> Config:
    """The config of the run in `folder`, with what may change between its parts."""
    from tenclip_api.errors import InvalidRequest

    config = read_config_of(kind, folder)
    given = {**flag_values(kind, flags), **parse_assignments(kind, assignments)}
    if "manifest" in given or "out" in given:
        raise InvalidRequest("--resume takes the folder of a run, which knows its manifest and --out")
    fields = fields_of(kind)
    may_change = RESUMABLE_FIELDS
    if any(folder.glob("nan-batch*.pt")):  # the run had a loss that was not finite
        may_change |= {name.split(".")[-1] for name in RESCUE_FIELDS}
    if refused := [fields[name].option for name in given if name not in may_change]:
        allowed = [f.option for name, f in fields.items() if name in may_change - {"manifest", "out"}]
        raise InvalidRequest(
            f"--resume goes on with the settings of {folder}: it takes {', '.join(allowed)}, not {', '.join(refused)}"
        )
    return config.changed(**{**given, "out": str(folder)})


def _run(config: TrainConfig, *, resume: bool, json: bool, folder: Path) -> None:
    from tenclip_training.commands.train_screen import train_screen
    from tenclip_training.runs.train import train as run

    with train_screen(config) as screen:
        result = run(config, resume=resume, progress=screen.progress, on_epoch=screen.epoch, on_note=screen.note)
    if os.environ.get("RANK", "0") == "0":
        _print_result(result, json=json)
    if not result.completed:
        typer.echo(
            f"stopped after {result.epochs_done} of {config.epochs} epochs, saved in {result.last}; "
            f"go on with: tenclip train --resume {shlex.quote(str(folder))}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED)


def _print_result(result: TrainResult, *, json: bool) -> None:
    from tenclip_training.commands.train_screen import damage_lines, failure_lines

    if json:
        print_json(result_as_json(result))
        return
    for line in (*failure_lines(result), *damage_lines(result)):
        typer.echo(line)
    if result.completed:
        typer.echo(f"wrote {result.last}" + (f" and {result.best}" if result.best else ""))
        if result.best_note:
            typer.echo(result.best_note)


def result_as_json(result: TrainResult) -> dict[str, Any]:
    """Plain values of a run's result."""
    from dataclasses import asdict

    return {
        "completed": result.completed,
        "epochs_done": result.epochs_done,
        "last": str(result.last),
        "best": None if result.best is None else str(result.best),
        "best_note": result.best_note,
        "labels": list(result.labels),
        "videos_failed": result.videos_failed,
        "val_videos_failed": result.val_videos_failed,
        "failures": [asdict(f) for f in result.failures],
        "damaged": [asdict(d) for d in result.damaged],
        "steps_skipped": result.steps_skipped,
        "history": [asdict(h) for h in result.history],
        "evaluation": None if result.evaluation is None else result.evaluation.to_dict(),
    }
