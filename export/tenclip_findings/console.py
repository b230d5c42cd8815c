"""The screen of `tenclip findings`: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.table import Table

from tenclip_findings.finding import Finding
from tenclip_findings.lab.pool import Progress
from tenclip_findings.run import RESULTS, Measured, Options
from tenclip_training.console import Reporter, reporting


class FindingsConsole:
    """Use as a context manager around the run; `results` comes after it. quiet: JSON alone on standard output."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._stack = ExitStack()
        self._reporter: Reporter | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._reporter = self._stack.enter_context(reporting())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def progress(self, p: Progress) -> None:
        """Called after each job."""
        assert self._reporter is not None
        left = f"{p.clips_left:,} training clips left" if p.clips_left else ""
        self._reporter.update("jobs", p.done, p.total, p.title, left)

    def baselines(self, top1: Mapping[str, float]) -> None:
        """top1: of each finding's baseline arm, in per cent."""
        if self._quiet:
            print(json.dumps(top1, indent=2))
            return
        for name, percent in top1.items():
            print(f"{name}: {percent:.1f}%")

    def results(self, measured: Sequence[Measured], options: Options, report: Path) -> None:
        """What was found."""
        if self._quiet:
            print(json.dumps(json.loads((options.out / RESULTS).read_text(encoding="utf-8")), indent=2))
            return
        console = Console(highlight=False)
        for found in measured:
            console.print(table_of(found))
        console.print(f"report: {report}", soft_wrap=True)


def table_of(found: Measured) -> Table:
    """The contrasts of a finding."""
    finding = found.finding
    seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
    table = Table(title=f"{finding.number}. {finding.name} ({finding.paper}; {seeds}, {found.videos} test videos)")
    for name in ("effect", "mean", "95% interval", "seeds", "the paper", "verdict"):
        table.add_column(name, justify="left" if name in ("effect", "the paper", "verdict") else "right")
    for r in found.results:
        mean = r.comparison.mean
        table.add_row(
            f"{r.contrast.name} ({r.contrast.unit})",
            f"{mean.mean:+.1f}",
            f"{mean.low:+.1f} to {mean.high:+.1f}",
            " ".join(f"{s.mean:+.1f}" for s in r.comparison.seeds),
            r.contrast.paper,
            r.verdict,
        )
    return table


def print_list(findings: Sequence[Finding], *, as_json: bool) -> None:
    """What there is, and what it costs."""
    rows = [
        {
            "number": f.number,
            "name": f.name,
            "question": f.question,
            "paper": f.paper,
            "seeds": f.seeds,
            "quick": f.quick,
        }
        for f in findings
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("", "name", "question", "paper", "seeds", "--quick")
    for row in rows:
        table.add_row(
            str(row["number"]), str(row["name"]), str(row["question"]), str(row["paper"]), str(row["seeds"]),
            "yes" if row["quick"] else "",
        )  # fmt: skip
    Console(highlight=False).print(table)
