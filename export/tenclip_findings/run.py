"""From findings to results: their jobs are done, seed by seed; what they have found is kept as evidence, from which
contrasts and verdicts are computed.

OUT/jobs/...            the jobs, see `lab/pool.py`; can be removed when the evidence is there
OUT/evidence/...        a file for each finding, see `evidence.py`; may be another folder, which is kept
OUT/results.json        every finding: accuracies of its arms by seed, contrasts, verdicts
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_data.atomic import write_text
from tenclip_export.speed import machine
from tenclip_findings.evidence import SUFFIX, Evidence, Pretraining, SeedEvidence, read_evidence, write_evidence
from tenclip_findings.finding import Finding, Result, contrast_of
from tenclip_findings.lab.arms import SCORED, TRAINED, WIDTH, Lab
from tenclip_findings.lab.jobs import Job, in_order
from tenclip_findings.lab.pool import Progress, result_of, run_jobs
from tenclip_findings.lab.tasks import FRAMES, frames_of
from tenclip_findings.statistics import Spread
from tenclip_findings.version import code_version

QUICK_SCALE = 1 / 4
TUNING_SEED = 99  # difficulty is set on it; no finding is reported on it
RESULTS = "results.json"
PRECISIONS = ("fp32", "bf16")
OPEN = "open"  # in the place of a verdict while seeds are missing
VOID = "void"  # where an arm rests on a pre-training that has learned nothing


@dataclass(frozen=True, kw_only=True)
class Options:
    """seeds: how many of each finding, from 1 on, None for its own number. scale: of videos and clips.

    width: of networks. kept: folder of the evidence, None for one in `out`. precision: of training; "auto" is the one
    that this machine is faster in.
    """

    out: Path
    seeds: int | None = None
    scale: float = 1.0
    width: int = WIDTH
    processes: int | None = None
    kept: Path | None = None
    precision: str = "auto"

    def lab(self, finding: Finding, seed: int) -> Lab:
        """Of one seed of a finding."""
        return Lab(seed=seed, scale=self.scale, width=self.width, precision=self.precision_of(finding))

    def precision_of(self, finding: Finding) -> str:
        """ "fp32" or "bf16"."""
        own = finding.precision(self.scale) if finding.precision is not None else None
        return own or (fastest_precision() if self.precision == "auto" else self.precision)

    def seeds_of(self, finding: Finding) -> range:
        return range(1, 1 + (self.seeds or finding.seeds))

    @property
    def jobs(self) -> Path:
        return self.out / "jobs"

    @property
    def evidence(self) -> Path:
        return self.kept or self.out / "evidence"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finding and what it rests on."""

    finding: Finding
    evidence: Evidence

    @cached_property
    def top1(self) -> dict[str, Spread]:
        """By arm, in per cent, over the seeds."""
        seeds = [seed.correct for seed in self.evidence.seeds]
        return {name: Spread.of([100 * float(arms[name].mean()) for arms in seeds]) for name in seeds[0]}

    @property
    def of_these_settings(self) -> bool:
        """Whether the evidence is of the finding's settings as they are now."""
        return settings_of(self.finding, self.evidence.scale, self.evidence.width) == self.evidence.settings

    @property
    def precisions(self) -> dict[str, list[int]]:
        """Of training, with the seeds of each; seeds that do not say are left out."""
        found: dict[str, list[int]] = {}
        for seed in self.evidence.seeds:
            if seed.precision is not None:
                found.setdefault(seed.precision, []).append(seed.seed)
        return found

    @cached_property
    def results(self) -> list[Result]:
        """One of each contrast."""
        return [contrast_of(c, [seed.correct for seed in self.evidence.seeds]) for c in self.finding.contrasts]

    @property
    def videos(self) -> int:
        """Of a seed's test set, at least."""
        return min(seed.videos for seed in self.evidence.seeds)

    @property
    def extent(self) -> str:
        """ "5 seeds", or "2 of 5 seeds"."""
        done, wanted = len(self.evidence.seeds), self.finding.seeds
        return f"{done} seed{'s' if done > 1 else ''}" if done >= wanted else f"{done} of {wanted} seeds"

    @cached_property
    def pretrainings(self) -> list[Pretraining]:
        """The mean of each over the seeds that say it."""
        found: dict[str, list[Pretraining]] = {}
        for seed in self.evidence.seeds:
            of_seed = {p.title: p for arm in (seed.pretrainings or {}).values() for p in arm}
            for title, pretraining in of_seed.items():
                found.setdefault(title, []).append(pretraining)
        return [
            Pretraining(
                title=title,
                top1=float(np.mean([p.top1 for p in each])),
                loss=float(np.mean([p.loss for p in each])),
                entropy=float(np.mean([p.entropy for p in each])),
            )
            for title, each in found.items()
        ]

    @property
    def unchecked(self) -> list[int]:
        """Seeds whose evidence does not say what pre-trainings have learned."""
        return [seed.seed for seed in self.evidence.seeds if seed.pretrainings is None]

    def verdict(self, result: Result) -> str:
        """Void where an arm rests on a pre-training that did not learn in one of the seeds; open while seeds are
        missing.
        """
        before = [
            pretraining
            for seed in self.evidence.seeds
            for arm in result.contrast.weights
            for pretraining in (seed.pretrainings or {}).get(arm, ())
        ]
        if not all(pretraining.learned for pretraining in before):
            return VOID
        return result.verdict if len(self.evidence.seeds) >= self.finding.seeds else OPEN

    @property
    def fitted(self) -> dict[str, float]:
        """What arms got right of their own training, in per cent, mean of the seeds; of those that say so in all."""
        seeds = self.evidence.seeds
        return {
            name: 100 * float(np.mean([seed.fitted[name] for seed in seeds]))
            for name in seeds[0].correct
            if all(name in seed.fitted for seed in seeds)
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        f, seeds = self.finding, self.evidence.seeds
        return {
            **{
                name: getattr(f, name) for name in ("number", "name", "question", "paper", "data", "baseline", "chance")
            },
            "notes": f.notes,
            "seeds": len(seeds),
            "extent": self.extent,
            "scale": self.evidence.scale,
            "width": self.evidence.width,
            "test_videos": self.videos,
            "settings": self.evidence.settings,
            "precisions": self.precisions,
            "of_these_settings": self.of_these_settings,
            "dates": sorted({seed.date for seed in seeds}),
            "versions": sorted({seed.version for seed in seeds}),
            "machines": sorted({seed.machine for seed in seeds}),
            "process_seconds": round(sum(seed.seconds for seed in seeds)),
            "top1": {name: dataclasses.asdict(spread) for name, spread in self.top1.items()},
            "fitted": self.fitted,
            "pretrainings": [dataclasses.asdict(p) for p in self.pretrainings],
            "unchecked_seeds": self.unchecked,
            "contrasts": [
                {
                    **dataclasses.asdict(r.contrast),
                    "effect": dataclasses.asdict(r.comparison.mean),
                    "seeds": [dataclasses.asdict(s) for s in r.comparison.seeds],
                    "verdict": self.verdict(r),
                }
                for r in self.results
            ],
        }


def fastest_precision() -> str:
    """ "bf16" on a GPU and on a processor that multiplies it (AVX512-BF16, AMX), else "fp32"."""
    can = torch.cpu.get_capabilities()
    return "bf16" if torch.cuda.is_available() or can.get("avx512_bf16") or can.get("amx_bf16") else "fp32"


def settings_of(finding: Finding, scale: float, width: int = WIDTH) -> str:
    """Hex digest of all that decides a finding's results at a scale and width but the seed and what hangs on the
    machine, the precision: the jobs of every arm.
    """
    arms = finding.arms(Lab(seed=0, scale=scale, width=width))
    text = json.dumps({name: job.key for name, job in arms.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def seeds_missing(finding: Finding, options: Options) -> list[int]:
    """Seeds of which there is no evidence with these settings.

    Raises InvalidRequest where there is evidence of another scale or width: it would have to go.
    """
    kept = read_evidence(options.evidence, finding.name)
    wanted = options.seeds_of(finding)
    if kept is None:
        return list(wanted)
    for name, old, new in (("scale", kept.scale, options.scale), ("width", kept.width, options.width)):
        if old != new:
            raise InvalidRequest(
                f"{options.evidence / (finding.name + SUFFIX)}: is evidence of {name} {old:.3g}, and this run is of "
                f"{new:.3g}; choose another --page or --out, or remove the file"
            )
    if kept.settings != settings_of(finding, options.scale, options.width):
        return list(wanted)
    there = {seed.seed for seed in kept.seeds}
    return [seed for seed in wanted if seed not in there]


def run_findings(
    findings: Sequence[Finding],
    options: Options,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_evidence: Callable[[Finding, int], None] | None = None,
) -> list[Measured]:
    """Do all that there is no evidence of, one seed of every finding before the next seed, so that a run that is
    stopped has something of each; jobs of the next seed begin only where a core would be idle. Evidence of a seed is
    written as soon as its last arm is done. Decoded videos go when a seed is done: those of all seeds would fill a
    disk. Raises TenclipError.

    on_evidence: told each finding and seed of which there is evidence now.
    """
    missing = {f.name: seeds_missing(f, options) for f in findings}
    collectors = [
        _Collector([f for f in findings if seed in missing[f.name]], seed, options, on_evidence)
        for seed in sorted({seed for seeds in missing.values() for seed in seeds})
    ]

    def progress(p: Progress) -> None:
        for collector in collectors:
            collector.collect()
        if on_progress is not None:
            on_progress(p)

    for collector in collectors:
        collector.collect()
    jobs = [job for collector in collectors for job in collector.jobs]
    run_jobs(jobs, options.jobs, processes=options.processes, on_progress=progress)
    shutil.rmtree(options.jobs / FRAMES, ignore_errors=True)
    measured = measure(findings, options)
    write_results(measured, options)
    return measured


class _Collector:
    """Evidence of one seed of some findings, of each when its arms are done."""

    def __init__(
        self,
        findings: Sequence[Finding],
        seed: int,
        options: Options,
        on_evidence: Callable[[Finding, int], None] | None,
    ) -> None:
        self._seed, self._options, self._told = seed, options, on_evidence
        self._open = {f.name: (f, f.arms(options.lab(f, seed))) for f in findings}
        self._machine, self._version = machine(), code_version()

    @property
    def jobs(self) -> list[Job]:
        """Those of the findings that are open."""
        return [job for _, arms in self._open.values() for job in arms.values()]

    def collect(self) -> None:
        """Keep what is done; decoded videos go with the last finding."""
        if not self._open:
            return
        for name, (finding, arms) in list(self._open.items()):
            if all(result_of(job, self._options.jobs) is not None for job in arms.values()):
                self._keep(finding, arms)
                del self._open[name]
        if not self._open:
            shutil.rmtree(frames_of(self._options.jobs, self._seed), ignore_errors=True)

    def _keep(self, finding: Finding, arms: Mapping[str, Job]) -> None:
        options = self._options
        settings = settings_of(finding, options.scale, options.width)
        evidence = read_evidence(options.evidence, finding.name)
        if evidence is None or evidence.settings != settings:
            evidence = Evidence(
                name=finding.name, settings=settings, scale=options.scale, width=options.width, seeds=()
            )
        seed = SeedEvidence(
            seed=self._seed,
            correct={name: correct_of(job, options.jobs) for name, job in arms.items()},
            date=date.today().isoformat(),
            version=self._version,
            machine=self._machine,
            seconds=_seconds(arms.values(), options.jobs),
            precision=_precision(finding, options),
            pretrainings={name: _pretrainings(before_arm(arm), options.jobs) for name, arm in arms.items()},
            fitted=_fitted(arms, options.jobs),
        )
        write_evidence(options.evidence, evidence.with_seed(seed))
        if self._told is not None:
            self._told(finding, self._seed)


def _precision(finding: Finding, options: Options) -> str | None:
    if finding.precision is not None:
        return finding.precision(options.scale)
    return options.precision_of(finding)


def before_arm(arm: Job) -> list[Job]:
    """Trainings with labels of networks that an arm begins with, that teach it or that have chosen its videos; not of
    the one that is scored.
    """
    jobs = in_order([arm])
    needed = {need.key for job in jobs if job.kind != SCORED for need in job.needs}
    return [job for job in jobs if job.key in needed and job.kind == TRAINED]


def _pretrainings(jobs: Sequence[Job], root: Path) -> list[Pretraining]:
    found = [(job, result_of(job, root) or {}) for job in jobs]
    return [
        Pretraining(
            title=job.title,
            top1=round(r["train_clip_top1"], 4),
            loss=round(r["loss"], 4),
            entropy=round(r["entropy"], 4),
        )
        for job, r in found
    ]


def _fitted(arms: Mapping[str, Job], root: Path) -> dict[str, float]:
    """What arms got right of their own training: a probe, or the training that is scored. Those that do not say so are
    left out.
    """
    found: dict[str, float] = {}
    for name, arm in arms.items():
        values = result_of(arm, root) or {}
        share = values.get("train_top1")
        if arm.kind == SCORED:
            (trained,) = [need for need in arm.needs if need.clips]
            share = (result_of(trained, root) or {}).get("train_clip_top1")
        if share is not None:
            found[name] = float(share)
    return found


def _seconds(arms: Any, root: Path) -> float:
    """Of the processes of all jobs of some arms, those shared with other findings included."""
    return sum(float((result_of(job, root) or {}).get("seconds", 0.0)) for job in in_order(arms))


def measure(findings: Sequence[Finding], options: Options) -> list[Measured]:
    """What there is evidence of, of other settings too; that which lacks an arm of a contrast is left out.
    Raises DatasetError for evidence that cannot be read.
    """
    found = []
    for finding in findings:
        evidence = read_evidence(options.evidence, finding.name)
        if evidence is None or not evidence.seeds:
            continue
        needed = {arm for contrast in finding.contrasts for arm in contrast.weights}
        if all(needed <= seed.correct.keys() for seed in evidence.seeds):
            found.append(Measured(finding=finding, evidence=evidence))
    return found


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What the difficulty of a finding is set by. baseline: top-1 of that arm, in per cent; commonest: of naming the
    commonest class always, None for jobs that were done by a version that did not say; parts: of pairs, how often it
    names the verb and the noun. pretrainings: what networks got right of the clips that they were pre-trained on.
    """

    baseline: float
    commonest: float | None
    parts: Mapping[str, float]
    pretrainings: Sequence[Pretraining]


def tune(
    findings: Sequence[Finding], options: Options, *, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Tuned]:
    """Each finding's baseline arm and its pre-trainings, on `TUNING_SEED`. No other arm is trained to its end. Raises
    TenclipError.
    """
    arms = {f.name: f.arms(options.lab(f, TUNING_SEED)) for f in findings}
    baselines = {f.name: arms[f.name][f.baseline] for f in findings}
    before = {name: [*{j.key: j for arm in each.values() for j in before_arm(arm)}.values()]
              for name, each in arms.items()}  # fmt: skip
    jobs = [*baselines.values(), *(job for each in before.values() for job in each)]
    run_jobs(jobs, options.jobs, processes=options.processes, on_progress=on_progress)
    shutil.rmtree(options.jobs / FRAMES, ignore_errors=True)
    scores = {name: result_of(job, options.jobs) or {} for name, job in baselines.items()}
    return {
        name: Tuned(
            baseline=100 * found["top1"],
            commonest=100 * found["commonest"] if "commonest" in found else None,
            parts={part: 100 * share for part, share in (found.get("parts") or {}).items()},
            pretrainings=_pretrainings(before[name], options.jobs),
        )
        for name, found in scores.items()
    }


def correct_of(job: Job, root: Path) -> NDArray[np.bool_]:
    """Which test videos an arm got right, [N]."""
    with np.load(job.folder(root) / "scores.npz", allow_pickle=False) as arrays:
        values: NDArray[np.bool_] = arrays["correct"]
    return values


def write_results(measured: Sequence[Measured], options: Options) -> Path:
    """`results.json`."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / RESULTS
    values = {"date": date.today().isoformat(), "findings": [m.to_dict() for m in measured]}
    write_text(path, json.dumps(values, indent=2) + "\n")
    return path
