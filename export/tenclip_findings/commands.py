"""`tenclip findings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def findings(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or numbers of findings; all of them without.", metavar="[NAME]...")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of jobs and results.")] = Path("findings"),
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each finding.", show_default="its own, 5")] = None,
    scale: Annotated[float, typer.Option(min=0.001, help="Factor of videos and of training clips.")] = 1.0,
    quick: Annotated[bool, typer.Option("--quick", help="One seed of a third of the clips, of some findings.")] = False,
    tuning: Annotated[
        bool, typer.Option("--tuning", help="Only the baseline arms, on the seed that difficulty is set by.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Jobs at once, of one thread each.", show_default="one a core")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the table as Markdown, as docs/findings.md.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Say what there is, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json in the place of tables.")] = False,
) -> None:
    """Repeat the findings of the papers in small, on generated videos.

    Each finding trains its arms anew from videos made for it and says "shown" only where all seeds agree in sign and
    the 95% interval of the mean effect excludes zero. A run that was stopped goes on where it was; results of jobs stay
    in --out, and findings share them.

    Examples:
      tenclip findings --list
      tenclip findings --quick --out quick
      tenclip findings log-linear distinit --out findings
      tenclip findings --out findings --page docs/findings.md
      tenclip findings durations --tuning
    """
    from tenclip_findings.catalog import chosen
    from tenclip_findings.console import FindingsConsole, print_list
    from tenclip_findings.report import read_results, write_page, write_report
    from tenclip_findings.run import QUICK_SCALE, Options, baselines, run_findings

    selected = chosen(names or [])
    if tuning and page is not None:
        raise typer.BadParameter("--tuning shows baselines alone, of which no page is written", param_hint="--page")
    if show:
        print_list(selected, as_json=as_json)
        return
    if quick:
        selected = [f for f in selected if f.quick] if not names else selected
        scale, seeds = scale * QUICK_SCALE, seeds or 1
    options = Options(out=out, seeds=seeds, scale=scale, processes=processes)
    if tuning:
        with FindingsConsole(quiet=as_json) as console:
            console.baselines(baselines(selected, options, on_progress=console.progress))
        return
    with FindingsConsole(quiet=as_json) as console:
        measured = run_findings(selected, options, on_progress=console.progress)
    report = write_report(options)
    if page is not None:
        write_page(read_results(out), page)
    console.results(measured, options, report)
