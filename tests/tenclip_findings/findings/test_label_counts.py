"""Sets of few and of many labels: nested, of equally many videos, evenly shared out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest

from tenclip_findings.findings.label_counts import OTHER, OWN, VIDEOS, arms
from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import Job, in_order
from tenclip_findings.lab.tasks import synth_config
from tenclip_training.curation.budgets import capped_counts
from tenclip_training.synth.counts import class_counts


def videos_by_label(arm: Job) -> dict[str, int]:
    """What pre-training of an arm draws from: the counts of its tiers, cut to the set's size."""
    (subset,) = [j for j in in_order([arm]) if j.kind == "lab.tasks.subset"]
    counts: dict[str, int] = {}
    for job in in_order([subset]):
        if job.kind == "lab.tasks.synth":
            made = {c: n["train"] for c, n in class_counts(synth_config(job.settings["config"])).items()}
            assert not counts.keys() & made.keys()
            counts |= made
    return capped_counts(counts, subset.settings["videos"])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("kind", "counts"), [("other", OTHER), ("own", OWN)])
def test_labels_are_nested_and_share_the_same_number_of_videos(kind: str, counts: Sequence[int], seed: int) -> None:
    found = arms(Lab(seed=seed))
    sets = [videos_by_label(found[f"fc-only, {count} {kind} labels"]) for count in counts]
    assert [len(s) for s in sets] == list(counts)
    assert all(set(few) < set(more) for few, more in pairwise(sets))
    assert [sum(s.values()) for s in sets] == [VIDEOS] * len(counts)
    for count, videos in zip(counts, sets, strict=True):
        assert max(videos.values()) - min(videos.values()) <= 1
        assert max(videos.values()) == math.ceil(VIDEOS / count)


def test_another_seed_chooses_other_labels() -> None:
    few = [set(videos_by_label(arms(Lab(seed=seed))[f"fc-only, {OTHER[0]} other labels"])) for seed in (1, 2)]
    assert few[0] != few[1]


@pytest.mark.parametrize("scale", [1 / 3, 0.01])
def test_no_label_is_lost_at_a_smaller_scale(scale: float) -> None:
    found = arms(Lab(seed=1, scale=scale))
    for count in OTHER:
        videos = videos_by_label(found[f"fc-only, {count} other labels"])
        assert len(videos) == count
        assert min(videos.values()) >= 1


def test_own_labels_are_the_targets_and_other_labels_are_not() -> None:
    found = arms(Lab(seed=1))
    (target,) = [
        set(synth_config(j.settings["config"]).class_names)
        for j in in_order([found["scratch"]])
        if j.kind == "lab.tasks.synth" and j.settings["config"]["seed"] == 77
    ]
    assert set(videos_by_label(found["fc-only, 16 own labels"])) == target
    other = set(videos_by_label(found[f"fc-only, {OTHER[-1]} other labels"]))
    assert len(other) == OTHER[-1] == 144
    assert not other & target


@pytest.mark.parametrize("seed", range(1, 9))
def test_two_labels_differ_in_verb_and_noun(seed: int) -> None:
    first, second = videos_by_label(arms(Lab(seed=seed))[f"fc-only, {OWN[0]} own labels"])
    assert not {*first.rsplit("-", 1)} & {*second.rsplit("-", 1)}
