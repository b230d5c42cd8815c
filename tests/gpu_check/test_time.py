"""What steps do with their time: shares of it, a look at the clock before what takes long, an end of what takes longer.

The networks are the tiny ones of a dry run, on the CPU; where a GPU would take seconds, a clock of ours is put forward.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.gpu_check import context as context_module
from tests.gpu_check import step_compile, step_speed
from tests.gpu_check.context import Context
from tests.gpu_check.step_compile import CASES, OutOfTime, compile_one, time_limit
from tests.gpu_check.steps import BY_NAME
from tests.gpu_check.supervisor import GRACE_SECONDS

LARGE, SMALL = "r2plus1d_34 4x32", "r2plus1d_18 4x32"


class Clock:
    """What `Context` reads. It goes by what it is put forward, and no further."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def slow(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, seconds: float) -> list[float]:
        """Let a function of a module take so long. Returns the times at which it was called."""
        real: Callable[..., Any] = getattr(module, name)
        calls: list[float] = []

        def slowly(*arguments: Any) -> Any:
            calls.append(self.now)
            self.now += seconds
            return real(*arguments)

        monkeypatch.setattr(module, name, slowly)
        return calls


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny sizes only lose by more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(context_module, "time", SimpleNamespace(monotonic=made.monotonic, sleep=time.sleep))
    return made


def context_of(tmp_path: Path, deadline: float, reports: list[dict[str, Any]]) -> Context:
    return Context(
        folder=tmp_path,
        dry=True,
        deadline=deadline,
        report=lambda found: reports.append(copy.deepcopy(found)),
        earlier={"machine": {"ceilings": {"matmul_bf16_tflops": 1.0}}},
    )


class TestSpeed:
    def test_both_networks_have_their_share(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock.slow(monkeypatch, step_speed, "reference", 4.0)
        clock.slow(monkeypatch, step_speed, "time_one", 7.0)
        reports: list[dict[str, Any]] = []
        deadline = clock.now + BY_NAME["speed"].limit
        found = step_speed.run(context_of(tmp_path, deadline, reports))
        counts = {name: sum(row["network"] == name for row in found["rows"]) for name in (LARGE, SMALL)}
        assert counts[LARGE] > counts[SMALL] >= 4, "the best way of the smaller one at least"
        assert clock.now <= deadline + GRACE_SECONDS
        assert [text.partition(":")[0] for text in found["stopped"]] == [LARGE, SMALL]
        # Whatever ends the step, the goal is known by then.
        assert all(report["goal"]["row"]["network"] == LARGE for report in reports)
        assert len(reports) == len(found["rows"])

    def test_the_clock_is_looked_at_before_the_reference(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = clock.slow(monkeypatch, step_speed, "reference", 60.0)
        found = step_speed.run(context_of(tmp_path, clock.now + 10, []))
        assert calls == []
        assert found["rows"] == found["checks"] == []
        assert found["stopped"] == [f"{name}: time was over after nothing" for name in (LARGE, SMALL)]


class TestCompile:
    def test_the_network_with_the_goal_is_tuned_last(self) -> None:
        assert [(index, options.get("mode", "default")) for index, options in CASES] == [
            (1, "default"),
            (0, "default"),
            (1, "max-autotune"),
            (0, "max-autotune"),
        ]

    def test_no_case_begins_without_time(self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        clock.slow(monkeypatch, step_compile, "compile_one", 70.0)
        found = step_compile.run(context_of(tmp_path, clock.now + 80, []))
        assert len(found["rows"]) == 1
        assert found["stopped"] == "time was over"

    def test_what_takes_too_long_is_given_up(self, tmp_path: Path) -> None:
        context = context_of(tmp_path, float("inf"), [])
        row = compile_one(context, context.timed[1], {}, 0.001)
        assert row == {"network": SMALL, "mode": "default", "error": "not finished within 0 s"}

    def test_an_end_passes_those_who_catch_errors(self) -> None:
        def try_kernels() -> None:
            """As the compiler does, which goes on after an error."""
            for _ in range(3):
                with contextlib.suppress(Exception):
                    time.sleep(5)

        started = time.monotonic()
        with pytest.raises(OutOfTime), time_limit(0.05):
            try_kernels()
        assert time.monotonic() - started < 4
        time.sleep(1.1)  # the alarm is off
        with time_limit(float("inf")):
            pass
