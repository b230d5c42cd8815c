"""From findings to results: their jobs are done, seed by seed, and their contrasts computed from what is done.

OUT/jobs/...            the jobs, see `lab/pool.py`
OUT/results.json        every finding: accuracies of its arms by seed, contrasts, verdicts
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_data.atomic import write_text
from tenclip_findings.finding import Finding, Result, contrast_of
from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import Job, in_order
from tenclip_findings.lab.pool import Progress, result_of, run_jobs
from tenclip_findings.lab.tasks import FRAMES
from tenclip_findings.statistics import Spread
from tenclip_video.cpus import usable_cpus

QUICK_SCALE = 1 / 3
TUNING_SEED = 99  # difficulty is set on it; no finding is reported on it
RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    """seeds: how many of each finding, from 1 on, None for its own number. scale: of videos and clips."""

    out: Path
    seeds: int | None = None
    scale: float = 1.0
    processes: int | None = None

    def seeds_of(self, finding: Finding) -> range:
        return range(1, 1 + (self.seeds or finding.seeds))

    @property
    def jobs(self) -> Path:
        return self.out / "jobs"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finding that was run. top1: by arm, in per cent, over the seeds. videos: of a seed's test set. seconds: of the
    jobs' processes together, those shared with other findings included.
    """

    finding: Finding
    seeds: int
    scale: float
    top1: Mapping[str, Spread]
    results: Sequence[Result]
    videos: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        f = self.finding
        return {
            **{
                name: getattr(f, name) for name in ("number", "name", "question", "paper", "data", "baseline", "chance")
            },
            "notes": f.notes,
            "seeds": self.seeds,
            "scale": self.scale,
            "test_videos": self.videos,
            "process_seconds": round(self.seconds),
            "top1": {name: dataclasses.asdict(spread) for name, spread in self.top1.items()},
            "contrasts": [
                {
                    **dataclasses.asdict(r.contrast),
                    "effect": dataclasses.asdict(r.comparison.mean),
                    "seeds": [dataclasses.asdict(s) for s in r.comparison.seeds],
                    "verdict": r.verdict,
                }
                for r in self.results
            ],
        }


def run_findings(
    findings: Sequence[Finding],
    options: Options,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_finding: Callable[[Measured], None] | None = None,
) -> list[Measured]:
    """Do all that is not done, one seed of every finding before the next seed, so that a run that is stopped has
    something of each. Decoded videos go when a seed is done: those of all seeds would fill a disk.
    Raises TenclipError.
    """
    most = max(len(options.seeds_of(f)) for f in findings)
    for number in range(most):
        jobs = [
            job for f in findings if number < len(options.seeds_of(f)) for job in _arms(f, options, number).values()
        ]
        run_jobs(jobs, options.jobs, processes=options.processes, on_progress=on_progress)
        shutil.rmtree(options.jobs / FRAMES, ignore_errors=True)
    measured = []
    for finding in findings:
        measured.append(measure(finding, options))
        if on_finding is not None:
            on_finding(measured[-1])
    write_results(measured, options)
    return measured


def baselines(
    findings: Sequence[Finding], options: Options, *, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, float]:
    """Top-1 of each finding's baseline arm alone, in per cent, on `TUNING_SEED`: what difficulty is set by. No other
    arm is trained. Raises TenclipError.
    """
    lab = Lab(seed=TUNING_SEED, scale=options.scale)
    jobs = {f.name: f.arms(lab)[f.baseline] for f in findings}
    run_jobs(list(jobs.values()), options.jobs, processes=options.processes, on_progress=on_progress)
    shutil.rmtree(options.jobs / FRAMES, ignore_errors=True)
    return {name: 100 * float(correct_of(job, options.jobs).mean()) for name, job in jobs.items()}


def _arms(finding: Finding, options: Options, number: int) -> Mapping[str, Job]:
    return finding.arms(Lab(seed=options.seeds_of(finding)[number], scale=options.scale))


def measure(finding: Finding, options: Options) -> Measured:
    """What the jobs of a finding have found; all of them are done."""
    arms_by_seed = [_arms(finding, options, number) for number in range(len(options.seeds_of(finding)))]
    correct = [{name: correct_of(job, options.jobs) for name, job in arms.items()} for arms in arms_by_seed]
    seconds = sum(
        float((result_of(job, options.jobs) or {}).get("seconds", 0.0))
        for job in in_order(job for arms in arms_by_seed for job in arms.values())
    )
    names = correct[0]
    return Measured(
        finding=finding,
        seeds=len(correct),
        scale=options.scale,
        top1={name: Spread.of([100 * float(arms[name].mean()) for arms in correct]) for name in names},
        results=[contrast_of(contrast, correct) for contrast in finding.contrasts],
        videos=max(len(values) for values in correct[0].values()),
        seconds=seconds,
    )


def correct_of(job: Job, root: Path) -> NDArray[np.bool_]:
    """Which test videos an arm got right, [N]."""
    with np.load(job.folder(root) / "scores.npz", allow_pickle=False) as arrays:
        values: NDArray[np.bool_] = arrays["correct"]
    return values


def write_results(measured: Sequence[Measured], options: Options) -> Path:
    """`results.json`, with the day and the machine."""
    path, python = options.out / RESULTS, f"Python {platform.python_version()}"
    values = {
        "date": date.today().isoformat(),
        "machine": f"{usable_cpus()} cores, {platform.machine()}, {platform.system()}, {python}",
        "findings": [m.to_dict() for m in measured],
    }
    write_text(path, json.dumps(values, indent=2) + "\n")
    return path
