"""The ten clips that matter beat ten uniform ones, and fewer are enough (IG-65M, 4.4 and table 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenclip_findings.finding import Contrast, Finding, difference
from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.salience.config import SeedConfig

# Of a seed on one thread: videos, the heavy network, three samplers, all windows of all videos.
SEED_SECONDS = 1200.0
TRAINED, MOTION_ENERGY = "trained", "motion energy"


def arms(lab: Lab) -> Mapping[str, Job]:
    """Ways to choose clips of untrimmed videos, of one seed of `make salience`. At a scale below 1 it is the tiny seed
    of its `--quick`, which shows nothing.
    """
    quick = _is_quick(lab.scale)
    run = Job(
        "lab.tasks_salience.seed_run",
        {"seed": lab.seed, "quick": quick},
        title="a seed of the salience experiment",
        seconds=60.0 if quick else SEED_SECONDS,
    )

    def arm(kind: str, **settings: Any) -> Job:
        return Job("lab.tasks_salience.arm", {"run": run / "", "kind": kind, **settings}, title=f"clips: {kind}")

    return {
        "10 uniform": arm("uniform", num_clips=10),
        "all windows": arm("dense"),
        "10 salient": arm("salient", num_clips=10, scorer=TRAINED),
        "3 salient": arm("salient", num_clips=3, scorer=TRAINED),
        "10 by motion energy": arm("salient", num_clips=10, scorer=MOTION_ENERGY),
        "3 by motion energy": arm("salient", num_clips=3, scorer=MOTION_ENERGY),
    }


def _is_quick(scale: float) -> bool:
    return scale < 1


def precision(scale: float) -> str | None:
    """Of the heavy network."""
    values = SeedConfig(seed=1, quick=_is_quick(scale)).training(Path(), Path()).to_dict()
    return None if values["precision"] == "auto" else str(values["precision"])


FINDING = Finding(
    number=7,
    name="salient-clips",
    question="Are ten salient clips better than ten uniform ones, and are fewer as good?",
    paper="IG-65M, 4.4 and table 5",
    data="192 untrimmed videos of 9 to 12 s a seed, of which the action fills a tenth to a fifth; samplers are taught "
    "by the network, which has learned from trimmed videos",
    arms=arms,
    contrasts=(
        Contrast(
            name="10 salient - 10 uniform",
            weights=difference("10 salient", "10 uniform"),
            paper="82.8 - 81.3 = 1.5 (trimmed videos)",
        ),
        Contrast(
            name="10 salient - all windows",
            weights=difference("10 salient", "all windows"),
            paper="not in the paper",
        ),
        Contrast(
            name="3 salient - 10 uniform, at a third of the network's operations",
            weights=difference("3 salient", "10 uniform"),
            paper="not in the paper",
        ),
        Contrast(
            name="10 by motion energy - 10 uniform",
            weights=difference("10 by motion energy", "10 uniform"),
            paper="not in the paper",
        ),
        Contrast(
            name="3 by motion energy - 10 uniform, at a third of the network's operations",
            weights=difference("3 by motion energy", "10 uniform"),
            paper="not in the paper",
        ),
    ),
    baseline="10 uniform",
    chance=100 / 8,
    precision=precision,
    tuning="python -m tenclip_findings.salience --tuning",
    notes="`10 salient` are those of the first trained sampler. Each seed has test videos of its own. What it costs to "
    "choose clips, the other samplers and adaptive prediction are in [the proof](salience-proof.md).",
)
