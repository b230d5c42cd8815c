"""Videos that several findings share, so that they are made, decoded and learned from once.

The target of most findings: pairs of four verbs and four nouns, of which pre-training has shown the verbs with other
nouns. Every seed has training videos of its own; the test videos are the same for all, of a seed that no training set
has.
"""

from __future__ import annotations

from dataclasses import dataclass
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
WEAK: Final[dict[str, Any]] = {"wrong": 0.3, "off_topic": 0.0}
MOST_WEAK_VIDEOS: Final = 10_000
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
    videos = lab.videos("target", total=320, seed=1000 * lab.seed + 1, **PAIRS)
    test = lab.videos("test", total=TEST_VIDEOS, seed=TEST_SEED, **PAIRS)
    return Target(videos=videos, clips=lab.clips(videos), test=lab.clips(test))


def weakly_labelled(lab: Lab) -> Job:
    """10,000 videos of 16 verbs, 30% of them with a wrong label."""
    return lab.videos("weakly labelled", total=MOST_WEAK_VIDEOS, web=WEAK, **BRIEF, **WORLD)


def some_weakly_labelled(lab: Lab, size: int) -> Job:
    """So many of them, nested."""
    return lab.rows(weakly_labelled(lab), at_most=lab.count(size, 32), title=f"{size} videos")


def on_weakly_labelled(lab: Lab, size: int) -> Job:
    """The lab's network, pre-trained on so many of them."""
    return lab.train(f"on {size} weakly labelled videos", some_weakly_labelled(lab, size), clips=PRETRAIN_CLIPS)


def scratch(lab: Lab, target: Target) -> Job:
    """Scores of the lab's network that has seen nothing but the target: the baseline that difficulty is set by."""
    return lab.finetuned("from scratch", None, target.videos, target.test, clips=TARGET_CLIPS)
