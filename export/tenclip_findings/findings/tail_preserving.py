"""Sub-sampling that keeps tail classes whole beats random sub-sampling of equal size (IG-65M, 4.1.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenclip_findings.finding import Contrast, Finding, difference
from tenclip_findings.lab.arms import LAST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.sets import scratch, target_of
from tenclip_training.curation.budgets import ranked
from tenclip_training.synth import CLASSES, NOUNS

BUDGETS = (300, 900, 2700)
KINDS = ("tail-preserving", "random")
CLIPS = 12_000
VERBS, NAMES = CLASSES[:4], NOUNS[:8]
CLASS_COUNT = len(VERBS) * len(NAMES)


def arms(lab: Lab) -> Mapping[str, Job]:
    """Pre-training on subsets of one long-tailed set, both ways, then fc-only on a balanced set of the same classes:
    IG-Kinetics has the classes of Kinetics. Which classes are in the tail follows from the seed.
    """
    pool = lab.videos(
        "long-tailed pairs",
        total=6000,
        zipf=1.2,
        classes=ranked(VERBS, lab.seed),
        nouns=ranked(NAMES, lab.seed),
        label="pair",
    )
    target = target_of(lab, total=320, least=2 * CLASS_COUNT, **TARGET)  # a probe needs two of each
    found = {"scratch": scratch(lab, target)}
    for budget in BUDGETS:
        for kind in KINDS:
            part = lab.subset(kind, pool, videos=budget, least=16)
            network = lab.train(f"on {budget} videos, {kind}", part, clips=CLIPS)
            found[f"{kind} {budget}"] = lab.probe(network / LAST, target.clips, target.test)
    return found


TARGET: dict[str, Any] = {"classes": list(VERBS), "nouns": list(NAMES), "label": "pair"}


def _mean_difference() -> dict[str, float]:
    share = 1 / len(BUDGETS)
    return {f"{kind} {b}": sign * share for kind, sign in zip(KINDS, (1, -1), strict=True) for b in BUDGETS}


FINDING = Finding(
    number=2,
    name="tail-preserving",
    question="Is a subset that keeps tail classes whole better than a random one of equal size?",
    paper="IG-65M, 4.1.1 and figure 1 (c)",
    data="32 pairs, Zipf exponent 1.2, subsets of 300, 900 and 2,700 of 6,000 videos; target: the same 32 pairs, "
    "balanced, 10 videos each",
    arms=arms,
    contrasts=(
        Contrast(
            name="fc-only: tail-preserving - random, mean of the sizes",
            weights=_mean_difference(),
            paper="better at every size; figures are in the plot only",
        ),
        *(
            Contrast(
                name=f"fc-only: tail-preserving - random, {budget} videos",
                weights=difference(f"tail-preserving {budget}", f"random {budget}"),
                paper="better",
            )
            for budget in BUDGETS
        ),
    ),
    baseline="scratch",
    chance=100 / CLASS_COUNT,
)
