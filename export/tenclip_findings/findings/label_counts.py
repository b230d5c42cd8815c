"""More labels help up to several times the target's, and fewer than the target's hurt (IG-65M, 4.2.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tenclip_findings.finding import Contrast, Finding, difference, slope
from tenclip_findings.lab.arms import LAST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.sets import TARGET_CLIPS, Target, scratch, target_of
from tenclip_training.curation.budgets import ranked
from tenclip_training.synth import CLASSES, NOUNS
from tenclip_training.synth.nouns import pair_name

VIDEOS, CLIPS = 2000, 12_000
PAIRS = (24, 48, 96, 192)  # 1.5 to 12 times the target's classes; 675 to 10,653 in the paper are 1.7 to 27 times
VERBS = (2, 4, 8, 16)  # of the target's; 20 to 359 of 400 in the paper
HELD_OUT: dict[str, Any] = {"num_classes": 16, "overlap": 0.0, "held_out_nouns": 4}
TARGET_VIDEOS = 640


def arms(lab: Lab) -> Mapping[str, Job]:
    """Nested sets of labels, chosen at random, with 2,000 videos in all; fc-only for each, full-ft for the ends."""
    target = target_of(lab, total=TARGET_VIDEOS, noun_set="held-out", **HELD_OUT)
    every_pair = [pair_name(verb, noun) for verb in CLASSES for noun in NOUNS[:12]]
    found = {"scratch": scratch(lab, target)}
    found |= _arms(lab, target, "pairs", ranked(every_pair, lab.seed), PAIRS)
    found |= _arms(lab, target, "verbs", ranked(CLASSES, lab.seed), VERBS)
    return found


def _arms(lab: Lab, target: Target, kind: str, labels: Sequence[str], counts: Sequence[int]) -> dict[str, Job]:
    found: dict[str, Job] = {}
    tiers = _tiers(lab, kind, labels, counts)
    for place, count in enumerate(counts):
        whole = lab.rows(*tiers[: place + 1], title=f"videos of {count} {kind}")
        data = lab.subset("tail-preserving", whole, videos=VIDEOS, least=count)
        network = lab.train(f"on {count} {kind}", data, clips=CLIPS, flip=False)
        found[f"fc-only {count} {kind}"] = lab.probe(network / LAST, target.clips, target.test)
        if count in (counts[0], counts[-1]):
            found[f"full-ft {count} {kind}"] = lab.finetuned(
                f"full-ft of {count} {kind}", network / LAST, target.videos, target.test, clips=TARGET_CLIPS
            )
    return found


def _tiers(lab: Lab, kind: str, labels: Sequence[str], counts: Sequence[int]) -> list[Job]:
    """Videos of the labels that each count adds, as many of each as an equal share of all videos is at that count."""
    tiers = []
    for before, count in pairwise((0, *counts)):
        added = sorted(labels[before:count])
        config: dict[str, Any] = {"pairs": added, "label": "pair"} if kind == "pairs" else {"classes": added}
        total = len(added) * math.ceil(VIDEOS / count)
        tiers.append(lab.videos(f"{kind} {before} to {count}", total=total, least=1, **HELD_OUT | config))
    return tiers


FINDING = Finding(
    number=4,
    name="label-counts",
    question="Do more pre-training labels help until they saturate, and do fewer than the target's hurt?",
    paper="IG-65M, 4.2.2 and figure 4",
    data="2,000 videos of 24 to 192 pairs, and of 2 to 16 verbs of the target's; target: 16 verbs, 40 videos each, "
    "with other nouns",
    arms=arms,
    contrasts=(
        Contrast(
            name=f"fc-only: {PAIRS[2]} - {PAIRS[0]} pairs",
            weights=difference(f"fc-only {PAIRS[2]} pairs", f"fc-only {PAIRS[0]} pairs"),
            paper="about +9, up to 2,700 labels (6.8 times the target's)",
        ),
        Contrast(
            name=f"fc-only: {PAIRS[3]} - {PAIRS[2]} pairs",
            weights=difference(f"fc-only {PAIRS[3]} pairs", f"fc-only {PAIRS[2]} pairs"),
            expected="none",
            paper="flat from 2,700 labels on",
        ),
        Contrast(
            name=f"full-ft: {PAIRS[3]} - {PAIRS[0]} pairs",
            weights=difference(f"full-ft {PAIRS[3]} pairs", f"full-ft {PAIRS[0]} pairs"),
            paper="about +1",
            below_detection=True,
        ),
        Contrast(
            name="fc-only: slope over verbs of the target's",
            weights=slope({f"fc-only {count} verbs": math.log2(count) for count in VERBS}),
            unit="points per doubling",
            paper="log-linear",
        ),
        Contrast(
            name=f"full-ft: {VERBS[3]} - {VERBS[0]} verbs",
            weights=difference(f"full-ft {VERBS[3]} verbs", f"full-ft {VERBS[0]} verbs"),
            paper="a significant drop with few labels",
        ),
    ),
    baseline="scratch",
    chance=100 / 16,
    seeds=3,
    notes="Nouns tell nothing of verbs here (overlap 0), so that sets of few verbs do not differ in it. As in the "
    "paper, pairs and verbs cannot be compared with one another.",
)
