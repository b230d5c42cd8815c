"""`python -m tenclip_findings.salience`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def salience(
    out: Annotated[Path, typer.Option(help="Folder for videos, runs and results.")] = Path("results/salience"),
    seeds: Annotated[int, typer.Option(help="How many seeds, from 1.", min=1)] = 3,
    tuning: Annotated[
        bool, typer.Option("--tuning", help="Only the baseline of seed 0, to set difficulty by.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One tiny seed: do the parts work together?")] = False,
    page: Annotated[Path | None, typer.Option(help="Folder to put the page and its chart into as well.")] = None,
) -> None:
    """Train a network and samplers on generated videos, and compare ways to choose the clips of untrimmed ones.

    A run that was stopped goes on where it was.
    """
    # Before torch is imported: threads that wait sleep, or this takes five times as long beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from rich.console import Console

    from tenclip_api.errors import TenclipError
    from tenclip_demo.console import StageConsole
    from tenclip_findings.salience.config import SeedConfig
    from tenclip_findings.salience.run import run_salience, write_page
    from tenclip_findings.salience.seed import SeedRun
    from tenclip_findings.salience.verdicts import verdicts

    numbers = [1] if quick else list(range(1, seeds + 1))
    errors = Console(stderr=True)
    try:
        with StageConsole(errors) as console:
            if tuning:
                print(SeedRun(SeedConfig(seed=0, quick=quick), out / "seed-0", console).baseline())
                return
            results = run_salience(out, numbers, console, quick=quick, command=_command(seeds, quick))
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from here", highlight=False)
        raise typer.Exit(130) from None
    except TenclipError as err:
        errors.print(f"{err}", style="red", highlight=False, markup=False)
        raise typer.Exit(1) from None
    if page is not None:
        write_page(results, page)
    if quick:
        print("quick: the figures mean nothing")
    for line in verdicts(results):
        scorer = f" ({line.scorer})" if line.scorer else ""
        print(f"{line.verdict}: {line.claim}{scorer}: {line.figures}")
    print(f"results: {out / 'results.json'}")


def _command(seeds: int, quick: bool) -> str:
    return f"python -m tenclip_findings.salience {'--quick' if quick else f'--seeds {seeds}'}"


if __name__ == "__main__":
    typer.run(salience)
