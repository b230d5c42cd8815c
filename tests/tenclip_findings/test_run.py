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
from tenclip_findings.finding import Contrast, Finding, difference
from tenclip_findings.lab.arms import LAST, Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.pool import Progress
from tenclip_findings.lab.tasks import FRAMES
from tenclip_findings.run import RESULTS, TUNING_SEED, Options, baselines, correct_of, run_findings, seeds_missing

SMALL: dict[str, Any] = {"num_classes": 2, "seconds": [0.5, 0.6], "width": 48, "height": 36, "objects": [1, 1]}


def arms(lab: Lab) -> Mapping[str, Job]:
    videos, test = lab.videos("train", total=32, **SMALL), lab.videos("test", total=40, seed=77, **SMALL)
    network = lab.train("a network", videos, clips=320)
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
    options, seen = Options(out=tmp_path, processes=1), list[Progress]()
    (measured,) = run_findings([FINDING], options, on_progress=seen.append)
    assert [p.title.split(":")[0] for p in seen[:2]] == ["train", "test"]
    assert seen[-1].done == seen[-1].total == len(seen)
    found = arms(Lab(seed=1))
    for name, spread in measured.top1.items():
        correct = correct_of(found[name], options.jobs)
        assert correct.shape == (40,)
        assert spread.mean == 100 * np.mean(correct)
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
    assert again.results[0].comparison == measured.results[0].comparison


def test_what_one_finding_has_found_is_kept_where_another_fails(tmp_path: Path) -> None:
    """A run that dies has evidence of what was done, and the next one does the rest."""
    options, told = Options(out=tmp_path, processes=1), list[tuple[str, int]]()
    bad = dataclasses.replace(FINDING, name="bad", arms=lambda lab: {"network": _impossible(lab)}, contrasts=())
    with pytest.raises(TenclipError, match="no such kind"):
        run_findings([FINDING, bad], options, on_evidence=lambda f, seed: told.append((f.name, seed)))
    assert seeds_missing(bad, options) == [1]
    if told:
        assert told == [("small", 1)]
        assert seeds_missing(FINDING, options) == []


def _impossible(lab: Lab) -> Job:
    made = next(iter(arms(lab).values()))
    return Job("lab.tasks.subset", {"manifest": made / "no such file", "kind": "random", "seed": 1}, "no such kind")


def test_tuning_trains_the_baseline_alone_on_its_own_seed(tmp_path: Path) -> None:
    options, seen = Options(out=tmp_path, processes=1), list[Progress]()
    top1 = baselines([FINDING], options, on_progress=seen.append)
    found = arms(Lab(seed=TUNING_SEED))
    assert top1 == {"small": 100 * correct_of(found["network"], options.jobs).mean()}
    assert TUNING_SEED not in options.seeds_of(FINDING)
    assert not found["probe"].folder(options.jobs).exists()
    assert not (tmp_path / RESULTS).exists(), "nothing of it is reported"
