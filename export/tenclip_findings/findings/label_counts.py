"""More labels help up to several times the target's, and fewer than the target's hurt (IG-65M, 4.2.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tenclip_findings.finding import Contrast, Finding, difference, slope
from tenclip_findings.lab.arms import LAST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.sets import BRIEF, TARGET_CLIPS, Target, pairs_target, scratch
from tenclip_training.curation.budgets import ranked
from tenclip_training.synth import SynthConfig

VIDEOS = 1008
# Labels of 12 verbs with nouns that the target has not: 1.5 to 9 times its 16. 675 to 10,653 are 1.7 to 27 times 400,
# and more than 2,700, 6.75 times 400, are no better.
OTHER_WORLD: dict[str, Any] = {**BRIEF, "num_classes": 12, "held_out_nouns": 4}
OTHER, OTHER_CLIPS = (24, 48, 108, 144), 8_000
# The target's own labels, as 20 to 359 are of the 400 of Kinetics.
OWN_WORLD: dict[str, Any] = {**BRIEF, "num_classes": 4, "held_out_nouns": 4, "noun_set": "held-out"}
OWN, OWN_CLIPS = (2, 4, 8, 16), 5_000


def arms(lab: Lab) -> Mapping[str, Job]:
    """Nested sets of labels, chosen at random, with 1,008 videos in all; fc-only for each, full-ft for the ends. No
    pre-training mirrors clips: the rule that decides it looks at labels.
    """
    target = pairs_target(lab)
    found = {"scratch": scratch(lab, target)}
    found |= _arms(lab, target, "other", OTHER_WORLD, OTHER, OTHER_CLIPS)
    found |= _arms(lab, target, "own", OWN_WORLD, OWN, OWN_CLIPS)
    return found


def _arms(
    lab: Lab, target: Target, kind: str, world: Mapping[str, Any], counts: Sequence[int], clips: int
) -> dict[str, Job]:
    found: dict[str, Job] = {}
    tiers = _tiers(lab, world, counts)
    for place, count in enumerate(counts):
        name = f"{count} {kind} labels"
        whole = lab.rows(*tiers[: place + 1], title=f"videos of {name}")
        data = lab.subset("tail-preserving", whole, videos=VIDEOS, least=count)
        network = lab.train(f"on {name}", data, clips=clips, flip=False)
        found[f"fc-only, {name}"] = lab.probe(network / LAST, target.clips, target.test)
        if count in (counts[0], counts[-1]):
            found[f"full-ft, {name}"] = lab.finetuned(
                f"full-ft of {name}", network / LAST, target.videos, target.test, clips=TARGET_CLIPS
            )
    return found


def _tiers(lab: Lab, world: Mapping[str, Any], counts: Sequence[int]) -> list[Job]:
    """Videos of the labels that each count adds, as many of each as an equal share of all videos is at that count."""
    labels = _first_two_differ(ranked(SynthConfig(label="pair", **world).class_names, lab.seed))
    tiers = []
    for before, count in pairwise((0, *counts)):
        added = sorted(labels[before:count])
        total = len(added) * math.ceil(VIDEOS / count)
        tiers.append(
            lab.videos(f"labels {before} to {count}", total=total, least=1, label="pair", pairs=added, **world)
        )
    return tiers


def _first_two_differ(labels: Sequence[str]) -> list[str]:
    """The same pairs, in another order where the first two share their verb or their noun: a set of two labels could
    not be learned then in what the other two are told apart by.

    >>> _first_two_differ(["a-x", "a-y", "b-x", "b-y"])
    ['a-x', 'b-y', 'a-y', 'b-x']
    """
    first, *others = labels
    second = next(label for label in others if not set(label.rsplit("-", 1)) & set(first.rsplit("-", 1)))
    return [first, second, *(label for label in others if label != second)]


def _change(kind: str, after: int, before: int, of: str) -> dict[str, float]:
    return difference(f"{kind}, {after} {of} labels", f"{kind}, {before} {of} labels")


FINDING = Finding(
    number=4,
    name="label-counts",
    question="Do more pre-training labels help until they saturate, and do fewer than the target's hurt?",
    paper="IG-65M, 4.2.2 and figure 4",
    data="1,008 videos of 24 to 144 pairs of 12 verbs and 12 nouns, and of 2 to 16 of the target's own pairs; target: "
    "16 pairs of 4 verbs and 4 other nouns, 320 videos",
    arms=arms,
    contrasts=(
        Contrast(
            name=f"fc-only: {OTHER[2]} - {OTHER[0]} other labels",
            weights=_change("fc-only", OTHER[2], OTHER[0], "other"),
            paper="about +9, up to 2,700 labels (6.8 times the target's)",
        ),
        Contrast(
            name=f"fc-only: {OTHER[3]} - {OTHER[2]} other labels",
            weights=_change("fc-only", OTHER[3], OTHER[2], "other"),
            expected="none",
            paper="flat from 2,700 labels on",
        ),
        Contrast(
            name=f"full-ft: {OTHER[3]} - {OTHER[0]} other labels",
            weights=_change("full-ft", OTHER[3], OTHER[0], "other"),
            paper="about +1",
            below_detection=True,
        ),
        Contrast(
            name="fc-only: slope over own labels",
            weights=slope({f"fc-only, {count} own labels": math.log2(count) for count in OWN}),
            unit="points per doubling",
            paper="log-linear",
        ),
        Contrast(
            name=f"full-ft: {OWN[3]} - {OWN[0]} own labels",
            weights=_change("full-ft", OWN[3], OWN[0], "own"),
            paper="a significant drop with few labels",
        ),
    ),
    baseline="scratch",
    chance=100 / 16,
    notes="Pre-training nouns tell nothing of verbs here (overlap 0), so that all labels have equally many videos. As "
    "in the paper, sets of other labels and of the target's own cannot be compared with one another.",
)
