"""More instances, more classes, merged datasets (mega-scale 3D CNNs, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenclip_findings.finding import Contrast, Finding, difference, slope
from tenclip_findings.lab.arms import LAST, MANIFEST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.sets import BRIEF, TEST_SEED, TEST_VIDEOS
from tenclip_training.synth import NOUNS

PRETRAIN_CLIPS, TARGET_CLIPS = 8_000, 6_000
FRACTIONS = (0.25, 0.5, 1.0)
# Three datasets of other verbs each, with nouns that the target has not: K and M of one style, S of another. All pairs
# are equally many, or which of them are drawn would decide how many videos a part of the classes has.
_SET: dict[str, Any] = {**BRIEF, "label": "pair", "overlap": 0.0, "nouns": NOUNS[:6]}
_VERBS = {
    "K": ("move_left", "move_up", "rotate_clockwise", "zoom_in", "swing_horizontal", "circle_clockwise"),
    "M": ("move_right", "move_down", "zoom_out", "swing_vertical"),
    "S": ("rotate_counterclockwise", "circle_counterclockwise"),
}
_TOTALS, _SITES = {"K": 1600, "M": 1600, "S": 800}, {"K": "", "M": "", "S": "phone"}
_TARGET: dict[str, Any] = {
    "classes": ("shake", "bounce", "pulse", "wobble"),
    "overlap": 0.5,
    "held_out_nouns": 4,
    "noun_set": "held-out",
}


def arms(lab: Lab) -> Mapping[str, Job]:
    """Pre-trainings of equal length on parts of K, on K, M and S and on what they make together, each fine-tuned on
    verbs that none of them has.
    """
    sets = {}
    for place, (name, verbs) in enumerate(_VERBS.items()):
        world = {**_SET, **_site(name), "classes": verbs}
        sets[name] = lab.videos(name, total=_TOTALS[name], seed=1000 * lab.seed + place, least=80, **world)
    target = lab.videos("target", total=640, seed=1000 * lab.seed + 10, **_TARGET)
    test = lab.clips(lab.videos("test", total=TEST_VIDEOS, seed=TEST_SEED, **_TARGET))
    data = {"K": lab.rows(sets["K"], title="K")}
    data["K+M"] = lab.rows(sets["K"], sets["M"], title="K+M")
    data["K+M+S"] = lab.rows(*sets.values(), title="K+M+S")
    for kind in ("classes", "instances"):
        for fraction in FRACTIONS[:-1]:
            settings = {"manifest": sets["K"] / MANIFEST, "kind": kind, "fraction": fraction, "seed": lab.seed}
            data[f"{fraction:.0%} {kind}"] = Job("lab.tasks.subset", settings, title=f"{fraction:.0%} of {kind}")
    found = {"scratch": lab.finetuned("from scratch", None, target, test, clips=TARGET_CLIPS)}
    for name, part in data.items():
        network = lab.train(f"on {name}", part, clips=PRETRAIN_CLIPS, flip=False)  # or labels decide it
        found[name] = lab.finetuned(f"after {name}", network / LAST, target, test, clips=TARGET_CLIPS)
    return found


def _site(name: str) -> dict[str, str]:
    return {"site": _SITES[name]} if _SITES[name] else {}


def _per_quarter(kind: str) -> dict[str, float]:
    names = [f"{fraction:.0%} {kind}" for fraction in FRACTIONS[:-1]] + ["K"]
    return slope({name: 4 * fraction for name, fraction in zip(names, FRACTIONS, strict=True)})


FINDING = Finding(
    number=8,
    name="mega-scale",
    question="Do more instances of the same classes, more classes and merged datasets help?",
    paper="mega-scale 3D CNNs, 4.2 and 4.3, figure 3, tables 2 and 3",
    data="pairs of verbs and nouns at three sites (1,600, 1,600 and 800 videos); target: 4 other "
    "verbs, 160 videos each",
    arms=arms,
    contrasts=(
        Contrast(name="instances: slope", weights=_per_quarter("instances"), unit="points per quarter", paper="rises"),
        Contrast(name="classes: slope", weights=_per_quarter("classes"), unit="points per quarter", paper="rises"),
        Contrast(name="K+M - K (R3D)", weights=difference("K+M", "K"), paper="UCF +0.9, HMDB +3.4, ActivityNet +1.1"),
        Contrast(
            name="K+M+S - K+M (R3D)",
            weights=difference("K+M+S", "K+M"),
            expected="negative",
            paper="-0.6, -1.6, -1.2",
            below_detection=True,
        ),
        Contrast(name="K - scratch", weights=difference("K", "scratch"), paper="pre-trained wins"),
    ),
    headline=(
        Contrast(
            name="K+M - K",
            weights=difference("K+M", "K"),
            expected="negative",
            paper="UCF -2.2, HMDB -3.0, ActivityNet -4.4",
        ),
        Contrast(name="K - scratch", weights=difference("K", "scratch"), paper="pre-trained wins"),
    ),
    baseline="scratch",
    chance=100 / 4,
    quick=True,
    notes="More depth is what finding 3 is about, with 10 to 34 layers. The paper's 18 to 200 are not run here; it has "
    "R3D-200 below R3D-50 on UCF and HMDB after K+M.",
)
