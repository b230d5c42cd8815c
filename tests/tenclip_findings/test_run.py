"""A small finding, done from beginning to end."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import TenclipError
from tenclip_findings.catalog import chosen
from tenclip_findings.evidence import read_evidence
from tenclip_findings.finding import Contrast, Finding, difference
from tenclip_findings.lab.arms import LAST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.pool import Progress, result_of
from tenclip_findings.lab.tasks import FRAMES, frames_of
from tenclip_findings.lab.tasks_salience import SEED
from tenclip_findings.run import (
    RESULTS,
    TUNING_SEED,
    Options,
    before_arm,
    correct_of,
    run_findings,
    seeds_missing,
    tune,
)
from tenclip_findings.salience.results import write_seed
from tests.tenclip_findings.salience.made_up import results

SMALL: dict[str, Any] = {"num_classes": 2, "seconds": [0.5, 0.6], "width": 48, "height": 36, "objects": [1, 1]}


def arms(lab: Lab) -> Mapping[str, Job]:
    videos, test = lab.videos("train", total=32, **SMALL), lab.videos("test", total=32, seed=77, **SMALL)
    network = lab.train("a network", videos, clips=64)
    clips = lab.clips(test)
    return {"network": lab.score(network / LAST, clips), "probe": lab.probe(network / LAST, lab.clips(videos), clips)}


FINDING = Finding(
    number=7,
    name="small",
    question="Does it run?",
    paper="none",
    data="32 videos",
    arms=arms,
    contrasts=(Contrast(name="probe - network", weights=difference("probe", "network"), paper="none"),),
    baseline="network",
    chance=50,
    seeds=1,
)


def test_a_finding_is_done_and_not_done_again(tmp_path: Path) -> None:
    options, seen = Options(out=tmp_path, processes=1, precision="fp32"), list[Progress]()
    (measured,) = run_findings([FINDING], options, on_progress=seen.append)
    assert [p.title.split(":")[0] for p in seen[:2]] == ["train", "test"]
    assert seen[-1].done == seen[-1].total == len(seen)
    found = arms(Lab(seed=1))
    for name, spread in measured.top1.items():
        correct = correct_of(found[name], options.jobs)
        assert correct.shape == (32,)
        assert spread.mean == 100 * np.mean(correct)
    said = measured.evidence.seeds[0].pretrainings
    assert said is not None
    (pretrained,) = said["probe"]
    assert pretrained.title == "train a network"
    assert pretrained.entropy == pytest.approx(np.log(2), abs=1e-4)
    assert 0 <= pretrained.top1 <= 1
    assert pretrained.loss > 0
    assert said["network"] == [], "its training is what is asked about"
    (trained,) = [need for need in found["network"].needs if need.clips]
    own = {"network": (trained, "train_clip_top1"), "probe": (found["probe"], "train_top1")}
    for name, (job, value) in own.items():
        assert measured.fitted[name] == pytest.approx(100 * (result_of(job, options.jobs) or {})[value], abs=0.01)
    results = json.loads((tmp_path / RESULTS).read_text())
    assert results["findings"][0]["contrasts"][0]["effect"]["mean"] == measured.results[0].comparison.mean.mean
    assert not (options.jobs / FRAMES).exists(), "decoded videos are not kept"
    shutil.rmtree(options.jobs)
    told = list[tuple[str, int]]()
    (again,) = run_findings(
        [FINDING], options, on_progress=seen.append, on_evidence=lambda f, seed: told.append((f.name, seed))
    )
    assert seen[-1].done == len(seen), "nothing was left to do"
    assert not options.jobs.exists()
    assert told == []
    assert again.top1 == measured.top1
    assert again.fitted == pytest.approx(measured.fitted, abs=0.01)
    assert again.results[0].comparison == measured.results[0].comparison


def test_what_one_finding_has_found_is_kept_where_another_fails(tmp_path: Path) -> None:
    """Its jobs were done when the run died, so the next one only writes down what they have found."""
    (seed,) = results(seeds=1).seeds
    (tmp_path / "made-up" / "seed").mkdir(parents=True)
    write_seed(tmp_path / "made-up" / "seed" / SEED, seed)

    def of_seed(lab: Lab, run: Path = tmp_path / "made-up") -> Mapping[str, Job]:
        kinds = {"network": 10, "probe": 1}
        return {
            name: Job("lab.tasks_salience.arm", {"run": str(run), "kind": "uniform", "num_clips": clips})
            for name, clips in kinds.items()
        }

    def without_seed(lab: Lab) -> Mapping[str, Job]:
        clips = [job / "" for job in good.arms(lab).values()]  # after these
        return {
            "network": Job("lab.tasks.subset", {"manifest": "none", "kind": "random", "seed": clips}, "no such set")
        }

    good = dataclasses.replace(FINDING, name="good", arms=of_seed)
    bad = dataclasses.replace(FINDING, name="bad", arms=without_seed, contrasts=())
    options, told, seen = Options(out=tmp_path, processes=1), list[tuple[str, int]](), list[Progress]()
    with pytest.raises(TenclipError, match="no such set: none: no such manifest"):
        run_findings([good, bad], options, on_evidence=lambda f, seed: told.append((f.name, seed)))
    assert told == [("good", 1)]
    assert seeds_missing(bad, options) == [1]
    shutil.rmtree(options.evidence)
    (measured,) = run_findings([good], options, on_progress=seen.append)
    assert seen == []
    assert measured.top1["network"].mean == 50.0
    assert read_evidence(options.evidence, "good") is not None


def test_a_seed_comes_before_the_next_and_its_decoded_videos_go_with_it(tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / f"made-up-{seed}" / "seed").mkdir(parents=True)
        write_seed(tmp_path / f"made-up-{seed}" / "seed" / SEED, results(seeds=1).seeds[0])

    def of_seed(lab: Lab) -> Mapping[str, Job]:
        values = {"run": str(tmp_path / f"made-up-{lab.seed}"), "kind": "uniform"}
        return {
            name: Job("lab.tasks_salience.arm", {**values, "num_clips": clips}, f"{name} {lab.seed}")
            for name, clips in {"network": 10, "probe": 1}.items()
        }

    options = Options(out=tmp_path, processes=1)
    frames = [frames_of(options.jobs, seed) for seed in (1, 2)]
    for folder in frames:
        folder.mkdir(parents=True)
    seen = dict[str, list[bool]]()

    def look(p: Progress) -> None:
        seen[p.title] = [folder.exists() for folder in frames]

    finding = dataclasses.replace(FINDING, arms=of_seed, seeds=2)
    (measured,) = run_findings([finding], options, on_progress=look)
    assert list(seen) == ["network 1", "probe 1", "network 2", "probe 2"]
    assert seen["probe 1"] == [False, True], "the next seed has its own"
    assert seen["probe 2"] == [False, False]
    assert [seed.seed for seed in measured.evidence.seeds] == [1, 2]


def test_tuning_trains_the_baseline_and_what_comes_before_arms_on_its_own_seed(tmp_path: Path) -> None:
    options, seen = Options(out=tmp_path, processes=1, precision="fp32"), list[Progress]()
    found = tune([FINDING], options, on_progress=seen.append)
    jobs = arms(Lab(seed=TUNING_SEED))
    assert list(found) == ["small"]
    assert found["small"].baseline == 100 * correct_of(jobs["network"], options.jobs).mean()
    assert found["small"].commonest == 50, "two classes, equally frequent"
    assert found["small"].parts == {}, "its labels are no pairs"
    (network,) = found["small"].pretrainings
    assert network.title == "train a network"
    assert network.entropy == pytest.approx(np.log(2), abs=1e-4)
    assert TUNING_SEED not in options.seeds_of(FINDING)
    assert not jobs["probe"].folder(options.jobs).exists()
    assert not (tmp_path / RESULTS).exists(), "nothing of it is reported"


def test_what_comes_before_an_arm() -> None:
    before = {f.name: [sorted(job.title for job in before_arm(arm)) for arm in f.arms(Lab(seed=1)).values()]
              for f in chosen(["clips-or-frames", "distinit"])}  # fmt: skip
    assert before["clips-or-frames"] == [
        [],
        ["train R2D on stills"],
        ["train R2D on frames"],
        ["train R2D on frames for longer"],
        ["train on 500 weakly labelled videos"],
    ]
    assert before["distinit"][0] == []
    assert ["train scene teacher"] in before["distinit"]
    assert ["train with labels"] in before["distinit"]
