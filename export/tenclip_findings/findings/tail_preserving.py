"""Sub-sampling that keeps tail classes whole beats random sub-sampling of equal size (IG-65M, 4.1.1)."""

from __future__ import annotations

from collections.abc import Mapping

from tenclip_findings.finding import Contrast, Finding, difference
from tenclip_findings.lab.arms import LAST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.sets import BRIEF, SET_CLIPS, pairs_target, scratch
from tenclip_training.curation.budgets import ranked
from tenclip_training.synth import CLASSES, NOUNS

BUDGETS = (300, 900, 2700)
KINDS = ("tail-preserving", "random")
VERBS, KEPT_NOUNS = CLASSES[:4], NOUNS[:8]


def arms(lab: Lab) -> Mapping[str, Job]:
    """Pre-training on subsets of one long-tailed set, both ways, then fc-only on the same verbs with other nouns. Which
    classes are in the tail follows from the seed.
    """
    pool = lab.videos(
        "long-tailed pairs",
        total=6000,
        zipf=1.2,
        classes=ranked(VERBS, lab.seed),
        nouns=ranked(KEPT_NOUNS, lab.seed),
        label="pair",
        **BRIEF,
    )
    target = pairs_target(lab)
    found = {"scratch": scratch(lab, target)}
    for budget in BUDGETS:
        for kind in KINDS:
            part = lab.subset(kind, pool, videos=budget, least=16)
            network = lab.train(f"on {budget} videos, {kind}", part, clips=SET_CLIPS, flip=False)
            found[f"{kind} {budget}"] = lab.probe(network / LAST, target.clips, target.test)
    return found


def _mean_difference() -> dict[str, float]:
    share = 1 / len(BUDGETS)
    return {f"{kind} {b}": sign * share for kind, sign in zip(KINDS, (1, -1), strict=True) for b in BUDGETS}


FINDING = Finding(
    number=2,
    name="tail-preserving",
    question="Is a subset that keeps tail classes whole better than a random one of equal size?",
    paper="IG-65M, 4.1.1 and figure 1 (c)",
    data="32 pairs of 4 verbs and 8 nouns, Zipf exponent 1.2, subsets of 300, 900 and 2,700 of 6,000 videos; target: "
    "16 pairs of these verbs and 4 other nouns, 320 videos",
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
    chance=100 / 16,
    notes="Verbs are equally frequent in the target, and so are nouns. Its nouns are others than those of "
    "pre-training, where IG-Kinetics has the classes of Kinetics. In pre-training nouns tell no verbs (overlap 0).",
)
