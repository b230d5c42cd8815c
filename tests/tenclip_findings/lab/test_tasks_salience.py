"""Arms of a seed of the salience experiment become scores; the experiment itself is tested where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tenclip_findings.catalog import chosen
from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import in_order
from tenclip_findings.lab.tasks_salience import SEED, arm
from tenclip_findings.salience.results import write_seed
from tests.tenclip_findings.salience.made_up import VIDEOS, results


def test_arms_are_those_of_the_seed_and_the_trained_sampler_is_the_first(tmp_path: Path) -> None:
    (seed,) = results(seeds=1, uniform=0.5, salient=0.75).seeds
    (tmp_path / "seed").mkdir()
    write_seed(tmp_path / "seed" / SEED, seed)
    (finding,) = chosen(["salient-clips"])
    found = {}
    for name, job in finding.arms(Lab(seed=1)).items():
        folder = tmp_path / name
        folder.mkdir()
        settings = {**job.settings, "run": str(tmp_path)}
        arm(folder, **settings)
        with np.load(folder / "scores.npz") as arrays:
            found[name] = arrays["correct"]
    assert all(hits.shape == (VIDEOS,) and hits.dtype == np.bool_ for hits in found.values())
    first = seed.scorers[0].name
    assert found["3 salient"].tolist() == list(map(bool, seed.set("test").arm("salient", first, 3).correct))
    assert found["10 uniform"].mean() == pytest.approx(0.5)
    assert found["10 by motion energy"].mean() == pytest.approx(0.75)


def test_one_run_of_a_seed_gives_all_arms_and_a_smaller_scale_is_the_tiny_one() -> None:
    (finding,) = chosen(["7"])
    for scale, quick in ((1.0, False), (0.25, True)):
        jobs = in_order(finding.arms(Lab(seed=3, scale=scale)).values())
        (run,) = [j for j in jobs if j.kind == "lab.tasks_salience.seed_run"]
        assert run.settings == {"seed": 3, "quick": quick}
        assert run.seconds > 0, "it costs something"
