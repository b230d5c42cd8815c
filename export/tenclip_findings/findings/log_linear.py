"""Accuracy rises about log-linearly with the number of pre-training videos (IG-65M, 4.1.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tenclip_findings.finding import Contrast, Finding, difference, slope
from tenclip_findings.lab.arms import LAST, Lab
from tenclip_findings.lab.jobs import Job

SIZES = (100, 300, 1000, 3000, 10_000)
PRETRAIN_CLIPS, TARGET_CLIPS = 24_000, 6_000
WORLD: dict[str, Any] = {"num_classes": 16, "overlap": 0.5, "held_out_nouns": 4}


def arms(lab: Lab) -> Mapping[str, Job]:
    """Five pre-trainings of equal length, on nested sets of videos with 30% wrong labels; fc-only and full-ft on pairs
    of verbs and nouns that pre-training has not shown.
    """
    pool = lab.videos("weakly labelled", total=SIZES[-1], web={"wrong": 0.3, "off_topic": 0.0}, **WORLD)
    target = lab.videos("target", total=320, seed=1000 * lab.seed + 1, label="pair", noun_set="held-out", **_PAIRS)
    test = lab.videos("test", total=1600, seed=77, label="pair", noun_set="held-out", **_PAIRS)
    target_clips, test_clips = lab.clips(target), lab.clips(test)
    found: dict[str, Job] = {"scratch": lab.finetuned("from scratch", None, target, test_clips, clips=TARGET_CLIPS)}
    for size in SIZES:
        part = lab.rows(pool, at_most=lab.count(size, 32), title=f"{size} videos")
        network = lab.train(f"on {size} weakly labelled videos", part, clips=PRETRAIN_CLIPS)
        found[f"fc-only {size}"] = lab.probe(network / LAST, target_clips, test_clips)
        found[f"full-ft {size}"] = lab.finetuned(
            f"full-ft of {size}", network / LAST, target, test_clips, clips=TARGET_CLIPS
        )
    return found


_PAIRS: dict[str, Any] = {"num_classes": 4, "overlap": 0.5, "held_out_nouns": 4}


def _over_sizes(kind: str) -> dict[str, float]:
    return slope({f"{kind} {size}": math.log10(size) for size in SIZES})


def _gap(size: int, sign: float) -> dict[str, float]:
    return {f"full-ft {size}": sign, f"fc-only {size}": -sign}


FINDING = Finding(
    number=1,
    name="log-linear",
    question="Does accuracy rise with the logarithm of the pre-training videos, and does fc-only close on full-ft?",
    paper="IG-65M, 4.1.1 and figure 1",
    data="weakly labelled verbs, 30% wrong, 100 to 10,000 videos; target: 16 pairs, 20 videos each",
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
    baseline="scratch",
    chance=100 / 16,
    quick=True,
)
