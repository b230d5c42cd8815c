"""All seeds, one after the other, and what they show together.

OUT/seed-N/               of each seed, see `seed`
OUT/results.json          every arm of every seed, video by video, and the verdicts
OUT/salience-proof.md     the page; OUT/salience-proof.svg its chart
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tenclip_data.atomic import write_text
from tenclip_demo.console import StageConsole
from tenclip_export.speed import machine
from tenclip_findings.salience.chart import draw
from tenclip_findings.salience.config import SeedConfig
from tenclip_findings.salience.report import CHART, page
from tenclip_findings.salience.results import Results
from tenclip_findings.salience.seed import SeedRun
from tenclip_findings.salience.verdicts import verdicts

PAGE = "salience-proof.md"


def run_salience(
    out: Path, seeds: Sequence[int], console: StageConsole, *, quick: bool = False, command: str = ""
) -> Results:
    """Every seed, then results.json, the page and its chart in `out`. What is done is taken over. Raises TenclipError.

    command: how this was called, for the page.
    """
    found = [SeedRun(SeedConfig(seed=s, quick=quick), out / f"seed-{s}", console).run() for s in seeds]
    results = Results(command=command, machine=machine(), seeds=tuple(found))
    write_results(results, out)
    return results


def write_results(results: Results, out: Path) -> None:
    """results.json with its verdicts, the page and the chart."""
    lines = [dataclasses.asdict(v) for v in verdicts(results)]
    text = json.dumps({**results.to_dict(), "verdicts": lines}, allow_nan=False)
    write_text(out / "results.json", text + "\n")
    write_page(results, out)


def write_page(results: Results, folder: Path) -> None:
    """The page and its chart, side by side."""
    write_text(folder / PAGE, page(results))
    write_text(folder / CHART, draw(results))
