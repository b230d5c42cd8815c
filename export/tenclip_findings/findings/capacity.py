"""Deeper networks gain more from pre-training, with saturation (IG-65M, 4.1.2 and table 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tenclip_findings.finding import Contrast, Finding, difference
from tenclip_findings.lab.arms import LAST, R3D, R3D_10, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.sets import TARGET_CLIPS, WEAK_SIZES, on_weakly_labelled, scratch, verbs_target

NETWORKS: dict[int, tuple[str, dict[str, Any]]] = {
    10: R3D_10,
    18: ("resnets3d_r3d_18", R3D),
    34: ("resnets3d_r3d_34", R3D),
}
LEAST, MIDDLE, MOST = NETWORKS


def arms(lab: Lab) -> Mapping[str, Job]:
    """Each depth from scratch, and fine-tuned after pre-training on all weakly labelled videos; equal clips."""
    target = verbs_target(lab)
    found: dict[str, Job] = {}
    for depth, network in NETWORKS.items():
        deep = dataclasses.replace(lab, architecture=network)
        start = on_weakly_labelled(deep, max(WEAK_SIZES), of=f"{depth} layers")
        found[f"scratch {depth}"] = scratch(deep, target)
        found[f"full-ft {depth}"] = deep.finetuned(
            f"full-ft of {depth} layers", start / LAST, target.videos, target.test, clips=TARGET_CLIPS
        )
    return found


def _gain(kind: str, sign: float = 1.0) -> dict[str, float]:
    return {f"{kind} {MOST}": sign, f"{kind} {LEAST}": -sign}


FINDING = Finding(
    number=3,
    name="capacity",
    question="Does more depth help, more so after pre-training, and by ever less?",
    paper="IG-65M, 4.1.2 and table 2",
    data="5,000 weakly labelled videos of 8 verbs, 20% wrong; target: the 8 verbs with other nouns, 320 videos; "
    "R3D of 10, 18 and 34 layers, 16 planes wide",
    arms=arms,
    contrasts=(
        Contrast(
            name=f"full-ft: {MOST} - {LEAST} layers",
            weights=_gain("full-ft"),
            paper="152 - 18 layers: 79.9 - 76.0 = 3.9",
        ),
        Contrast(
            name=f"scratch: {MOST} - {LEAST} layers",
            weights=_gain("scratch"),
            paper="152 - 18 layers: 72.0 - 69.3 = 2.7",
        ),
        Contrast(
            name="gain with depth: full-ft - scratch",
            weights=_gain("full-ft") | _gain("scratch", -1.0),
            paper="3.9 - 2.7 = 1.2",
            below_detection=True,
        ),
        Contrast(
            name=f"saturation: gain up to {MIDDLE} layers - gain from there",
            weights={f"full-ft {MIDDLE}": 2.0, f"full-ft {LEAST}": -1.0, f"full-ft {MOST}": -1.0},
            paper="18 to 34 layers 2.2, 101 to 152 layers 0.8: 1.4 less",
            below_detection=True,
        ),
        *(
            Contrast(
                name=f"pre-training: {depth} layers",
                weights=difference(f"full-ft {depth}", f"scratch {depth}"),
                paper="6.7 (18 layers) to 8.6 (34 layers)",
            )
            for depth in NETWORKS
        ),
    ),
    baseline="scratch 10",
    chance=100 / 8,
    notes="All depths see as many training clips, so deeper networks take more time: R(2+1)D is the paper's, which is "
    "four times slower here. The 10 layers are those of finding 1.",
)
