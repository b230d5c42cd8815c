"""Accuracy rises about log-linearly with the number of pre-training videos (IG-65M, 4.1.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tenclip_findings.finding import Contrast, Finding, difference, slope
from tenclip_findings.lab.arms import LAST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.sets import TARGET_CLIPS, on_weakly_labelled, scratch, verbs_target
from tenclip_findings.lab.sets import WEAK_SIZES as SIZES


def arms(lab: Lab) -> Mapping[str, Job]:
    """Five pre-trainings of equal length, on nested sets of videos with 20% wrong labels; fc-only and full-ft on the
    verbs with nouns that pre-training has not shown.
    """
    target = verbs_target(lab)
    found: dict[str, Job] = {"scratch": scratch(lab, target)}
    for size in SIZES:
        network = on_weakly_labelled(lab, size)
        found[f"fc-only {size}"] = lab.probe(network / LAST, target.clips, target.test)
        found[f"full-ft {size}"] = lab.finetuned(
            f"full-ft of {size}", network / LAST, target.videos, target.test, clips=TARGET_CLIPS
        )
    return found


def _over_sizes(kind: str) -> dict[str, float]:
    return slope({f"{kind} {size}": math.log10(size) for size in SIZES})


def _gap(size: int, sign: float) -> dict[str, float]:
    return {f"full-ft {size}": sign, f"fc-only {size}": -sign}


FINDING = Finding(
    number=1,
    name="log-linear",
    question="Does accuracy rise with the logarithm of the pre-training videos, and does fc-only close on full-ft?",
    paper="IG-65M, 4.1.1 and figure 1",
    data="weakly labelled verbs, 8, 20% wrong, 50 to 5,000 videos; target: the 8 verbs with other nouns, 320 videos",
    arms=arms,
    contrasts=(
        Contrast(name="fc-only: slope", weights=_over_sizes("fc-only"), unit="points per tenfold", paper="rises"),
        Contrast(name="full-ft: slope", weights=_over_sizes("full-ft"), unit="points per tenfold", paper="rises"),
        Contrast(
            name="full-ft - fc-only: closes",
            weights=_gap(SIZES[0], 1.0) | _gap(SIZES[-1], -1.0),
            paper="full-ft 74.8, fc-only 73.0 at 65 million videos",
        ),
        Contrast(
            name="full-ft of most videos - scratch",
            weights=difference(f"full-ft {SIZES[-1]}", "scratch"),
            paper="74.8 - 67.0 = 7.8",
        ),
    ),
    headline=(
        Contrast(
            name="full-ft of most videos - scratch",
            weights=difference(f"full-ft {SIZES[-1]}", "scratch"),
            paper="74.8 - 67.0 = 7.8",
        ),
    ),
    baseline="scratch",
    chance=100 / 8,
    quick=True,
)
