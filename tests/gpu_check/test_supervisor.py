"""Steps that raise, crash and hang take nothing from the others."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest

from tests.gpu_check.failing_worker import STEPS
from tests.gpu_check.steps import BY_NAME, Step, choose
from tests.gpu_check.supervisor import Run


def test_every_end_is_told_and_the_rest_runs(tmp_path: Path) -> None:
    saved: list[dict[str, Any]] = []
    run = Run(
        folder=tmp_path,
        end=time.time() + 600,
        dry=True,
        save=lambda results: saved.append(copy.deepcopy(results)),
        say=lambda text: None,
        grace_seconds=0.5,
        worker="tests.gpu_check.failing_worker",
    )
    results = run.run(STEPS)
    assert {name: r["status"] for name, r in results.items()} == {
        "fine": "done",
        "raises": "failed",
        "crashes": "failed",
        "hangs": "killed",
        "prints": "done",
    }
    assert "RuntimeError: CUDA error: something is wrong" in results["raises"]["error"]
    assert "signal SIGSEGV" in results["crashes"]["error"]
    assert "last words" in results["crashes"]["error"]
    assert "it ran past its limit of 1 s" in results["hangs"]["error"]
    assert [results[name]["result"]["rows"] for name in ("raises", "crashes", "hangs")] == [[1], [1, 2], [1, 2, 3]]
    assert results["prints"]["result"] == "done"
    # What a step had reported was on disk before it ended.
    assert any(state.get("hangs", {}).get("status") == "running" for state in saved)
    assert saved[-1] == results


def test_what_does_not_fit_is_not_run(tmp_path: Path) -> None:
    run = Run(folder=tmp_path, end=time.time() + 5, dry=True, save=lambda r: None, say=lambda t: None)
    (result,) = run.run(choose(["speed"])).values()
    assert result["status"] == "not run"
    assert "s were left, and it needs 10" in result["error"]


def test_a_worker_that_does_not_start(tmp_path: Path) -> None:
    run = Run(
        folder=tmp_path, end=time.time() + 600, dry=True, save=lambda r: None, say=lambda t: None, worker="nothing"
    )
    results = run.run(choose(["machine", "speed"]))
    assert {r["status"] for r in results.values()} == {"failed"}
    assert "No module named nothing" in results["machine"]["error"]


def test_steps_by_name() -> None:
    assert [step.name for step in choose([])] == list(BY_NAME)
    assert [step.name for step in choose(["layers", "machine"])] == ["machine", "layers"], "in their order"
    with pytest.raises(ValueError, match="no step named fast; there are: machine, speed"):
        choose(["fast"])


def test_the_least_fit_into_eight_minutes() -> None:
    assert sum(step.least for step in choose([])) < 8 * 60 / 2
    assert all(isinstance(step, Step) and step.least < step.limit for step in choose([]))
