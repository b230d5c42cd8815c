"""`tenclip distill`."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import typer

from tenclip_settings import with_options_of
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
from tenclip_training.commands.train import given_settings, result_as_json, resumed_config
from tenclip_training.distill.config import DistillConfig
from tenclip_training.recipes.resolve import resolve_config_of

if TYPE_CHECKING:
    from tenclip_training.distill.run import DistillResult
    from tenclip_training.runs.results import EpochResult


@with_options_of(DistillConfig)
def distill(
    resume: Resume = None,
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
    """Train a network of clips from image networks, without labels (DistInit).

    VIDEOS is a folder or a list; labels in it are not looked at. Each teacher
    sees frames of the student's clips at its own size, and the student learns
    to say the same. The run's folder gets last.pt (to resume from),
    student.pt (the network without its heads, when the run is complete),
    teachers.json and history.jsonl. Fine-tune with
    `tenclip train ... --init-from RUN/student.pt`.

    \b
    Examples:
      tenclip distill videos/ --out run --teacher efficientnet-lite0
      tenclip distill videos/ --out run --teacher objects=r2d.pt --teacher scenes=places.onnx
      tenclip distill videos/ --out run --teacher r2d.pt --teacher-sees frame --keep-percent 50
      tenclip distill list.txt --out run --recipe distinit/pretrain/r2plus1d-18 --teacher r2d.pt
      tenclip distill videos/ --out run --teacher efficientnet-lite0 --dry-run
      tenclip distill --resume run
    """
    from tenclip_api.errors import InvalidRequest

    given = given_settings(flags, color_jitter=color_jitter, keep_missing=keep_missing, width=width)
    with usage_errors():
        if resume is not None:
            if recipe is not None:
                raise InvalidRequest(f"--resume goes on with the settings of {resume}: it takes no --recipe")
            config = resumed_config(DistillConfig, resume, given, assignments or [])
        elif "manifest" not in given or "out" not in given:
            raise InvalidRequest("tenclip distill needs videos and --out, or --resume RUN")
        else:
            config = resolve_config_of(DistillConfig, given, recipe=recipe, assignments=assignments or [])
        if dry_run:
            _show_plan(config, processes=processes, json=json)
            return
    _run(config, resume=resume is not None, json=json)


def _show_plan(config: DistillConfig, *, processes: int, json: bool) -> None:
    from tenclip_training.commands.plan_screen import print_plan
    from tenclip_training.distill.dry_run import plan_distill

    plan = plan_distill(config, world_size=processes)
    if json:
        print_json(plan.to_dict())
        return
    heads = len(plan.teachers)
    learns = f"{heads} head{'s' if heads > 1 else ''} of {plan.run.num_classes} classes"
    print_plan(plan.run, learns=learns, sampling=plan.lines())


def _run(config: DistillConfig, *, resume: bool, json: bool) -> None:
    from tenclip_training.commands.train_screen import train_screen
    from tenclip_training.distill.run import distill as run

    with train_screen(config) as screen:
        result = run(
            config,
            resume=resume,
            progress=screen.progress,
            on_epoch=lambda epoch: screen.note(epoch_line(epoch, config.epochs)),
            on_note=screen.note,
        )
    if os.environ.get("RANK", "0") == "0":
        _print_result(result, json=json)
    if not result.run.completed:
        typer.echo(
            f"stopped after {result.run.epochs_done} of {config.epochs} epochs, saved in {result.run.last}; "
            f"go on with: tenclip distill --resume {shlex.quote(config.out)}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED)


def epoch_line(result: EpochResult, epochs: int) -> str:
    """The result of an epoch: how often the student says what the teachers say, and what they dropped."""
    dropped = "".join(f", {name} {share:.1%}" for name, share in result.facts.items())
    return (
        f"epoch {result.epoch:>{len(str(epochs))}} of {epochs}: loss {result.loss:.3f}, teacher's best class met in "
        f"{result.train_clip_top1:.1%} of {result.train_clips} clips{dropped}, {result.seconds:.1f} s"
    )


def _print_result(result: DistillResult, *, json: bool) -> None:
    from tenclip_training.commands.train_screen import damage_lines, failure_lines

    if json:
        student = None if result.student is None else str(result.student)
        values = {**result_as_json(result.run), "student": student, "dropped": result.dropped}
        print_json({**values, "teachers": list(result.teachers)})
        return
    for line in (*failure_lines(result.run), *damage_lines(result.run)):
        typer.echo(line)
    if result.student is not None:
        typer.echo(f"wrote {result.run.last} and {result.student}, which has no heads")
        typer.echo(
            f"fine-tune it with: tenclip train MANIFEST --out OUT --init-from {shlex.quote(str(result.student))}"
        )
