from __future__ import annotations

import json
from pathlib import Path

from tenclip_findings.lab.jobs import Job, in_order


def job(kind: str = "a.task", **settings: object) -> Job:
    return Job(kind, settings)


def test_the_same_work_has_the_same_name_and_other_work_another() -> None:
    data = job(seed=1)
    assert job(seed=1).key == data.key
    assert job(seed=2).key != data.key
    assert job("b.task", seed=1).key != data.key
    assert job(x=data / "a").key == job(x=job(seed=1) / "a").key
    assert len({job(x=data / "a").key, job(x=data / "b").key, job(x=job(seed=2) / "a").key}) == 3


def test_titles_and_costs_name_nothing() -> None:
    assert Job("a.task", {"x": 1}, title="one", clips=5).key == Job("a.task", {"x": 1}).key


def test_settings_of_other_jobs_are_found_at_any_depth_and_become_paths() -> None:
    first, second = job(seed=1), job(seed=2)
    third = job(values={"init_from": first / "last.pt", "aux": [second / "manifest.csv", first / ""]}, epochs=3)
    assert [need.key for need in third.needs] == [first.key, second.key]
    resolved = third.resolved(Path("/root"))
    assert resolved == {
        "values": {
            "init_from": f"/root/a.task/{first.key}/last.pt",
            "aux": [f"/root/a.task/{second.key}/manifest.csv", f"/root/a.task/{first.key}"],
        },
        "epochs": 3,
    }
    json.dumps(resolved)


def test_each_job_comes_once_and_after_what_it_needs() -> None:
    data = job(seed=1)
    networks = [job("b.task", data=data / "m", rate=r) for r in (1, 2)]
    scores = [job("c.task", network=n / "w") for n in networks]
    order = [j.key for j in in_order([scores[1], *scores])]
    assert len(order) == 5
    for score, network in zip(scores, networks, strict=True):
        assert order.index(data.key) < order.index(network.key) < order.index(score.key)
