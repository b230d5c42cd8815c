"""What `--dry-run` of the commands that train prints for a person."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from tenclip_training.runs.dry_run import RunPlan, plot_text


def print_plan(plan: RunPlan, *, learns: str, sampling: Sequence[str]) -> None:
    """The plan of a run, and the curve of its learning rates. learns, sampling: what it learns, and from which clips,
    in words.
    """
    config, processes = plan.config, plan.world_size
    trained = "" if plan.trained_parameters == plan.parameters else f", {plan.trained_parameters:,} of them trained"
    typer.echo(
        f"{plan.architecture}: {plan.parameters:,} parameters{trained}; {learns}\n"
        f"{plan.train_videos:,} training videos, {plan.val_videos:,} to validate on\n"
        f"{config.epochs} epochs of {plan.steps_per_epoch:,} steps, {plan.total_steps:,} in all, "
        f"each of {plan.clips_per_step:,} clips in {processes} process{'es' if processes > 1 else ''}\n"
        + "".join(f"{line}\n" for line in sampling)
        + f"learning rate: {config.schedule.kind}, peak {plan.schedule.peak:g}, by epochs"
    )
    for note in plan.notes:
        typer.echo(note)
    typer.echo(plot_text(plan.curve()))
    if config.schedule.kind == "plateau":
        typer.echo("the rate falls when the validation loss stays: how often is not known before")
