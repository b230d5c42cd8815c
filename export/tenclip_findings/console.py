"""The screen of `tenclip findings`: progress on standard error, results on standard output."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.table import Table

from tenclip_findings.finding import Finding
from tenclip_findings.lab.pool import Progress
from tenclip_findings.lab.sets import TEST_VIDEOS
from tenclip_findings.run import RESULTS, Measured, Options, Tuned, seeds_missing
from tenclip_findings.selection import Selection
from tenclip_training.console import Reporter, reporting
from tenclip_video.cpus import usable_cpus


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

    def tuned(self, findings: Mapping[str, Tuned]) -> None:
        """By finding."""
        if self._quiet:
            print(json.dumps({name: dataclasses.asdict(found) for name, found in findings.items()}, indent=2))
            return
        for name, found in findings.items():
            parts = "".join(f", its {part} {share:.1f}%" for part, share in found.parts.items())
            guessed = "" if found.commonest is None else f"; the commonest class {found.commonest:.1f}%"
            print(f"{name}: baseline {found.baseline:.1f}%{parts}{guessed}")
            for p in found.pretrainings:
                few = "" if p.learned else ", which is too little"
                print(f"  {p.title}: {p.top1:.1%} of its training clips, loss {p.loss:.2f} of {p.entropy:.2f}{few}")

    def evidence(self, finding: Finding, seed: int) -> None:
        """Called when a seed of a finding is done and kept."""
        assert self._reporter is not None
        self._reporter.say(f"{finding.name}: seed {seed} is done")

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
    title = f"{finding.number}. {finding.name} ({finding.paper}; {found.extent}, {found.videos:,} test videos)"
    few = f"fewer than {TEST_VIDEOS:,} test videos: small effects are not seen" if found.videos < TEST_VIDEOS else None
    table = Table(title=title, caption=few)
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
            found.verdict(r),
        )
    return table


def print_refused(selection: Selection) -> None:
    """What is left out, on standard error."""
    console = Console(stderr=True, highlight=False)
    for name, reason in selection.refused.items():
        console.print(f"left out: {name}: {reason}", markup=False, soft_wrap=True)


def print_costs(selection: Selection, options: Options, *, left_only: bool, as_json: bool) -> None:
    """What there is, and what it costs: all of it, or what there is no evidence of yet. Each finding is priced in the
    precision that it would be run in.
    """
    from tenclip_findings.costs import measure_rates, work_of

    named = {f.name: f for f in selection.findings}
    seeds = {name: seeds_missing(f, options) if left_only else list(options.seeds_of(f)) for name, f in named.items()}
    works = {name: work_of({name: f}, {name: seeds[name]}, options) for name, f in named.items()}
    together = work_of(named, seeds, options)
    processes = options.processes or usable_cpus()
    precisions = {name: options.precision_of(f) for name, f in named.items()}
    (precision, _), *_ = Counter(precisions.values()).most_common(1)
    rates = measure_rates(together.networks, precision, selection.footage)
    rows = [
        {
            "number": f.number,
            "name": name,
            "question": f.question,
            "paper": f.paper,
            "seeds": len(seeds[name]),
            "arms": len(f.arms(options.lab(f, 1))),
            "quick": f.quick,
            "precision": precisions[name],
            "training_clips": works[name].training_clips,
            "videos": works[name].videos,
            "minutes": round(works[name].minutes(rates, processes), 1),
        }
        for name, f in named.items()
    ]
    total = {
        "training_clips": together.training_clips,
        "videos": together.videos,
        "minutes": round(together.minutes(rates, processes), 1),
    }
    if as_json:
        speed = {
            "clips_per_second": round(rates.clips_per_second, 1),
            "processes": processes,
            "precision": precision,
        }
        print(json.dumps({"findings": rows, "together": total, **speed}, indent=2))
        return
    table = Table(
        caption=f"minutes: about, of {processes} cores that do nothing else; a thread learns from "
        f"{rates.clips_per_second:.0f} clips/s of R3D with 10 layers in {precision} here. "
        "Together, jobs that findings share count once."
    )
    console = Console(highlight=False)
    wide = console.width >= _WIDE
    table.add_column("")
    table.add_column("name", no_wrap=True)
    for name in ("seeds", "arms", "clips", "videos", "minutes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("--quick", no_wrap=True)
    if wide:
        table.add_column("question")
    for row in rows:
        table.add_row(
            str(row["number"]), str(row["name"]), str(row["seeds"]), str(row["arms"]), f"{row['training_clips']:,}",
            f"{row['videos']:,}", f"{row['minutes']:,.0f}", "yes" if row["quick"] else "",
            *([str(row["question"])] if wide else []),
        )  # fmt: skip
    table.add_row(
        "", "together", "", "", f"{total['training_clips']:,}", f"{total['videos']:,}", f"{total['minutes']:,.0f}"
    )
    console.print(table)


_WIDE = 120  # columns that leave room for questions
