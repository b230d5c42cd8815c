"""Every finding, as far as can be told without doing it: arms, contrasts, seeds and clips."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from tenclip_findings.catalog import all_findings
from tenclip_findings.finding import Finding
from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import Job, in_order
from tenclip_findings.lab.sets import TEST_SEED
from tenclip_findings.lab.tasks import synth_config

every = pytest.mark.parametrize("finding", all_findings(), ids=lambda f: f.name)
# Those whose videos, networks and tests are jobs of the laboratory, not of an experiment of its own.
LAB = [f for f in all_findings() if f.name != "salient-clips"]
of_the_lab = pytest.mark.parametrize("finding", LAB, ids=lambda f: f.name)
SCALES = (1.0, 1 / 4, 0.01)


@cache
def arms_of(name: str, seed: int, scale: float = 1.0) -> Mapping[str, Job]:
    (finding,) = [f for f in all_findings() if f.name == name]
    return finding.arms(Lab(seed=seed, scale=scale))


def synth_jobs(job: Job) -> list[dict[str, Any]]:
    """Configurations of the videos that a job rests on."""
    return [j.settings["config"] for j in in_order([job]) if j.kind == "lab.tasks.synth"]


def chain(job: Job) -> tuple[int, ...]:
    """Clips of the trainings that an arm is made of, each after what it starts from."""
    return tuple(j.clips for j in in_order([job]) if j.clips)


@every
def test_arms_are_the_same_for_the_same_seed_and_others_for_another(finding: Finding) -> None:
    first, again = finding.arms(Lab(seed=1)), finding.arms(Lab(seed=1))
    other = arms_of(finding.name, 2)
    assert list(first) == list(again) == list(other)
    assert [j.key for j in first.values()] == [j.key for j in again.values()]
    assert all(first[name].key != other[name].key for name in first)
    assert len({j.key for j in first.values()}) == len(first), "two arms are the same work"
    json.dumps([j.key for j in in_order(first.values())])


@every
def test_contrasts_and_the_baseline_are_of_arms_that_are_there(finding: Finding) -> None:
    names = set(arms_of(finding.name, 1))
    assert finding.baseline in names
    for contrast in finding.contrasts:
        assert set(contrast.weights) <= names, contrast.name
        assert contrast.paper, f"{contrast.name}: what the paper has"
        assert sum(contrast.weights.values()) == pytest.approx(0), f"{contrast.name}: equal arms must have no effect"
    assert len({c.name for c in finding.contrasts}) == len(finding.contrasts)


@of_the_lab
def test_no_training_set_has_the_seed_of_the_test_videos(finding: Finding) -> None:
    for seed in (1, 5, 99):
        for arm in arms_of(finding.name, seed).values():
            tested = {json.dumps(c, sort_keys=True) for c in synth_jobs(_test_clips(arm))}
            (test,) = [json.loads(c) for c in tested]
            assert test["seed"] == TEST_SEED
            others = [c for c in synth_jobs(arm) if json.dumps(c, sort_keys=True) not in tested]
            assert others, "an arm that has learned nothing"
            assert all(c["seed"] // 1000 == seed for c in others)


@of_the_lab
def test_all_arms_of_all_seeds_have_the_same_test_videos(finding: Finding) -> None:
    tests = {_test_clips(arm).key for seed in (1, 2) for arm in arms_of(finding.name, seed).values()}
    assert len(tests) == 1
    (config, *_) = synth_jobs(_test_clips(arms_of(finding.name, 1)[finding.baseline]))
    assert config["total"] == 1600


def _test_clips(arm: Job) -> Job:
    (job,) = [
        need for need in arm.needs if need.kind == "lab.tasks.clips" and need.needs[0].settings["config"]["seed"] == 77
    ]
    return job


def target_clips(job: Job) -> int:
    """Clips of the data that the last training of an arm is of, those of auxiliary sources left out."""
    values = [j for j in in_order([job]) if j.clips][-1].settings["values"]
    draws, epochs = values["draws"], values["epochs"]
    assert isinstance(draws, int)
    assert isinstance(epochs, int)
    return draws * epochs


@of_the_lab
@pytest.mark.parametrize("scale", SCALES)
def test_the_networks_that_are_compared_were_trained_on_equally_many_clips(finding: Finding, scale: float) -> None:
    """fc-only arms of a contrast among each other, and those whose whole network has learned the target."""
    arms = arms_of(finding.name, 1, scale)
    for contrast in finding.contrasts:
        last = defaultdict(set)
        for name in contrast.weights:
            last[arms[name].kind].add(target_clips(arms[name]))
        assert all(len(clips) == 1 for clips in last.values()), (contrast.name, dict(last))


@pytest.mark.parametrize("finding", [f for f in LAB if f.paper.startswith("IG-65M")], ids=lambda f: f.name)
@pytest.mark.parametrize("scale", SCALES)
def test_pre_trainings_that_are_compared_were_equally_long(finding: Finding, scale: float) -> None:
    """Those of fc-only arms of a contrast among each other, and of full-ft; what is from scratch has had none, and
    networks of frames see other samples than networks of clips. Where the length is the question, it says so.
    """
    arms = arms_of(finding.name, 1, scale)
    for contrast in finding.contrasts:
        if "for longer" in contrast.name:
            continue
        seen = defaultdict(set)
        for name in contrast.weights:
            trained = [j.settings["values"]["num_frames"] for j in in_order([arms[name]]) if j.clips]
            seen[arms[name].kind, tuple(trained)].add(chain(arms[name]))
        assert all(len(chains) == 1 for chains in seen.values()), (contrast.name, dict(seen))


@every
@pytest.mark.parametrize("scale", SCALES)
def test_videos_can_be_made_at_every_scale(finding: Finding, scale: float) -> None:
    for job in in_order(arms_of(finding.name, 1, scale).values()):
        if job.kind == "lab.tasks.synth":
            synth_config(job.settings["config"])
