"""The findings that can be run on labelled videos, and why the others cannot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tenclip_findings.catalog import all_findings
from tenclip_findings.finding import OWN, Contrast, Finding, difference, slope
from tenclip_findings.findings.capacity import NETWORKS
from tenclip_findings.findings.clips_or_frames import R2D_10
from tenclip_findings.footage.arms import FootageLab
from tenclip_findings.footage.data import Footage
from tenclip_findings.lab.arms import LAST, MANIFEST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_training.curation.subsets import Bands

Arms = Callable[[FootageLab], Mapping[str, Job]]

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
BUDGETS = (1 / 8, 1 / 4, 1 / 2)
PARTS = (0.25, 0.5, 1.0)
LONG_TAIL = 3.0  # times the videos of the smallest class that the largest has
LEAST_IN_A_BAND = 32  # short videos, and long ones

_GENERATED = {
    "label-kinds": "needs the same videos with labels of several kinds, of which one is known to be the target's",
    "label-counts": "needs a label space that can be split further, as pairs of verbs and nouns",
    "distinit": "needs a teacher of images; distil from yours with `tenclip distill` and compare with `tenclip train`",
    "omnisource": "needs web images and videos beside the target; join yours with `tenclip omni`",
}


def findings_of(footage: Footage) -> tuple[list[Finding], dict[str, str]]:
    """(findings, reasons for each of the others by name)."""
    reasons = {
        **_GENERATED,
        "tail-preserving": _balanced(footage),
        "mega-scale": _few_classes(footage),
        "durations": _of_equal_length(footage),
    }
    found, refused = [], {}
    for finding in all_findings():
        if reasons.get(finding.name):
            refused[finding.name] = reasons[finding.name]
        else:
            arms, contrasts = _MADE[finding.name]
            found.append(_on(footage, finding, arms, contrasts))
    return found, refused


def _on(footage: Footage, finding: Finding, arms: Arms, contrasts: Sequence[Contrast]) -> Finding:
    """The finding with the footage's arms in the place of its own, under a name of its own: its evidence and its table
    stand beside those on generated videos and on other data.
    """

    def of_seed(lab: Lab) -> Mapping[str, Job]:
        return arms(FootageLab(lab=lab, footage=footage))

    videos = sum(footage.train[c] for c in footage.classes)
    return dataclasses.replace(
        finding,
        name=f"{finding.name}{OWN}{footage.name}",
        arms=of_seed,
        contrasts=tuple(contrasts),
        headline=(),
        baseline="scratch",
        chance=100 / footage.target_classes,
        tuning="",
        precision=None,
        notes="",
        data=f"{footage.path.name}: {videos:,} training videos of {len(footage.classes)} classes, of which "
        f"{footage.source_classes} are pre-trained on and {footage.target_classes} are the target",
    )


def _log_linear(f: FootageLab) -> dict[str, Job]:
    count = f.footage.least_source
    found = {"scratch": f.scratch()}
    for fraction in FRACTIONS:
        data = f.lab.rows(
            f.source, at_most=max(2, round(fraction * count)), title=f"{_percent(fraction)} of the videos"
        )
        network = f.pretrained(_percent(fraction), data)
        found[f"fc-only {_percent(fraction)}"] = f.probe(network)
        found[f"full-ft {_percent(fraction)}"] = f.finetuned(f"full-ft of {_percent(fraction)}", network / LAST)
    return found


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g}%"


def _sizes(kind: str) -> dict[str, float]:
    return slope({f"{kind} {_percent(x)}": math.log10(x) for x in FRACTIONS})


def _tail_preserving(f: FootageLab) -> dict[str, Job]:
    found = {"scratch": f.scratch()}
    for budget in BUDGETS:
        videos = max(f.footage.source_classes, round(budget * f.footage.least_source))
        for kind in ("tail-preserving", "random"):
            settings = {"manifest": f.source / MANIFEST, "kind": kind, "videos": videos, "seed": f.lab.seed}
            part = Job("lab.tasks.subset", settings, title=f"{kind} subset: {videos} videos")
            found[f"{kind} {_percent(budget)}"] = f.probe(f.pretrained(f"{kind} {_percent(budget)}", part, flip=False))
    return found


def _capacity(f: FootageLab) -> dict[str, Job]:
    found: dict[str, Job] = {}
    for depth, network in NETWORKS.items():
        deep = dataclasses.replace(f, lab=dataclasses.replace(f.lab, architecture=network))
        start = deep.pretrained(f"all videos, {depth} layers", deep.source)
        found[_depth("scratch", depth)] = deep.scratch()
        found[f"full-ft {depth}"] = deep.finetuned(f"full-ft of {depth} layers", start / LAST)
    return found


def _depth(kind: str, depth: int) -> str:
    """The baseline is the one without a number."""
    return kind if kind == "scratch" and depth == min(NETWORKS) else f"{kind} {depth}"


def _durations(f: FootageLab) -> dict[str, Job]:
    sets: dict[str, Job] = {}
    for name, kind in (("short-N", "short"), ("long-N", "long"), ("long-center-N", "long-center")):
        sets[name] = _duration_set(f, kind)
    sets["long of equal minutes"] = _duration_set(f, "long", as_long_as=sets["short-N"] / MANIFEST)
    return {"scratch": f.scratch()} | {name: f.probe(f.pretrained(name, data)) for name, data in sets.items()}


def _duration_set(f: FootageLab, kind: str, **more: Any) -> Job:
    bands = {**dataclasses.asdict(Bands()), "short": list(Bands().short), "long": list(Bands().long)}
    settings = {"manifest": f.source / MANIFEST, "kind": kind, "bands": bands, "seed": f.lab.seed, **more}
    return Job("lab.tasks_durations.duration_set", settings, title=f"set of {kind} videos")


def _clips_or_frames(f: FootageLab) -> dict[str, Job]:
    frames = f.pretrained("frames", f.source, **R2D_10)
    return {
        "scratch": f.scratch(),
        "frames, inflated": f.finetuned("full-ft of inflated frames", frames / LAST, inflate=True),
        "clips": f.finetuned("full-ft of clips", f.pretrained("all videos", f.source) / LAST),
    }


def _salient_clips(f: FootageLab) -> dict[str, Job]:
    network = f.tuned("full-ft of all videos", f.pretrained("all videos", f.source) / LAST)
    found = {"scratch": f.scratch()}
    for mode, name in (("uniform", "uniform"), ("salient", "by motion energy")):
        for count in (3, 10):
            clips = f.clips(f.tests, mode=mode, num_clips=count)
            found[f"{count} {name}"] = f.lab.score(network / LAST, clips)
    return found


def _mega_scale(f: FootageLab) -> dict[str, Job]:
    found = {"scratch": f.scratch()}
    for kind in ("classes", "instances"):
        for part in PARTS[:-1]:
            settings = {"manifest": f.source / MANIFEST, "kind": kind, "fraction": part, "seed": f.lab.seed}
            name = f"{_percent(part)} {kind}"
            data = Job("lab.tasks.subset", settings, title=f"{_percent(part)} of {kind}")
            network = f.pretrained(name, data, flip=False)  # the rule that decides it looks at labels
            found[name] = f.finetuned(f"after {name}", network / LAST)
    found["all"] = f.finetuned("after all videos", f.pretrained("all videos", f.source, flip=False) / LAST)
    return found


def _parts(kind: str) -> dict[str, float]:
    names = [f"{_percent(part)} {kind}" for part in PARTS[:-1]] + ["all"]
    return slope({name: 4 * part for name, part in zip(names, PARTS, strict=True)})


def _balanced(footage: Footage) -> str:
    counts = [footage.train[c] for c in footage.classes]
    if max(counts) >= LONG_TAIL * min(counts):
        return ""
    return (
        f"classes have {min(counts)} to {max(counts)} training videos, which is no long tail; the largest must have "
        f"{LONG_TAIL:g} times the smallest"
    )


def _few_classes(footage: Footage) -> str:
    needed = 2 * round(2 / PARTS[0])  # of which a quarter of a half is two classes
    if len(footage.classes) >= needed:
        return ""
    return f"has {len(footage.classes)} classes; {needed} are needed for a quarter of those to pre-train on to be two"


def _of_equal_length(footage: Footage) -> str:
    bands = Bands()
    seconds = footage.durations.seconds.values()
    short, long = (sum(low <= s <= high for s in seconds) for low, high in (bands.short, bands.long))
    if min(short, long) >= LEAST_IN_A_BAND:
        return ""
    return (
        f"{short} training videos are of {bands.short[0]:g} to {bands.short[1]:g} s and {long} of {bands.long[0]:g} to "
        f"{bands.long[1]:g} s; {LEAST_IN_A_BAND} of each are needed"
    )


def _contrasts(finding: str, *names: str) -> tuple[Contrast, ...]:
    """Contrasts of the finding on generated videos that are the same here, by name."""
    (found,) = [f for f in all_findings() if f.name == finding]
    return tuple(c for c in found.contrasts if c.name in names)


_FEW, _ALL = _percent(FRACTIONS[0]), _percent(FRACTIONS[-1])
_DEEP = max(NETWORKS)
_MADE: dict[str, tuple[Arms, Sequence[Contrast]]] = {
    "log-linear": (
        _log_linear,
        (
            Contrast(name="fc-only: slope", weights=_sizes("fc-only"), unit="points per tenfold", paper="rises"),
            Contrast(name="full-ft: slope", weights=_sizes("full-ft"), unit="points per tenfold", paper="rises"),
            Contrast(
                name="full-ft - fc-only: closes",
                weights={
                    f"full-ft {_FEW}": 1.0,
                    f"fc-only {_FEW}": -1.0,
                    f"full-ft {_ALL}": -1.0,
                    f"fc-only {_ALL}": 1,
                },
                paper="full-ft 74.8, fc-only 73.0 at 65 million videos",
            ),
            Contrast(
                name="full-ft of all videos - scratch",
                weights=difference(f"full-ft {_ALL}", "scratch"),
                paper="74.8 - 67.0 = 7.8",
            ),
        ),
    ),
    "tail-preserving": (
        _tail_preserving,
        tuple(
            Contrast(
                name=f"fc-only: tail-preserving - random, {_percent(b)} of the videos",
                weights=difference(f"tail-preserving {_percent(b)}", f"random {_percent(b)}"),
                paper="better",
            )
            for b in BUDGETS
        ),
    ),
    "capacity": (
        _capacity,
        (
            Contrast(
                name=f"full-ft: {_DEEP} - {min(NETWORKS)} layers",
                weights=difference(f"full-ft {_DEEP}", f"full-ft {min(NETWORKS)}"),
                paper="152 - 18 layers: 79.9 - 76.0 = 3.9",
            ),
            Contrast(
                name=f"scratch: {_DEEP} - {min(NETWORKS)} layers",
                weights=difference(f"scratch {_DEEP}", "scratch"),
                paper="152 - 18 layers: 72.0 - 69.3 = 2.7",
            ),
        ),
    ),
    "durations": (
        _durations,
        _contrasts(
            "durations",
            "fixed number: long-N - short-N",
            "fixed time: short-N - long of equal minutes",
            "localised: short-N - long-center-N",
            "long-center-N - long of equal minutes",
        ),
    ),
    "clips-or-frames": (
        _clips_or_frames,
        _contrasts("clips-or-frames", "clips - frames, inflated", "frames, inflated - scratch", "clips - scratch"),
    ),
    "salient-clips": (
        _salient_clips,
        tuple(
            Contrast(name=f"{name} - 10 uniform", weights=difference(name, "10 uniform"), paper=paper)
            for name, paper in (
                ("10 by motion energy", "82.8 - 81.3 = 1.5, with a trained sampler"),
                ("3 by motion energy", "not in the paper"),
            )
        ),
    ),
    "mega-scale": (
        _mega_scale,
        (
            Contrast(name="instances: slope", weights=_parts("instances"), unit="points per quarter", paper="rises"),
            Contrast(name="classes: slope", weights=_parts("classes"), unit="points per quarter", paper="rises"),
            Contrast(name="all - scratch", weights=difference("all", "scratch"), paper="pre-trained wins"),
        ),
    ),
}
