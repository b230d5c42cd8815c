"""`tenclip findings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130  # the exit code that shells give to Ctrl-C


def findings(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or numbers of findings; all of them without.", metavar="[NAME]...")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of jobs and results.")] = Path("findings"),
    page: Annotated[
        Path | None,
        typer.Option(
            help="Also write the tables into this Markdown page; evidence is kept in the folder of the same name."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each finding.", show_default="its own, 5")] = None,
    scale: Annotated[float, typer.Option(min=0.001, help="Factor of videos and of training clips.")] = 1.0,
    width: Annotated[int, typer.Option(min=1, help="Planes of the first stage of networks, teachers included.")] = 16,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed of a quarter of the clips, of some findings.")
    ] = False,
    network: Annotated[
        str, typer.Option(help="r3d, or r2plus1d for the headlines of some findings with few arms.")
    ] = "r3d",
    precision: Annotated[
        str,
        typer.Option(
            help="Of training: auto, fp32 or bf16; auto is bf16 where the processor multiplies it. Evidence says it of "
            "each seed."
        ),
    ] = "auto",
    data: Annotated[
        Path | None,
        typer.Option(help="Manifest or folder of your own labelled videos, in the place of generated ones."),
    ] = None,
    tuning: Annotated[
        bool,
        typer.Option(
            "--tuning", help="Only the baseline arms and what is pre-trained, on the seed that difficulty is set by."
        ),
    ] = False,
    kept: Annotated[
        Path | None,
        typer.Option("--from", help="Compute tables and verdicts from this folder of evidence, and run nothing."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Jobs at once, of one thread each.", show_default="one a core")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Say what there is and what it costs, and do nothing.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what this run would still have to do, and do nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in the place of tables.")] = False,
) -> None:
    """Repeat the findings of the papers in small, on generated videos or on your own.

    Each finding trains its arms anew and says "shown" only where all seeds agree in sign and the 95% interval of the
    mean effect excludes zero. A run that was stopped goes on where it was. Of each seed that is done, which test videos
    every arm got right is kept as evidence: that seed is not done again while its settings are the same, even where
    --out is gone, so findings can be run one by one, on one day or another.

    Examples:
      tenclip findings --list
      tenclip findings --quick --out quick
      tenclip findings durations --out findings --page docs/findings.md
      tenclip findings --page docs/findings.md --dry-run
      tenclip findings --from docs/findings --page docs/findings.md
      tenclip findings --network r2plus1d --out headlines
      tenclip findings --data videos.csv --out mine
      tenclip findings mega-scale --tuning
      tenclip findings log-linear --scale 10 --width 64 --out large
    """
    from tenclip_findings.console import FindingsConsole, print_costs, print_refused
    from tenclip_findings.report import read_results, write_page, write_report
    from tenclip_findings.run import PRECISIONS, QUICK_SCALE, Options, measure, run_findings, tune, write_results
    from tenclip_findings.selection import Selection, select

    if precision not in ("auto", *PRECISIONS):
        raise typer.BadParameter(f"{precision!r} is none of auto, {', '.join(PRECISIONS)}", param_hint="--precision")
    _check(tuning=tuning, page=page, kept=kept, data=data, quick=quick)
    if quick:
        scale, seeds = scale * QUICK_SCALE, seeds or 1
    chosen: Selection = select(names or [], network=network, data=data, quick=quick, kept=kept, tuning=tuning)
    evidence = kept or (None if page is None else page.with_suffix(""))
    options = Options(
        out=out, seeds=seeds, scale=scale, width=width, processes=processes, kept=evidence, precision=precision
    )
    if not as_json:
        print_refused(chosen)
    if show or dry_run:
        print_costs(chosen, options, left_only=dry_run, as_json=as_json)
        return
    try:
        with FindingsConsole(quiet=as_json) as console:
            if tuning:
                console.tuned(tune(chosen.findings, options, on_progress=console.progress))
                return
            if kept is not None:
                measured = measure(chosen.findings, options)
                write_results(measured, options)
            else:
                measured = run_findings(
                    chosen.findings, options, on_progress=console.progress, on_evidence=console.evidence
                )
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(INTERRUPTED) from None
    report = write_report(options)
    if page is not None:
        write_page(read_results(out), page, evidence=options.evidence)
    console.results(measured, options, report)


def _check(*, tuning: bool, page: Path | None, kept: Path | None, data: Path | None, quick: bool) -> None:
    """Raises BadParameter for options that do not go together."""
    if tuning and page is not None:
        raise typer.BadParameter("--tuning shows baselines alone, of which no page is written", param_hint="--page")
    if tuning and data is not None:
        raise typer.BadParameter("the difficulty of your own videos is what it is", param_hint="--tuning")
    if quick and data is not None:
        raise typer.BadParameter("is of generated videos; with --data give --seeds and --scale", param_hint="--quick")
    if kept is not None and (tuning or data is not None or quick):
        raise typer.BadParameter("runs nothing, so --tuning, --quick and --data do not go with it", param_hint="--from")
    if kept is not None and not kept.is_dir():
        raise typer.BadParameter(f"{kept}: no such folder of evidence", param_hint="--from")
