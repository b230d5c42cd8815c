"""`tenclip demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tenclip_demo.report import Report

INTERRUPTED = 130  # the exit code that shells give to Ctrl-C


def demo(
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Videos of yours to predict too.", show_default=False)
    ] = None,
    video: Annotated[list[Path] | None, typer.Option(help="The same, as an option. Repeatable.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Your own folder of class-named sub-folders.", show_default="generated videos"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A tiny run: do the parts work together?")] = False,
    seed: Annotated[int, typer.Option(help="Of the videos and the training.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print summary.json on standard output.")] = False,
) -> None:
    """Train a small video model, export it, serve it, and ask it about videos: all of tenclip in ten minutes.

    Makes action videos (or takes yours), trains R(2+1)D on them, evaluates it on held-out videos, exports a bundle,
    starts the server as a process of its own, predicts and extracts features through the client, fits a probe on other
    labels, and writes OUT/report.html. A second run takes over what is done.

    With generated videos the demo fails when fewer than 90% of the held-out videos are right.

    \b
    Examples:
      tenclip demo
      tenclip demo clip.mp4 another.avi
      tenclip demo --data videos/ --out my-demo
      tenclip serve demo/models
    """
    import os

    # Before torch is imported: threads that wait sleep, or a demo beside other work takes five times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from rich.console import Console

    from tenclip_demo.config import DemoConfig
    from tenclip_demo.console import StageConsole
    from tenclip_demo.run import run_demo

    config = DemoConfig(out=out, data=data, videos=(*(videos or ()), *(video or ())), quick=quick, seed=seed)
    errors = Console(stderr=True)
    try:
        with StageConsole(errors) as console:
            report = run_demo(config, console)
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from here", highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    _print_demo(report, out, json=json)
    if not report.passed:
        raise typer.Exit(1)


def _print_demo(report: Report, out: Path, *, json: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    from tenclip_demo.tables import demo_table

    if json:
        import json as jsonlib

        print(jsonlib.dumps(report.summary(), indent=2, allow_nan=False))
        return
    console = Console()
    console.print(demo_table(report))
    if not report.passed:
        top1 = report.evaluation.video_top1
        console.print(
            f"[bold red]failed[/]  video top-1 is {top1.correct} of {top1.total}, fewer than {report.required:.0%}",
            highlight=False,
        )
    console.print(f"report: {escape(str(out / 'report.html'))}", highlight=False, soft_wrap=True)
    console.print(f"serve it: tenclip serve {escape(str(out / 'models'))}", highlight=False, soft_wrap=True)
