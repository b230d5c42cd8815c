"""Videos that several findings share, so that they are made, decoded and learned from once.

The target of findings 1, 3, 5 and 6 is verbs, that of most others pairs of four verbs and four nouns. Pre-training has
shown the verbs of both, with other nouns. Every seed has training videos of its own; the test videos are the same for
all, of a seed that no training set has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import Job

TEST_SEED: Final = 77
TEST_VIDEOS: Final = 1600

# Videos to pre-train on are as short as clips allow: making and decoding them is a fifth of all work.
BRIEF: Final[dict[str, Any]] = {"seconds": (1.0, 1.6)}
WORLD: Final[dict[str, Any]] = {"num_classes": 16, "overlap": 0.5, "held_out_nouns": 4}
PAIRS: Final[dict[str, Any]] = {
    "num_classes": 4,
    "overlap": 0.5,
    "held_out_nouns": 4,
    "noun_set": "held-out",
    "label": "pair",
}
# What findings 1, 3, 5 and 6 pre-train on: so many verbs and wrong labels as a network learns from in so many clips;
# and their target. Of the pairs, networks learn the verb alone, which names 62% of them: all arms come near that.
WEAK_VERBS: Final = 8
VERBS: Final[dict[str, Any]] = {
    "num_classes": WEAK_VERBS,
    "overlap": 0.5,
    "held_out_nouns": 4,
    "noun_set": "held-out",
    "label": "verb",
}
WEAK_WORLD: Final[dict[str, Any]] = {**WORLD, "num_classes": WEAK_VERBS}
WEAK: Final[dict[str, Any]] = {"wrong": 0.2, "off_topic": 0.0}
WEAK_SIZES: Final = (50, 150, 500, 1500, 5000)
# Training clips of a pre-training on the weakly labelled videos, of one on smaller sets, and of a fine-tuning.
PRETRAIN_CLIPS, SET_CLIPS, TARGET_CLIPS = 15_000, 8_000, 6_000


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target's training videos, and the clips of them and of its test videos that probes and scores read."""

    videos: Job
    clips: Job
    test: Job


def pairs_target(lab: Lab) -> Target:
    """16 pairs of verbs and held-out nouns: 320 videos of the lab's seed, and the test videos."""
    return _target(lab, PAIRS)


def verbs_target(lab: Lab) -> Target:
    """8 verbs with held-out nouns: 320 videos of the lab's seed, and the test videos."""
    return _target(lab, VERBS)


def _target(lab: Lab, world: dict[str, Any]) -> Target:
    videos = lab.videos("target", total=320, seed=1000 * lab.seed + 1, **world)
    test = lab.videos("test", total=TEST_VIDEOS, seed=TEST_SEED, **world)
    return Target(videos=videos, clips=lab.clips(videos), test=lab.clips(test))


def weakly_labelled(lab: Lab, size: int) -> Job:
    """Videos of 8 verbs, 20% of them with a wrong label. size: one of `WEAK_SIZES`, nested."""
    added = []
    for place, (before, whole) in enumerate(pairwise((0, *WEAK_SIZES[: 1 + WEAK_SIZES.index(size)]))):
        seed = 1000 * lab.seed + 20 + place
        name = f"weakly labelled, {before} to {whole}"
        added.append(
            lab.videos(name, total=whole - before, least=WEAK_VERBS, seed=seed, web=WEAK, **BRIEF, **WEAK_WORLD)
        )
    return lab.rows(*added, title=f"{size} weakly labelled videos")


def on_weakly_labelled(lab: Lab, size: int, of: str = "") -> Job:
    """The lab's network, pre-trained on so many of them. of: what the network is, where a finding has several."""
    name = f"{of} on {size} weakly labelled videos".strip()
    return lab.train(name, weakly_labelled(lab, size), clips=PRETRAIN_CLIPS)


def scratch(lab: Lab, target: Target) -> Job:
    """Scores of the lab's network that has seen nothing but the target: the baseline that difficulty is set by."""
    return lab.finetuned("from scratch", None, target.videos, target.test, clips=TARGET_CLIPS)
